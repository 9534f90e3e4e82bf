"""A still picture, which is a video of one frame to all that comes after planning."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

import numpy as np

from farm.media.index import NO_PTS, FrameIndex

STILL_RATE: Final = Fraction(25)
"""Frames a second of animated stills, the rate that the networks were trained at."""


def still_index() -> FrameIndex:
    """The index of its one frame."""
    return FrameIndex(
        pts=np.zeros(1, np.int64),
        end_pts=1,
        time_base=1 / STILL_RATE,
        frame_rate=STILL_RATE,
        is_vfr=False,
        raw=np.full(1, NO_PTS, np.int64),
        raw_is_dts=False,
        key=np.ones(1, bool),
        check=np.zeros(1, np.uint32),
    )
