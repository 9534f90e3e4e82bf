"""What happens between fork and exec of every child: tie its life to its parent's, and leave root behind.

Run by path, as `python -I -S launch.py PARENT_PID SIGNAL USER REACH -- COMMAND…`, in a process of its own: doing the
same in a fork of a threaded parent is not safe. Standard library only. USER is `-` to stay who we are. REACH is
`reach` to keep the one right that lets another user walk through folders such as /root, whose modes stay as they are.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2
CAP_DAC_READ_SEARCH = 2
LINUX_CAPABILITY_VERSION_3 = 0x20080522


class CapHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class CapData(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def main() -> None:
    parent, signal_number, user, reach, separator, *command = sys.argv[1:]
    if separator != "--" or not command:
        sys.exit("launch.py PARENT_PID SIGNAL USER REACH -- COMMAND…")
    linux = sys.platform == "linux"
    libc = ctypes.CDLL(None, use_errno=True)
    if user != "-":
        try:
            become(user, libc, keep_reach=linux and reach == "reach")
        except (KeyError, OSError) as error:
            sys.exit(f"cannot become {user}: {error}. Run the farm as an ordinary user instead of root")
    if linux:  # after the change of user, which clears it
        checked(libc.prctl(PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0), "prctl(PDEATHSIG)")
        if os.getppid() != int(parent):
            sys.exit("the farm ended while its child was starting")
    os.execv(command[0], command)


def become(user: str, libc: ctypes.CDLL, keep_reach: bool) -> None:
    import pwd

    entry = pwd.getpwnam(user)
    if keep_reach:
        checked(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "prctl(KEEPCAPS)")
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    if keep_reach:
        one = CapData(*[1 << CAP_DAC_READ_SEARCH] * 3)
        data = (CapData * 2)(one, CapData(0, 0, 0))
        checked(libc.capset(ctypes.byref(CapHeader(LINUX_CAPABILITY_VERSION_3, 0)), data), "capset")
        checked(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_READ_SEARCH, 0, 0), "prctl(CAP_AMBIENT)")


def checked(status: int, call: str) -> None:
    if status != 0:
        number = ctypes.get_errno()
        sys.exit(f"{call}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
