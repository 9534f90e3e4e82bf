"""A worker whose wall clock is hours off and jumps every two seconds: `python -c MOVED_CLOCK`."""

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
