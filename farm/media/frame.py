"""A decoded picture as its own planes: what the source said, before any colour conversion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class PictureFormat:
    """How planes are to be read: planar Y'CbCr with chroma subsampled by 2**chroma_x, 2**chroma_y.

    width, height: luma samples of the shown (rotated) picture. bit_depth: 8 or 10 (low bits of uint16).
    matrix: "bt601", "bt709" or "bt2020". Chroma is sited left for 4:2:0 and 4:2:2, as MPEG-2 and H.264 default.
    """

    width: int
    height: int
    bit_depth: int
    chroma_x: int
    chroma_y: int
    matrix: str
    full_range: bool


@dataclass(frozen=True)
class Frame:
    """Frame `index` of a video, shown at `pts` ticks. y is (height, width); u and v are subsampled, rounded up."""

    index: int
    pts: int
    y: Plane
    u: Plane
    v: Plane
