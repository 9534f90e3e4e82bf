"""How a decoded picture is turned to be shown: the eight ways of the display matrix, on planes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from numpy.typing import NDArray


@dataclass(frozen=True)
class Turn:
    """First swap the axes where `transpose`, then flip left to right, then top to bottom."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def rotation(self) -> int:
        """Clockwise degrees, before a mirroring (`mirrored`) if there is one."""
        if self.transpose:
            return 270 if self.flip_y else 90
        return 180 if self.flip_y else 0

    @property
    def mirrored(self) -> bool:
        """Whether left and right are swapped after the rotation (display matrices of front cameras)."""
        return (self.transpose + self.flip_x + self.flip_y) % 2 == 1

    def __call__(self, plane: NDArray[Any]) -> NDArray[Any]:
        """The plane as shown, contiguous."""
        if self.transpose:
            plane = plane.T
        return np.ascontiguousarray(plane[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1])


def of_frame(frame: VideoFrame) -> Turn:
    """The turn that a decoded frame asks for; angles between the right ones go to the nearest."""
    try:
        side = cast(Any, frame.side_data).get(Type.DISPLAYMATRIX)
    except ValueError:
        # PyAV cannot list side data it has no name for (EXIF of pictures); the angle it still tells. A mirrored EXIF
        # orientation is then shown unmirrored.
        return _by_angle(-frame.rotation)
    if side is None:
        return Turn()
    a, b, _, c, d, *_ = np.frombuffer(bytes(side), np.int32).astype(np.int64).tolist()
    # A pixel at (x, y) is shown at (a x + c y, b x + d y), y downwards.
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Turn(False, flip_x=a < 0, flip_y=d < 0)
    return Turn(True, flip_x=c < 0, flip_y=b < 0)


def _by_angle(clockwise: float) -> Turn:
    quarter = round(clockwise / 90) % 4
    return (Turn(), Turn(True, flip_x=True), Turn(False, True, True), Turn(True, flip_y=True))[quarter]
