"""Where the networks' square lies in each frame, and what is seen in it.

The square is the official one [weights; PDFGC.md section 3]: eye means and inner-mouth mean are brought to
(87, 59), (137, 59), (112, 120) of a 224 px picture by a similarity; of that, rows 0:192 and columns 16:208 are scaled
to 224 px. `crop_from_frame` maps frame pixels to pixels of that final 224 px square; other sizes are scalings of it.
Pixel (0, 0) is the centre of the first sample on both sides.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from farm.face.planes import PlanesBatch
from farm.face.resample import chain, sample

SIDE = 224
"""Pixels of the square in crop coordinates."""
_TEMPLATE = np.array([[87.0, 59.0], [137.0, 59.0], [112.0, 120.0]])
ANCHORS = (_TEMPLATE - np.array([16.0, 0.0]) + 0.5) * (SIDE / 192) - 0.5
"""Where the three anchors of a face are brought to, crop pixels."""


def crop_from_frame(
    anchors_T32: NDArray[np.float32], run_T: NDArray[np.int32], frames_per_s: float = 25.0
) -> NDArray[np.float64]:
    """Similarities (T, 2, 3), least squares per frame, then steadied in time within each run.

    Frames without a face (run -1) hold the nearest frame's transform that has one, so that every transform is usable.
    """
    raise NotImplementedError


def scaled(crop_from_frame_B23: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The same square at `size` pixels a side."""
    ratio = size / SIDE
    return chain(np.array([[ratio, 0.0, ratio / 2 - 0.5], [0.0, ratio, ratio / 2 - 0.5]]), crop_from_frame_B23)


def crop(planes: PlanesBatch, crop_from_frame_B23: NDArray[np.float64], size: int) -> torch.Tensor:
    """The square of each frame as the networks want it: R'G'B' (B, 3, size, size) float32 in [-1, 1]."""
    return sample(planes, scaled(crop_from_frame_B23, size), size, size) * 2 - 1
