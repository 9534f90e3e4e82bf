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

from trainer.corpus import FACTORS
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


READ_SIDE: Final = 64


class ReadOut(nn.Module):
    """Reads the true factors off a crop: the whole face small for the pose, and the boxes of eyes and mouth, which
    the crop has already put in place, for what is small. Trained on puppets: `readout` is the first stage."""

    card = PriorCard("puppet read-out", "Apache-2.0", "trained on puppets by this recipe")

    def __init__(self, width: int = 16, hidden: int = 96) -> None:
        super().__init__()
        self.face = _Tower(width, (32, 32), 6, hidden)
        self.eyes = _Tower(width, _size("eyes"), 6, hidden)
        self.mouth = _Tower(width, _size("mouth"), 4, hidden)

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
        pose, seen_face = self.face(F.avg_pool2d(x_B3SS, 2))
        eyes, seen_eyes = self.eyes(box(x_B3SS, "eyes"))
        mouth, seen_mouth = self.mouth(box(x_B3SS, "mouth"))
        brows, lid, corner = eyes[:, 3:5], eyes[:, 5:6], mouth[:, 3:4]
        factors = torch.cat([mouth[:, :3], pose, eyes[:, :3], brows, corner, lid], 1)
        return factors, [*seen_face, *seen_eyes, *seen_mouth, factors]


def _size(name: str) -> tuple[int, int]:
    high, wide = box(torch.zeros(1, 1, READ_SIDE, READ_SIDE), name).shape[2:]
    return high, wide


class _Tower(nn.Module):
    def __init__(self, width: int, size: tuple[int, int], out: int, hidden: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList()
        below, (high, wide) = 3, size
        for channels, stride in ((width, 1), (2 * width, 2), (3 * width, 2)):
            conv = nn.Conv2d(below, channels, 3, stride, 1, bias=False)
            self.steps.append(nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU()))
            below, high, wide = channels, -(-high // stride), -(-wide // stride)
        self.out = nn.Sequential(
            nn.Flatten(), nn.Linear(below * high * wide, hidden), nn.ReLU(), nn.Linear(hidden, out)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        seen = []
        for step in self.steps:
            x = step(x)
            seen.append(x)
        return self.out(x), seen


assert len(FACTORS) == 16
