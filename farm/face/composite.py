"""Generated faces back into their frames, with no visible seam and nothing else touched."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from farm.face.planes import PlanesBatch


def paste(
    planes: PlanesBatch,
    generated_B3SS: torch.Tensor,
    crop_from_frame_B23: NDArray[np.float64],
    points_BK2: NDArray[np.float32],
    has_face_B: NDArray[np.bool_],
) -> PlanesBatch:
    """Frames with the generated squares (R'G'B' in [-1, 1]) laid over the face.

    Samples where the mask is 0, and whole frames without a face, keep their very integers. points: farm.face.points.
    """
    raise NotImplementedError
