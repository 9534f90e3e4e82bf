"""Where the jaw of a generated face lies: the mask holds the source's and this one, whichever is the lower."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from farm.face.align import FACE, SIDE
from farm.face.landmarks import see
from farm.face.nets import FaceNets
from farm.face.pictures import TensorPictures
from farm.face.points import JAW, KEPT

_PRESENT = 0.5
_POINTS = [KEPT[point] for point in JAW]


def jaw(nets: FaceNets, generated_B3SS: Tensor) -> Tensor:
    """Points of the jaw (B, J, 2) of generated squares (R'G'B' in [-1, 1]), crop pixels; NaN where no face is seen.

    One look of the mesh network at each square whole.
    """
    scale = generated_B3SS.shape[-1] / SIDE
    x, y, side = FACE
    square = [(x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5, side * scale, 0.0]
    pictures = TensorPictures((generated_B3SS.float() * 0.5 + 0.5).clamp(0, 1))
    batch = len(generated_B3SS)
    points, score, _ = see(nets, pictures, range(batch), np.tile(square, (batch, 1)), iris=False)
    in_crop = (points[:, _POINTS, :2] + 0.5) / scale - 0.5
    return torch.where((score >= _PRESENT)[:, None, None], in_crop, torch.nan)
