"""Which sample comes next, and every die that it throws: pure functions of the run's seed and the sample's number.

Nothing is carried from step to step: a resumed run goes on as if it had never stopped, and however many workers share
a batch, the global order stays the same.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_MIX = 0x9E3779B97F4A7C15


def uniforms(seed: int, first: int, count: int, width: int) -> Tensor:
    """dice_BW in [0, 1): `width` dice of the samples first, first + 1, ..."""
    rows = [
        np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, number])).random(width, np.float32)
        for number in range(first, first + count)
    ]
    return torch.from_numpy(np.stack(rows))


def choose(dice_B: Tensor, count: int) -> Tensor:
    """Integers in [0, count) from dice."""
    return (dice_B * count).long().clamp_max(count - 1)


def choose_several(dice_BN: Tensor, several: int) -> Tensor:
    """`several` different numbers in [0, N) a row, in random order."""
    return dice_BN.argsort(1)[:, :several]


def step_seed(seed: int, step: int) -> int:
    """Seed of everything that the networks themselves draw in this step (dropout)."""
    return (seed * _MIX + step * 0xBF58476D1CE4E5B9) % 2**63
