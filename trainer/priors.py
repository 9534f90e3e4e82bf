"""Networks that look at pictures for the losses: phi and psi of Eq. 1 and 8, VGG19 of Eq. 7, gaze.

A prior is anything with `features`, differentiable in the picture. Small ones, trained on puppets, are always there;
the ones of the paper are files that the user brings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.corpus import FACTOR_GROUPS, FACTORS
from trainer.losses import box


class PriorMissing(RuntimeError):
    """A prior's file is not there, or is not what it should be."""


@dataclass(frozen=True)
class PriorCard:
    """What a prior is and what may be done with it."""

    name: str
    licence: str
    where: str


class Prior(Protocol):
    card: PriorCard

    def features(self, x_B3SS: Tensor) -> tuple[Tensor, ...]:
        """Features of pictures in [-1, 1]."""
        ...

    def to(self, device: torch.device, /) -> object:
        """Move there, in place."""
        ...


READ_SIDE: Final = 64


class ReadOut(nn.Module):
    """Reads the true factors off a crop: the whole face small for the pose, and the boxes of eyes and mouth, which
    the crop has already put in place, for what is small. Trained on puppets: `readout` is the first stage."""

    card = PriorCard("puppet read-out", "Apache-2.0", "trained on puppets by this recipe")

    def __init__(self, width: int = 16, hidden: int = 128) -> None:
        super().__init__()
        self.face = _Tower((width, 2 * width, 3 * width, 4 * width), (2, 1, 2, 2), (READ_SIDE, READ_SIDE))
        self.eyes = _Tower((width, 2 * width, 3 * width), (1, 2, 2), _size("eyes"))
        self.mouth = _Tower((width, 2 * width, 3 * width), (1, 2, 2), _size("mouth"))
        pose = len(FACTOR_GROUPS["pose"])
        self.to_pose = _head(self.face.features, hidden, pose)
        self.to_eyes = _head(self.eyes.features + pose, hidden, 6)
        self.to_mouth = _head(self.mouth.features + pose, hidden, 4)

    def forward(self, x_B3SS: Tensor) -> Tensor:
        """factors_BF in units of their standard deviation around their mean, in FACTORS' order."""
        return self.read(x_B3SS)[0]

    def features(self, x_B3SS: Tensor) -> tuple[Tensor, ...]:
        """phi and psi in one: what is read, and the maps on the way to it."""
        return (*self.read(x_B3SS)[1],)

    def read(self, x_B3SS: Tensor) -> tuple[Tensor, list[Tensor]]:
        """factors_BF and the features."""
        if x_B3SS.shape[-1] != READ_SIDE:
            x_B3SS = F.interpolate(x_B3SS, size=(READ_SIDE, READ_SIDE), mode="area")
        flat_face, seen_face = self.face(x_B3SS)
        flat_eyes, seen_eyes = self.eyes(box(x_B3SS, "eyes"))
        flat_mouth, seen_mouth = self.mouth(box(x_B3SS, "mouth"))
        pose = self.to_pose(flat_face)
        # How wide a mouth or how high a brow is depends on how the head is turned: the small parts are told.
        turned = pose.detach()
        eyes = self.to_eyes(torch.cat([flat_eyes, turned], 1))
        mouth = self.to_mouth(torch.cat([flat_mouth, turned], 1))
        brows, lid, corner = eyes[:, 3:5], eyes[:, 5:6], mouth[:, 3:4]
        factors = torch.cat([mouth[:, :3], pose, eyes[:, :3], brows, corner, lid], 1)
        return factors, [*seen_face, *seen_eyes, *seen_mouth, factors]


def _size(name: str) -> tuple[int, int]:
    high, wide = box(torch.zeros(1, 1, READ_SIDE, READ_SIDE), name).shape[2:]
    return high, wide


class _Tower(nn.Module):
    """x -> features in a row, and the maps on the way to them."""

    def __init__(self, widths: tuple[int, ...], strides: tuple[int, ...], size: tuple[int, int]) -> None:
        super().__init__()
        self.steps = nn.ModuleList()
        below, (high, wide) = 3, size
        for channels, stride in zip(widths, strides, strict=True):
            conv = nn.Conv2d(below, channels, 3, stride, 1, bias=False)
            self.steps.append(nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU()))
            below, high, wide = channels, -(-high // stride), -(-wide // stride)
        self.features = below * high * wide

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        seen = []
        for step in self.steps:
            x = step(x)
            seen.append(x)
        return x.flatten(1), seen


def _head(features: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, out))


assert len(FACTORS) == 16
