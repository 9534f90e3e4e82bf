"""A constructed model whose pictures carry their factors as pixels: what metrics must say of it is known exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainer.corpus import FACTOR_GROUPS, FACTORS, Clips, factor_slice
from trainer.metrics import METRICS
from trainer.subject import Codes, Look
from trainer.trial import Footage, Scope, Trial

SIDE = 8
EYE = 6


def paint(factors_NF: Tensor) -> Tensor:
    """Factors within -4 to 4 as the first pixels of a picture."""
    x = torch.zeros(len(factors_NF), 3 * SIDE * SIDE)
    x[:, : len(FACTORS)] = factors_NF / 4
    return x.view(-1, 3, SIDE, SIDE)


@dataclass(frozen=True)
class PixelReader:
    name: str = "pixels"
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: FACTOR_GROUPS)
    mouth: tuple[str, ...] = ("jaw", "lip_width", "pucker")
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return FACTORS

    def read(self, x_B3SS: Tensor) -> Tensor:
        return x_B3SS.flatten(1)[:, : len(FACTORS)] * 4

    def shown(self, factors_BF: Tensor) -> Tensor:
        return torch.ones_like(factors_BF, dtype=torch.bool)


@dataclass(frozen=True)
class Painter:
    """Codes are the factors themselves. mix_FF: which factors each factor of the codes moves in the picture; leaks: how
    much of the appearance picture's factors comes through; delay: frames by which lips lag the voice."""

    clips: Clips
    mix_FF: Tensor
    leaks: float = 0.0
    delay: int = 0
    name: str = "painter"
    about: Mapping[str, object] = field(default_factory=dict)

    def codes(self, clips: Clips) -> Codes:
        true = clips.factors[:, : clips.frames]
        lip = true[..., factor_slice("lip")].roll(self.delay, 1)
        true = true.flatten(0, 1)
        eye = torch.zeros(len(true), EYE)
        eye[:, 2:4], eye[:, 0:1] = true[:, factor_slice("gaze")], true[:, factor_slice("blink")]
        return Codes(lip.flatten(0, 1), true[:, factor_slice("expression")], eye, true[:, factor_slice("pose")])

    def seen_lip(self, clips: Clips) -> Tensor:
        return clips.factors[:, : clips.frames, factor_slice("lip")].flatten(0, 1)

    def look(self, x_N3SS: Tensor) -> Look:
        return Look(PixelReader().read(x_N3SS), x_N3SS)

    def draw(self, look: Look, codes: Codes) -> Tensor:
        factors = torch.cat([codes.lip, codes.pose, codes.eye[:, 2:4], codes.eye[:, 0:1], codes.expression], 1)
        return paint(factors @ self.mix_FF + self.leaks * look.code_NA)


def footage(clips: int = 6, frames: int = 40, apart: int = 6, seed: int = 0) -> Footage:
    dice = torch.Generator().manual_seed(seed)
    factors = torch.randn(clips, frames + apart, len(FACTORS), generator=dice).clamp(-1.9, 1.9)
    pixels = (paint(factors.flatten(0, 1)) + 1) * 127.5
    strip = torch.rand(clips, 80, 4 * (frames - 1) + 20, generator=dice)
    # Bytes are what corpora keep; the reader's rounding is a few thousandths of a deviation.
    pictures = pixels.round().to(torch.uint8).unflatten(0, (clips, -1))
    return Footage("painted", Clips(pictures, factors, strip, frames), "true factors")


def trial(mix_FF: Tensor | None = None, *, leaks: float = 0.0, delay: int = 0, on: Footage | None = None) -> Trial:
    on = on or footage()
    mix = torch.eye(len(FACTORS)) if mix_FF is None else mix_FF
    scope = Scope(drives=60, people=2, pictures=100, leak_people=4, pairs=4, shifts=6, dubbed=4, landmarks=0)
    painter = Painter(on.clips, mix, leaks, delay)
    return Trial(painter, on, PixelReader(), scope, {"features": _Pixels()})  # pyright: ignore[reportArgumentType]


class _Pixels:
    name = "pixels"

    def features(self, x_N3SS: Tensor) -> Tensor:
        return x_N3SS.flatten(1)[:, : len(FACTORS)]


def value(name: str, of: Trial) -> Any:
    return METRICS[name].measure(of)
