"""How a decoded picture is turned to be shown: the eight ways of the display matrix, on planes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

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


# Pictures of these codecs may come with side data that has a name of its own (colour profiles). PyAV 18.1 frees that
# name twice as soon as `side_data` is looked at, and the process dies; the angle alone is safe to ask for.
NAMED_SIDE_DATA: Final = frozenset({"png", "mjpeg", "webp", "bmp", "prores", "ffv1", "qtrle"})
EXIF_WITHIN: Final = 256 * 1024
ORIENTATIONS: Final = {
    2: Turn(flip_x=True),
    3: Turn(flip_x=True, flip_y=True),
    4: Turn(flip_y=True),
    5: Turn(transpose=True),
    6: Turn(transpose=True, flip_x=True),
    7: Turn(transpose=True, flip_x=True, flip_y=True),
    8: Turn(transpose=True, flip_y=True),
}


def of_frame(frame: VideoFrame, codec: str) -> Turn:
    """The turn that a decoded frame of a video asks for; angles between the right ones go to the nearest."""
    if codec in NAMED_SIDE_DATA:
        return _by_angle(-frame.rotation)
    try:
        side = cast(Any, frame.side_data).get(Type.DISPLAYMATRIX)
    except ValueError:  # a kind of side data that PyAV has no name for
        return _by_angle(-frame.rotation)
    if side is None:
        return Turn()
    a, b, _, c, d, *_ = np.frombuffer(bytes(side), np.int32).astype(np.int64).tolist()
    # A pixel at (x, y) is shown at (a x + c y, b x + d y), y downwards.
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Turn(False, flip_x=a < 0, flip_y=d < 0)
    return Turn(True, flip_x=c < 0, flip_y=b < 0)


def of_picture(path: Path) -> Turn:
    """The turn that the EXIF orientation of a picture file asks for."""
    with path.open("rb") as file:
        head = file.read(EXIF_WITHIN)
        file.seek(max(0, path.stat().st_size - EXIF_WITHIN))
        tail = file.read()  # where WebP and some PNG writers put it
    for part in (head, tail):
        for mark in (b"Exif\0\0", b"eXIf", b"EXIF"):
            at = part.find(mark)
            # A chunk's length may stand between its name and the TIFF header.
            for start in range(at + len(mark), at + len(mark) + 11) if at >= 0 else ():
                if part[start : start + 4] in (b"II*\0", b"MM\0*"):
                    return ORIENTATIONS.get(_orientation(part[start:]), Turn())
    return Turn()


def _orientation(tiff: bytes) -> int:
    """Tag 0x0112 of the first directory (TIFF 6.0); 1 where there is none."""
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (at,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, at)
        for entry in range(at + 2, at + 2 + 12 * min(count, 200), 12):
            tag, value = struct.unpack_from(order + "H6xH", tiff, entry)
            if tag == 0x0112:
                return value
    except struct.error:
        pass
    return 1


def _by_angle(clockwise: float) -> Turn:
    quarter = round(clockwise / 90) % 4
    return (Turn(), Turn(True, flip_x=True), Turn(False, True, True), Turn(True, flip_y=True))[quarter]
