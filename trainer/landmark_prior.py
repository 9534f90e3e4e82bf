"""The prior that is always there: the farm's own face mesh and iris networks read pose, gaze, lids, mouth and brows.

What is read follows the puppets' FACTORS, in their order and about in their units, so that it can stand in where true
factors do not exist. Mesh points are first turned back into the head's own frame (x to the picture's right, y down the
face), and measured in eye distances. The crop has put the face where the mesh network wants it: nothing is searched.

B pictures, S their side, P points.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from farm.face.align import FACE, SIDE
from farm.face.landmarks import see, squares_about
from farm.face.nets import FaceNets
from farm.face.pictures import TensorPictures
from trainer.corpus import FACTORS
from trainer.priors import PriorCard

_YAW_GAIN: Final = 1.2  # the mesh flattens depth: farm.face.landmarks
_ACROSS: Final = ((454, 234), (263, 33), (362, 133))
"""Pairs of points, right and left of the picture, that neither speech nor mood moves."""
_BELOW, _BEHIND = 0.2, 1.2
"""The middle of the head from the middle of the eyes, in eye distances."""
_BROW, _NOSE_BASE = (10, 151, 9), (2, 98, 327)
_EYES: Final = {  # outer and inner corner as (left, right of the picture), upper lid, lower lid, iris, brow
    "left": ((33, 133), (160, 159, 158), (144, 145, 153), 468, (105, 66)),
    "right": ((362, 263), (385, 386, 387), (373, 374, 380), 473, (334, 296)),
}
_SCALE: Final = {  # value at rest, and how much of the measure is one unit of the factor
    "jaw": (0.03, 0.55),
    "lip_width": (0.80, 0.25),
    "pucker": (0.42, 0.40),
    "yaw": (0.0, 0.3),
    "pitch": (0.0, 0.2),
    "roll": (0.0, 0.1),
    "x": (0.0, 0.1),
    "y": (-0.12, 0.1),
    "size": (-0.52, 0.1),
    "gaze_x": (0.0, 0.16),
    "gaze_y": (-0.04, 0.13),
    "blink": (-0.33, 0.33),
    "brow_raise": (0.42, 0.12),
    "furrow": (-0.36, 0.08),
    "mouth_corner": (0.0, 0.15),
    "lid": (-0.13, 0.10),
}


class LandmarkPrior:
    """Pictures that the farm has cropped -> the 16 factors, differentiable in the picture (not in where it looks)."""

    card = PriorCard("landmarks", "Apache-2.0 (MediaPipe's face mesh and iris)", "in the farm: farm/face/weights")

    def __init__(self, device: torch.device | str = "cpu", *, looks: int = 1) -> None:
        """looks: a second one, from where the first found the face, is steadier and takes twice as long."""
        self._nets = FaceNets(device)
        self._looks = looks

    def to(self, device: torch.device, /) -> None:
        self._nets = FaceNets(device)

    def features(self, x_B3SS: Tensor) -> tuple[Tensor, ...]:
        """phi of Eq. 1 and the gaze of Eq. 8: factors_BF."""
        return (self.read(x_B3SS)[0],)

    def __call__(self, x_B3SS: Tensor) -> Tensor:
        return self.read(x_B3SS)[0]

    def read(self, x_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        """factors_BF in FACTORS' order, and score_B in 0..1: how surely there is a face. Pictures are in [-1, 1]."""
        points, score = self.points(x_B3SS)
        return measure(points), score

    def points(self, x_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        """points_BP3 of mesh and irises, pixels of a crop of 224, and score_B."""
        size = x_B3SS.shape[-1]
        pictures = TensorPictures((x_B3SS.float() + 1) / 2)
        index = range(len(x_B3SS))
        squares = self._face(len(x_B3SS), size)
        for _ in range(self._looks - 1):
            with torch.no_grad():
                found, _, _ = see(self._nets, pictures, index, squares, iris=False)
            squares = squares_about(found.cpu().numpy())
        points, score, _ = see(self._nets, pictures, index, squares)
        to_crop = points.new_tensor([SIDE / size, SIDE / size, SIDE / size])
        return (points + points.new_tensor([0.5, 0.5, 0.0])) * to_crop - points.new_tensor([0.5, 0.5, 0.0]), score

    @staticmethod
    def _face(count: int, size: int) -> NDArray[np.float64]:
        x, y, side = FACE
        ratio = size / SIDE
        square = [(x + 0.5) * ratio - 0.5, (y + 0.5) * ratio - 0.5, side * ratio, 0.0]
        return np.tile(np.array([square]), (count, 1))


def measure(points_BP3: Tensor) -> Tensor:
    """factors_BF from the 478 points (pixels of a crop of 224; z in the same unit, nearer is smaller)."""
    p = points_BP3
    across = torch.stack([p[:, right] - p[:, left] for right, left in _ACROSS], 1)
    right = F.normalize(across.sum(1), dim=1)
    down = p[:, _NOSE_BASE].mean(1) - p[:, _BROW].mean(1)
    down = F.normalize(down - (down * right).sum(1, keepdim=True) * right, dim=1)
    into = torch.linalg.cross(right, down, dim=1)
    head_B33 = torch.stack([right, down, into], 1)  # rows: the head's axes in the picture

    corners = {side: p[:, corner].mean(1) for side, (corner, *_) in _EYES.items()}
    apart = (corners["right"] - corners["left"]).norm(dim=1).clamp_min(1e-3)
    middle = (corners["left"] + corners["right"]) / 2
    # Eyes and mouth are held in place by the crop: what moves with the head is its middle, behind the face.
    centre = middle + apart[:, None] * (_BELOW * down + _BEHIND * into)
    q = torch.einsum("bij,bpj->bpi", head_B33, p - middle[:, None]) / apart[:, None, None]

    values = {
        "yaw": _YAW_GAIN * torch.atan2(right[:, 2], right[:, :2].norm(dim=1)),
        "pitch": torch.atan2(-down[:, 2], down[:, :2].norm(dim=1)),
        "roll": torch.atan2(right[:, 1], right[:, 0]),
        "x": (centre[:, 0] + 0.5) * 2 / SIDE - 1,
        "y": (centre[:, 1] + 0.5) * 2 / SIDE - 1,
        "size": (apart * 2 / SIDE).log(),
        **_mouth(q),
        **_eyes(q),
    }
    read = [(values[name] - _SCALE[name][0]) / _SCALE[name][1] for name in FACTORS]
    return torch.stack(read, 1)


def _mouth(q: Tensor) -> dict[str, Tensor]:
    left, right, top, low = q[:, 61], q[:, 291], q[:, 13], q[:, 14]
    width = (right - left)[:, :2].norm(dim=1).clamp_min(1e-3)
    lips = (top - q[:, 0])[:, 1] + (q[:, 17] - low)[:, 1]
    return {
        "jaw": (low - top)[:, :2].norm(dim=1),
        "lip_width": width,
        "pucker": lips / width,
        "mouth_corner": ((top + low) / 2 - (left + right) / 2)[:, 1],
    }


def _eyes(q: Tensor) -> dict[str, Tensor]:
    """Means over both eyes."""
    parts: dict[str, list[Tensor]] = {name: [] for name in ("gaze_x", "gaze_y", "blink", "lid", "brow_raise")}
    for (a, b), upper, lower, iris, brow in _EYES.values():
        along = (q[:, b] - q[:, a])[:, :2]
        width = along.norm(dim=1, keepdim=True).clamp_min(1e-3)
        along = along / width
        down = torch.stack([-along[:, 1], along[:, 0]], 1)
        middle = (q[:, a] + q[:, b])[:, :2] / 2

        def below(
            points: tuple[int, ...], middle: Tensor = middle, down: Tensor = down, width: Tensor = width
        ) -> Tensor:
            return ((q[:, points, :2].mean(1) - middle) * down).sum(1) / width[:, 0]

        aim = q[:, iris, :2] - middle
        parts["gaze_x"].append((aim * along).sum(1) / width[:, 0])
        parts["gaze_y"].append((aim * down).sum(1) / width[:, 0])
        parts["blink"].append(below(upper) - below(lower))
        parts["lid"].append(-below(lower))
        parts["brow_raise"].append(-(q[:, brow, 1].mean(1) - middle[:, 1]))
    values = {name: torch.stack(of_eye).mean(0) for name, of_eye in parts.items()}
    values["furrow"] = -(q[:, (336, 285), 0].mean(1) - q[:, (107, 55), 0].mean(1))
    return values
