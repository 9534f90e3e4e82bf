"""Starting, finding and ending the farm's child processes."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from farm.errors import Transient

LAUNCH = Path(__file__).with_name("launch.py")
UNPRIVILEGED = "nobody"
"""Who Postgres and Valkey are when the farm itself is root: Postgres refuses root, and neither needs it."""


def spawn(
    command: Sequence[str | Path],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    death_signal: int = signal.SIGKILL,
    as_user: str | None = None,
    reach: Sequence[Path] = (),
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own (a terminal's Ctrl-C reaches only the farm), output appended to `log`.

    `death_signal` reaches it when the farm dies, even by SIGKILL (Linux). `as_user` changes the user, who must then be
    able to reach the paths in `reach`. pass_fds: open files that it gets under the same numbers.
    """
    needs = "reach" if as_user and not all(_others_reach(path) for path in reach) else "-"
    launcher = [
        sys.executable,
        "-I",
        "-S",
        LAUNCH,
        str(os.getpid()),
        str(int(death_signal)),
        as_user or "-",
        needs,
        "--",
    ]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*map(str, launcher), *map(str, command)],
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env) if env is not None else None,
            cwd=cwd,
            start_new_session=True,
            pass_fds=pass_fds,
        )
    if stdin is not None and process.stdin is not None:
        with process.stdin as pipe:
            pipe.write(stdin)
    return process


def unprivileged() -> str | None:
    """The user that services run as; None: our own, because we are not root."""
    return UNPRIVILEGED if os.geteuid() == 0 else None


def own(path: Path, user: str | None) -> None:
    """Give one file or folder to `user`."""
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def _others_reach(path: Path) -> bool:
    """Whether a user who is nobody in particular may walk to `path`."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.resolve().parents)


def end(
    process: subprocess.Popen[bytes], steps: Sequence[tuple[int, float]], hasten: threading.Event | None = None
) -> None:
    """Send each signal in turn and give the child its seconds to go (none once `hasten` is set); SIGKILL comes last."""
    for number, seconds in (*steps, (signal.SIGKILL, 30.0)):
        if process.poll() is not None:
            return
        process.send_signal(number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not (hasten and hasten.is_set() and number != signal.SIGKILL):
            if process.poll() is not None:
                return
            time.sleep(0.02)


def command_line(pid: int) -> str:
    """What process `pid` runs; empty when there is none."""
    proc = Path(f"/proc/{pid}/cmdline")
    if proc.parent.parent.joinpath("self").exists():
        try:
            return proc.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    found = subprocess.run(["ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def end_leftover(pid: int, marks: Sequence[str], steps: Sequence[tuple[int, float]]) -> None:
    """End a process of an earlier farm that crashed, if `pid` still is it: its command line holds all marks."""
    for number, seconds in (*steps, (signal.SIGKILL, 10.0)):
        line = command_line(pid)
        if not line or not all(mark in line for mark in marks):
            return
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and command_line(pid):
            time.sleep(0.05)


def free_port() -> int:
    """A loopback TCP port that nobody listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log, for an error message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16384))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def not_started(what: str, log: Path) -> Transient:
    return Transient("service_not_started", f"{what} did not start. The end of {log}:\n{tail(log)}")
