"""The frozen unified feature of every training frame, plain and changed views, kept so that heads train fast."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.augment import DICE, augment
from trainer.cast import Cast
from trainer.corpus import Clips, Corpus
from trainer.recipes import Recipe
from trainer.sampler import choose, uniforms

_BATCH = 128
_TELLING = 20_000
"""Clips whose factors tell mean and deviation."""


class Features:
    """views 0: plain, 1...: changed as the window's augmentation says. Nothing is kept where the recipe says 0."""

    explained: float = float("nan")
    """How much of the unified feature the codes explain at stage 3's warm start."""

    def __init__(self, cast: Cast, corpus: Corpus, recipe: Recipe) -> None:
        self._cast, self._recipe, self._clips = cast, recipe, corpus.train
        # Of a large set some clips tell as much as all, and need not be read whole.
        flat = corpus.train.factors[:: 1 + len(corpus.train) // _TELLING].flatten(0, 1)
        self.mean_F, self.deviation_F = flat.mean(0), flat.std(0) + 1e-4
        self._views: Tensor | None = None

    def units(self, factors: Tensor) -> Tensor:
        """Factors in units of their deviation around their mean, over the training clips."""
        return (factors - self.mean_F) / self.deviation_F

    def factors(self, units: Tensor) -> Tensor:
        """The inverse of `units`."""
        return units * self.deviation_F + self.mean_F

    def forget(self) -> None:
        """The trunk has changed."""
        self._views = None

    def unified(self, clip_B: Tensor, frame_B: Tensor, dice_B: Tensor) -> Tensor:
        """unified_BU of training frames, the view drawn by a die each; no gradient."""
        views = self._recipe.choices.cached_views
        if not views:
            dice_BD = torch.frac(dice_B[:, None] * (1 + torch.arange(DICE)) * 0.618)
            return self._look(self._clips, clip_B, frame_B, dice_BD)
        if self._views is None:
            self._views = torch.stack([self._view(self._clips, view) for view in range(1 + views)])
        return self._views[choose(dice_B, 1 + views), clip_B, frame_B]

    def plain(self, clips: Clips) -> Tensor:
        """unified_KNU of unchanged pictures."""
        if self._views is not None and clips is self._clips:
            return self._views[0]
        return self._view(clips, 0)

    def _view(self, clips: Clips, view: int) -> Tensor:
        clip_N, frame_N = (part.flatten() for part in _all_frames(clips))
        dice = uniforms(self._recipe.seed + view, 0, len(clip_N), DICE) if view else None
        return self._look(clips, clip_N, frame_N, dice).unflatten(0, clips.factors.shape[:2])

    def _look(self, clips: Clips, clip_N: Tensor, frame_N: Tensor, dice_ND: Tensor | None) -> Tensor:
        parts = []
        for start in range(0, len(clip_N), _BATCH):
            here = slice(start, start + _BATCH)
            x = clips.picture(clip_N[here], frame_N[here])
            parts.append(self._see(x, None if dice_ND is None else dice_ND[here]))
        return torch.cat(parts)

    @torch.no_grad()
    def _see(self, x_B3SS: Tensor, dice_BD: Tensor | None) -> Tensor:
        if dice_BD is not None:
            x_B3SS = augment(x_B3SS, dice_BD, self._recipe.choices.window_augmentation)
        trunk = self._cast.motion.model
        was = trunk.training
        unified = trunk.eval()(x_B3SS)
        trunk.train(was)
        return unified


def _all_frames(clips: Clips) -> tuple[Tensor, ...]:
    return torch.meshgrid(torch.arange(len(clips)), torch.arange(clips.factors.shape[1]), indexing="ij")
