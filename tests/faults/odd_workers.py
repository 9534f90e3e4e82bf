"""Workers that are not as they should be: programs for `python -c`, and a disk that is too small."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Final

MOVED_CLOCK: Final = """
import time
wall, start = time.time, time.monotonic()
time.time = lambda: wall() + 3 * 3600 * (-1) ** int((time.monotonic() - start) / 2)
time.time_ns = lambda: int(time.time() * 1e9)
import sys
sys.argv = ["workers"]
from workers.__main__ import main
main()
"""
"""The wall clock is hours off and jumps every two seconds."""

ROTTEN: Final = """
from workers.engine import Engine
def run(*_, **__):
    raise RuntimeError("rotten")
Engine.run = run
import sys
sys.argv = ["workers"]
from workers.__main__ import main
main()
"""
"""Whatever it is given fails, and at once."""


def mount_small_disk(stack: ExitStack, folder: Path, size_bytes: int) -> bool:
    """Put a disk of so many bytes at `folder` until `stack` ends; False where that is not ours to do."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        return False
    stack.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
    return True
