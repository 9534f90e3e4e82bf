"""Where a puppet's anchors lie, and the networks' square around them: cropped as `farm.face.align` crops any face.

N pictures. Picture coordinates run from -1 to 1 over the picture, x right, y down, as `render` draws them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from farm.face.align import SIDE, crop_from_frame
from trainer.puppets.parameters import COLUMN
from trainer.puppets.render import FACE_DEPTH, rotation

FRAME = 256
"""Pixels a side of the frame in which the crop is sought; only its ratio to the crop's own rounding floors matters."""

POSE = ("yaw", "pitch", "roll", "x", "y", "size")
_POSE_UNIT = (0.3, 0.2, 0.1, 0.1, 0.1, 0.1)
"""What counts as one in the pose 6-vector: radians, radians, radians, half pictures, half pictures, log scale."""


def anchors(parameters_NP: Tensor) -> Tensor:
    """Left eye, right eye and inner mouth of every picture, (N, 3, 2), image-left eye first."""
    p = {name: parameters_NP[:, column] for name, column in COLUMN.items()}
    turn_N23 = _turn(p)
    eye_x, eye_y = 0.33 * (1 + 0.13 * p["eye_spacing"]), -0.10 + 0.03 * p["eye_height"]
    gap = 0.42 * p["jaw"].clamp_min(0)
    mouth_y = 0.50 + 0.03 * p["mouth_height"] + 0.03 * p["mouth_corner"] + 0.15 * gap
    mouth_y = 0.15 + (mouth_y - 0.15) * (1 + 0.17 * p["jaw"])
    face_w, face_h = 0.74 * (1 + 0.13 * p["face_width"]), 1 + 0.09 * p["face_height"]
    points = []
    for x, y in ((-eye_x, eye_y), (eye_x, eye_y), (torch.zeros_like(eye_x), mouth_y)):
        depth = FACE_DEPTH * (1 - (x / face_w) ** 2 - (y / face_h) ** 2).clamp_min(0).sqrt()
        points.append(torch.einsum("nij,nj->ni", turn_N23, torch.stack([x, y, depth], 1)))
    scale, shift_N2 = _place(p)
    return scale[:, None, None] * torch.stack(points, 1) + shift_N2[:, None]


def picture_from_crop(parameters_NP: Tensor, run_N: NDArray[np.int32], jitter_N4: Tensor) -> Tensor:
    """(N, 2, 3): from the crop's own coordinates (-1 to 1) to picture coordinates, steadied in time within each run.

    jitter_N4: log scale, angle, x and y by which the crop misses its place, as landmarks of real videos do.
    """
    pixels = (anchors(parameters_NP).double().numpy() + 1) * (FRAME / 2) - 0.5
    crop_from_frame_N23 = crop_from_frame(pixels.astype(np.float32), run_N)
    linear = crop_from_frame_N23[:, :, :2]
    inverse = np.linalg.inv(linear)
    # Pixel p of a side S has its centre at (p + 1/2) 2 / S - 1 of [-1, 1].
    middle = (inverse @ ((SIDE - 1) / 2 - crop_from_frame_N23[:, :, 2])[:, :, None])[:, :, 0]
    shift_N2 = torch.from_numpy((middle + 0.5) * 2 / FRAME - 1).float()
    linear_N22 = torch.from_numpy(inverse * (SIDE / FRAME)).float()
    log_scale, angle, x, y = jitter_N4.unbind(1)
    cos, sin = log_scale.exp() * angle.cos(), log_scale.exp() * angle.sin()
    miss_N22 = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    moved_N2 = shift_N2 + torch.einsum("nij,nj->ni", linear_N22, torch.stack([x, y], 1))
    return torch.cat([linear_N22 @ miss_N22, moved_N2[:, :, None]], 2)


def pose_in_crop(parameters_NP: Tensor, picture_from_crop_N23: Tensor) -> Tensor:
    """The pose 6-vector POSE of the head as it stands in the crop, in units that are about one [ours]."""
    p = {name: parameters_NP[:, column] for name, column in COLUMN.items()}
    scale, shift_N2 = _place(p)
    linear_N22 = picture_from_crop_N23[:, :, :2]
    zoom = torch.linalg.det(linear_N22).sqrt()
    tilt = torch.atan2(linear_N22[:, 1, 0], linear_N22[:, 0, 0])
    centre_N2 = torch.linalg.solve(linear_N22, (shift_N2 - picture_from_crop_N23[:, :, 2])[:, :, None])[:, :, 0]
    yaw, pitch, roll = p["yaw"] * 0.6, p["pitch"] * 0.4, p["roll"] * 0.35 - tilt
    pose = torch.stack(
        [
            yaw,
            pitch,
            roll,
            centre_N2[:, 0],
            centre_N2[:, 1] + 0.25,
            (scale * (1 + 0.13 * p["eye_spacing"]) / zoom).log() + 0.1,
        ],
        1,
    )
    return pose / torch.tensor(_POSE_UNIT)


def _turn(p: dict[str, Tensor]) -> Tensor:
    """First two rows of the head's rotation, (N, 2, 3)."""
    rows = rotation(p["yaw"] * 0.6, p["pitch"] * 0.4, p["roll"] * 0.35)
    return torch.stack([torch.stack(row, 1) for row in rows[:2]], 1)


def _place(p: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    return 0.86 * (1 + 0.15 * p["scale"]), torch.stack([0.18 * p["shift_x"], 0.14 * p["shift_y"] + 0.04], 1)
