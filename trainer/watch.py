"""Whether a training still makes sense: losses and gradients are numbers, and no loss has run away."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from trainer.status import TrainingFailed

SETTLE: Final = 10
"""Steps whose mean says at which level a phase's loss begins."""
AWAY: Final = 20.0
"""A phase's loss that is so many times that level has diverged."""
KEEP: Final = 0.9


@dataclass
class Level:
    """A phase's loss: mean of the first steps, and its running mean now. Sizes, not signs: adversaries go negative."""

    steps: int = 0
    first: float = 0.0
    now: float = 0.0


@dataclass
class Watch:
    """A stage's levels by phase. Kept in checkpoints: a resumed run judges as the undisturbed one."""

    levels: dict[str, Level] = field(default_factory=dict)

    def see(self, stage: str, step: int, phase: str, total: float, terms: Mapping[str, float]) -> None:
        """Raises TrainingFailed("nan") or ("diverged"), naming what is wrong."""
        wrong = [name for name, value in terms.items() if not math.isfinite(value)]
        if wrong or not math.isfinite(total):
            raise TrainingFailed("nan", f"stage {stage}, step {step}: {', '.join(wrong) or phase} is not finite")
        level = self.levels.setdefault(phase, Level())
        size = abs(total)
        level.steps += 1
        if level.steps <= SETTLE:
            level.first += (size - level.first) / level.steps
            level.now = level.first
            return
        level.now = KEEP * level.now + (1 - KEEP) * size
        if level.now > AWAY * max(level.first, 1e-3):
            raise TrainingFailed(
                "diverged",
                f"stage {stage}, step {step}: the loss of phase {phase} is {level.now:.3g}, from {level.first:.3g}",
            )


def bad_gradient(stage: str, step: int, phase: str) -> TrainingFailed:
    return TrainingFailed("nan", f"stage {stage}, step {step}: a gradient of phase {phase} is not finite")
