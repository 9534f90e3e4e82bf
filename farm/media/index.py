"""The index of a video: when each frame that really decodes is shown, and where decoding can start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """Frames 0..T-1 in the order shown. Made by a full decode, so that a frame in it is a frame that decodes.

    pts_T: int64 ticks of `time_base`, pts[0] = 0, strictly increasing; the picture ends at `end_pts`. Where a steady
    rate was only rounded to a coarse clock (29.97 in milliseconds), pts are the steady ones again.
    raw_T: int64 timestamps in the stream's own clock (`NO_PTS` where it has none), to recognise decoded frames by.
    key_T: bool, decoding can start here. check_T: uint32, CRC-32 of a part of the luma as decoded, so that decoding
    from a key frame is known to give the very frame that the scan saw.
    frame_rate: frames a second, exact: the steady rate, or the average when `is_vfr`.
    """

    pts: NDArray[np.int64]
    end_pts: int
    time_base: Fraction
    frame_rate: Fraction
    is_vfr: bool
    raw: NDArray[np.int64]
    key: NDArray[np.bool_]
    check: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def duration_s(self) -> Fraction:
        return self.end_pts * self.time_base

    def arrays(self, prefix: str = "") -> dict[str, NDArray]:
        """All of it as arrays for a npz file, names starting with `prefix`."""
        raise NotImplementedError

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray], prefix: str = "") -> FrameIndex:
        """The inverse of `arrays`; other names in the mapping are left alone."""
        raise NotImplementedError
