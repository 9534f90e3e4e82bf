"""The parameters of a puppet picture: one named column each, most in [-1, 1], grouped by factor."""

from __future__ import annotations

from typing import Final

import torch

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "identity": (
        "face_width", "face_height", "taper", "skin_light", "skin_hue", "hair_hue", "hair_light", "hair_length",
        "hairline", "eye_spacing", "eye_size", "eye_height", "iris_hue", "brow_thickness", "nose_width", "nose_length",
        "mouth_width", "lip_thickness", "lip_hue", "beard", "mouth_height", "brow_arch",
    ),
    "lip": ("jaw", "lip_width", "pucker"),  # jaw and pucker in [0, 1]
    "pose": ("yaw", "pitch", "roll", "shift_x", "shift_y", "scale"),
    "gaze": ("gaze_x", "gaze_y"),
    "blink": ("blink",),  # 0 open, 1 closed
    "expression": ("brow_raise", "furrow", "mouth_corner", "lid"),
    "nuisance": (
        "light_x", "light_y", "ambient", "back_red", "back_green", "back_blue", "back_slope", "shirt_hue",
        "shirt_light",
    ),
}  # fmt: skip
NAMES: Final[tuple[str, ...]] = tuple(name for names in GROUPS.values() for name in names)
COLUMN: Final[dict[str, int]] = {name: column for column, name in enumerate(NAMES)}


def columns(group: str) -> list[int]:
    """Columns of one group of factors."""
    return [COLUMN[name] for name in GROUPS[group]]


def neutral(count: int = 1) -> torch.Tensor:
    """`count` resting puppets of the middle identity, parameters (count, len(NAMES))."""
    rest = torch.zeros(count, len(NAMES))
    rest[:, COLUMN["jaw"]] = 0.05
    return rest


def identity(seed: int) -> torch.Tensor:
    """A puppet's identity and clothes, drawn from `seed`: a resting row (len(NAMES),)."""
    dice = torch.Generator().manual_seed(seed)
    row = neutral()[0]
    for group in ("identity", "nuisance"):
        row[columns(group)] = torch.rand(len(GROUPS[group]), generator=dice) * 2 - 1
    return row
