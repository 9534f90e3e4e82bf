"""Locks the process that calls it into what one file needs: for readers of users' media, which may be hostile.

Standard library only, and runnable as `python -I -S confine.py FENCE-AS-JSON COMMAND…`: it confines itself and becomes
the command. Each lock is inherited by all children and can never be opened again:
- Landlock (Linux >= 5.13): no file but those named, no signal to a process outside, no TCP;
- seccomp: no new sockets at all, no tracing or reading of other processes, no mounts, modules, keys, io_uring;
- resource limits: memory, CPU time, size of written files, open files, no core dumps.
Where the kernel has none of the first two (macOS, old Linux, some containers) the limits alone hold: `confine` says so.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import struct
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 1, 38, 22
SIGKILL = 9
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE, IOCTL_DEV = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
NO_TCP = 0b11
NO_SIGNALS_NO_SOCKETS = 0b11

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
DENIED = {
    # socket connect bind listen accept accept4 | ptrace process_vm_readv/writev kcmp pidfd_getfd | bpf perf_event_open
    # userfaultfd io_uring_* | add_key request_key keyctl | mount umount2 pivot_root chroot open_tree move_mount fsopen
    # fsconfig fsmount fspick mount_setattr unshare setns open_by_handle_at | modules, kexec, reboot, swap, acct, clock
    "x86_64": (41, 42, 49, 50, 43, 288, 101, 310, 311, 312, 438, 321, 298, 323, 425, 426, 427, 248, 249, 250, 165, 166,
               155, 161, 428, 429, 430, 431, 432, 433, 442, 272, 308, 304, 175, 313, 176, 246, 169, 167, 163, 164, 227),
    "aarch64": (198, 203, 200, 201, 202, 242, 117, 270, 271, 272, 438, 280, 241, 282, 425, 426, 427, 217, 218, 219, 40,
                39, 41, 51, 428, 429, 430, 431, 432, 433, 442, 97, 268, 265, 105, 273, 106, 104, 142, 224, 89, 170,
                112),
}  # fmt: skip
TRY = "--try"
X32 = 0x4000_0000  # x86_64 answers to a second set of numbers from here on
LOAD, JUMP_EQUAL, JUMP_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, REFUSE = 0x7FFF_0000, 0x0005_0000 | 13  # EACCES


@dataclass(frozen=True)
class Fence:
    """What is let through. reads: files, and folders with all below. runs: the same, and programs there may run.
    writes: folders where files may be made. memory_bytes: of data; cpu_s: of CPU; file_bytes: of any file written."""

    reads: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    memory_bytes: int | None = None
    cpu_s: int | None = None
    file_bytes: int | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def confine(fence: Fence) -> tuple[str, ...]:
    """Confine this process for good; which locks hold, of "limits", "landlock" and "seccomp".

    To be called where there is one thread only: threads that run already are not confined.
    """
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_FSIZE, fence.file_bytes),
        (resource.RLIMIT_DATA, fence.memory_bytes),
        (resource.RLIMIT_CPU, fence.cpu_s),
    ):
        if most is not None:
            # CPU time may be renewed by whoever has got further: its hard limit stays.
            hard = resource.getrlimit(what)[1]
            soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(what, (soft, hard if what == resource.RLIMIT_CPU else soft))
    held = ["limits"]
    if sys.platform != "linux":
        return tuple(held)
    die_with_parent()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        held += ["landlock"] * _landlock(libc, fence) + ["seccomp"] * _seccomp(libc)
    return tuple(held)


def die_with_parent() -> None:
    """Be killed when the parent ends (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)


def _landlock(libc: ctypes.CDLL, fence: Fence) -> bool:
    abi = libc.syscall(ctypes.c_long(CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if abi < 1:
        return False
    handled = ALL_BY_ABI[min(abi, 5)]
    attributes = struct.pack("=QQQ", handled, NO_TCP if abi >= 4 else 0, NO_SIGNALS_NO_SOCKETS if abi >= 6 else 0)
    attributes = attributes[: 8 if abi < 4 else 16 if abi < 6 else 24]
    rules = libc.syscall(
        ctypes.c_long(CREATE_RULESET), attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)
    )
    if rules < 0:
        return False
    try:
        for paths, access in (
            (fence.reads, READ_FILE | READ_DIR),
            (fence.runs, READ_FILE | READ_DIR | EXECUTE),
            (fence.writes, handled & ~(EXECUTE | IOCTL_DEV)),
            ((os.devnull,), READ_FILE | WRITE_FILE),
            (("/dev/urandom",), READ_FILE),
        ):
            for path in paths:
                if os.path.exists(path):
                    _allow(libc, rules, path, access & handled)
        return libc.syscall(ctypes.c_long(RESTRICT_SELF), ctypes.c_int(rules), ctypes.c_uint32(0)) == 0
    finally:
        os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: str, access: int) -> None:
    at = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", access if os.path.isdir(path) else access & ON_FILES, at)
        if libc.syscall(ctypes.c_long(ADD_RULE), ctypes.c_int(rules), ctypes.c_int(1), rule, ctypes.c_uint32(0)) != 0:
            raise OSError(ctypes.get_errno(), f"landlock: {path}")
    finally:
        os.close(at)


def _seccomp(libc: ctypes.CDLL) -> bool:
    machine = platform.machine()
    if machine not in DENIED:
        return False
    denied = DENIED[machine]
    steps = [
        (LOAD, 0, 0, 4),  # the architecture
        (JUMP_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (RETURN, 0, 0, REFUSE),
        (LOAD, 0, 0, 0),  # the number of the call
        (JUMP_AT_LEAST, len(denied) + 1, 0, X32),
        *((JUMP_EQUAL, len(denied) - k, 0, number) for k, number in enumerate(denied)),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE),
    ]
    program = b"".join(struct.pack("=HBBI", *step) for step in steps)
    held = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(steps), ctypes.addressof(held))
    return libc.prctl(PR_SET_SECCOMP, 2, header, 0, 0) == 0


def libraries() -> tuple[str, ...]:
    """Folders that a program needs to start and Python to import, on this machine."""
    folders = [
        sys.prefix,
        sys.base_prefix,
        sys.exec_prefix,
        "/usr/lib",
        "/usr/lib64",
        "/usr/local/lib",
        "/lib",
        "/lib64",
    ]
    return tuple(dict.fromkeys(os.path.realpath(folder) for folder in folders if os.path.isdir(folder)))


def command(fence: Fence, argv: list[str]) -> list[str]:
    """`argv` behind this file, which confines itself before it becomes the command."""
    return [sys.executable, "-I", "-S", str(Path(__file__)), fence.to_json(), *argv]


LOCKS = ("limits", "landlock", "seccomp")


def missing() -> tuple[str, ...]:
    """The locks that this machine cannot close, as a process of its own finds out by trying."""
    tried = subprocess.run(
        [sys.executable, "-I", "-S", str(Path(__file__)), TRY], capture_output=True, text=True, timeout=60, check=True
    )
    return tuple(lock for lock in LOCKS if lock not in json.loads(tried.stdout))


def main() -> None:
    told, *argv = sys.argv[1:]
    if told == TRY:
        print(json.dumps(confine(Fence())))
        return
    made: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(told).items()}
    confine(Fence(**made))
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main()
