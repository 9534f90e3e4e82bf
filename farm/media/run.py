"""Runs the ffmpeg command where it is the better tool: own folder, no input, a time limit, and its words kept short."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import tempfile
from collections import deque
from pathlib import Path
from threading import Thread
from typing import IO, Any, Final

import imageio_ffmpeg

from farm.errors import Transient

MEMORY: Final = 4 * 2**30
TAIL: Final = 20
GLOBALS: Final = ("-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", "-y")


class FfmpegFailed(Exception):
    """ffmpeg ended with an error; the last lines it wrote say why."""


def ffmpeg(spec: Any, limit_s: float) -> None:
    """Run an ffmpeg-python `spec` to its end.

    We start the compiled command ourselves: ffmpeg-python's own `run` can deadlock on a full pipe. Raises FfmpegFailed;
    Transient media_tool_timeout after `limit_s`.
    """
    argv = spec.compile(cmd=[imageio_ffmpeg.get_ffmpeg_exe(), *GLOBALS])
    with tempfile.TemporaryDirectory(prefix="ffmpeg-") as folder:
        child = subprocess.Popen(
            argv,
            cwd=folder,
            env={"HOME": folder, "TMPDIR": folder, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert child.stderr is not None
        said: deque[str] = deque(maxlen=TAIL)
        reader = Thread(target=_drain, args=(child.stderr, said), daemon=True)
        reader.start()
        try:
            _limit(child.pid, limit_s)
            code = child.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise Transient("media_tool_timeout", f"ffmpeg was still at work after {limit_s:g} s") from None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            reader.join()
            child.stderr.close()
    if code:
        raise FfmpegFailed("; ".join(said) or f"ffmpeg ended with {code}")


def _drain(stderr: IO[bytes], said: deque[str]) -> None:
    for line in iter(lambda: stderr.readline(4096), b""):
        said.append(line.decode("utf-8", "replace").strip())


def _limit(pid: int, limit_s: float) -> None:
    """Limits from outside: code between fork and exec is not safe in a process with threads. Linux only."""
    if not hasattr(resource, "prlimit"):
        return
    seconds = int(limit_s) * (os.cpu_count() or 1) + 1
    for what, value in (
        (resource.RLIMIT_DATA, MEMORY),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        try:
            resource.prlimit(pid, what, (value, value))
        except (ProcessLookupError, PermissionError):
            return


def url(path: Path) -> str:
    """A path as ffmpeg cannot take it for anything else."""
    return f"file:{path.resolve()}"
