"""Filmed faces read by the farm's landmark network, where nobody knows true factors; and points of crops.

N pictures, P points, F factors in FACTORS' order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from trainer.corpus import FACTOR_GROUPS, FACTORS, shown
from trainer.landmark_prior import LandmarkPrior, measure

_BATCH: Final = 16


@torch.no_grad()
def points_of(prior: LandmarkPrior, x_N3SS: Tensor) -> Tensor:
    """(N, 478, 3) of crops in [-1, 1], pixels of a 224 px crop."""
    return torch.cat([prior.points(part)[0] for part in x_N3SS.split(_BATCH)])


@dataclass(frozen=True)
class LandmarkReader:
    """Factors as the landmark prior measures them: on filmed faces the best there is, and the same for all models."""

    prior: LandmarkPrior
    name: str = "the farm's landmarks"
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: FACTOR_GROUPS)
    mouth: tuple[str, ...] = ("jaw", "lip_width", "pucker")
    card: Mapping[str, Any] = field(default_factory=lambda: {"weights": "farm/face/weights"})

    @property
    def names(self) -> tuple[str, ...]:
        return FACTORS

    def read(self, x_B3SS: Tensor) -> Tensor:
        return measure(points_of(self.prior, x_B3SS))

    def shown(self, factors_BF: Tensor) -> Tensor:
        return shown(factors_BF)
