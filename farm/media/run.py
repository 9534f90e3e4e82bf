"""Runs the ffmpeg command where it is the better tool: confined, no input, a time limit, and its words kept short."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import IO, Any, Final

import imageio_ffmpeg

from farm import machine
from farm.errors import Transient
from farm.media import confine
from farm.media.confine import Fence

MEMORY: Final = 4 * 2**30
TAIL: Final = 20
GLOBALS: Final = ("-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", "-y")


class FfmpegFailed(Exception):
    """ffmpeg ended with an error; the last lines it wrote say why."""


def program() -> str:
    """The ffmpeg that is run."""
    return imageio_ffmpeg.get_ffmpeg_exe()


def ffmpeg(spec: Any, limit_s: float, reads: Sequence[Path], dest: Path, dest_bytes: int | None = None) -> None:
    """Run an ffmpeg-python `spec` to its end, confined to reading `reads` and to writing in the folder of `dest`.

    We start the compiled command ourselves: ffmpeg-python's own `run` can deadlock on a full pipe. dest_bytes: the
    most that it may write. Raises FfmpegFailed; Transient media_tool_timeout after `limit_s`.
    """
    argv = spec.compile(cmd=[program(), *GLOBALS])
    with tempfile.TemporaryDirectory(prefix="ffmpeg-", dir=dest.parent) as folder:
        fence = Fence(
            reads=tuple(str(path.resolve()) for path in reads),
            runs=(os.path.realpath(program()), *confine.libraries()),
            writes=(str(dest.parent.resolve()),),
            memory_bytes=MEMORY,
            cpu_s=int(limit_s) * machine.cores() + 1,
            file_bytes=dest_bytes,
        )
        child = subprocess.Popen(
            confine.command(fence, argv),
            cwd=folder,
            env={"HOME": folder, "TMPDIR": folder, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert child.stderr is not None
        said: deque[str] = deque(maxlen=TAIL)
        reader = Thread(target=_drain, args=(child.stderr, said), daemon=True)
        reader.start()
        try:
            code = child.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise Transient("media_tool_timeout", f"ffmpeg was still at work after {limit_s:g} s") from None
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
            reader.join()
            child.stderr.close()
    if code:
        raise FfmpegFailed("; ".join(said) or f"ffmpeg ended with {code}")


def _drain(stderr: IO[bytes], said: deque[str]) -> None:
    for line in iter(lambda: stderr.readline(4096), b""):
        said.append(line.decode("utf-8", "replace").strip())


def url(path: Path) -> str:
    """A path as ffmpeg cannot take it for anything else."""
    return f"file:{path.resolve()}"
