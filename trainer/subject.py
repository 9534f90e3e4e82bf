"""A model under judgement: networks that make codes of clips and pictures of codes, as the farm drives them.

N frames, K clips, T frames as in life, S pixels a side; codes as in `farm.nets.style`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from farm.domain.factor import Factor
from farm.nets import bundle
from farm.nets.manifest import PLAIN_GAINS
from farm.nets.networks import Networks
from farm.nets.style import style
from trainer.corpus import Clips

CONTROLLED: Final = ("lip", "pose", "gaze", "blink", "expression")
"""What a job drives apart, in the order of Table VI's columns."""
GAZE_DIMS: Final = (2, 3)
"""Of the eye code; the others are blink's [weights; PDFGC.md, section 2]."""
WINDOW: Final = 13
_BATCH: Final = 64


@dataclass(frozen=True)
class Codes:
    """Codes of N frames."""

    lip: Tensor
    expression: Tensor
    eye: Tensor
    pose: Tensor

    def __len__(self) -> int:
        return len(self.lip)

    def at(self, rows: Tensor | slice) -> Codes:
        return Codes(self.lip[rows], self.expression[rows], self.eye[rows], self.pose[rows])

    def canonical(self) -> Codes:
        """As many, all zero."""
        return Codes(*(torch.zeros_like(part) for part in (self.lip, self.expression, self.eye, self.pose)))

    def held(self, count: int) -> Codes:
        """One frame's, `count` times."""
        return Codes(*(part.expand(count, -1) for part in (self.lip, self.expression, self.eye, self.pose)))

    def driven(self, factor: str, other: Codes) -> Codes:
        """These, with one of CONTROLLED taken from others."""
        if factor in ("gaze", "blink"):
            ours = torch.zeros(self.eye.shape[1], dtype=torch.bool)
            ours[list(GAZE_DIMS)] = True
            theirs = ours if factor == "gaze" else ~ours
            return dataclasses.replace(self, eye=torch.where(theirs, other.eye, self.eye))
        return dataclasses.replace(self, **{factor: getattr(other, factor)})


@dataclass(frozen=True)
class Look:
    """What the appearance network makes of one picture a row."""

    code_NA: Tensor
    map_NCMM: Tensor

    def at(self, rows: Tensor) -> Look:
        return Look(self.code_NA[rows], self.map_NCMM[rows])


@dataclass(frozen=True)
class Subject:
    """name: a bundle's, or a run's stage. window: frames over which the expression code is averaged."""

    name: str
    networks: Networks
    gains: Mapping[Factor, float] = field(default_factory=lambda: PLAIN_GAINS)
    window: int = WINDOW
    about: Mapping[str, object] = field(default_factory=dict)

    @torch.no_grad()
    def codes(self, clips: Clips) -> Codes:
        """Of all frames as in life, (K * T, ...): lips as heard, expression averaged over the window."""
        clip, frame = lively(clips)
        heard, seen = [], []
        for start in range(0, len(clip), _BATCH):
            here = slice(start, start + _BATCH)
            heard.append(self.networks.audio(clips.window(clip[here], frame[here]))[1])
            seen.append(self.networks.motion(clips.picture(clip[here], frame[here])))
        eye, pose, expression = (torch.cat([getattr(s, name) for s in seen]) for name in ("eye", "pose", "expression"))
        reach = self.window // 2
        around = (torch.arange(clips.frames)[:, None] + torch.arange(-reach, reach + 1)).clamp(0, clips.frames - 1)
        expression = expression.unflatten(0, (len(clips), -1))[:, around].mean(2).flatten(0, 1)
        gains = self.gains
        eye = eye * gains[Factor.BLINK]
        eye[:, list(GAZE_DIMS)] *= gains[Factor.GAZE] / gains[Factor.BLINK]
        return Codes(
            torch.cat(heard) * gains[Factor.LIP], expression * gains[Factor.EXPRESSION], eye, pose * gains[Factor.POSE]
        )

    @torch.no_grad()
    def seen_lip(self, clips: Clips) -> Tensor:
        """The lip code as seen, of all frames as in life."""
        clip, frame = lively(clips)
        parts = zip(clip.split(_BATCH), frame.split(_BATCH), strict=True)
        return torch.cat([self.networks.motion(clips.picture(c, f)).lip for c, f in parts])

    @torch.no_grad()
    def look(self, x_N3SS: Tensor) -> Look:
        parts = [self.networks.appearance(part) for part in x_N3SS.split(_BATCH)]
        return Look(torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]))

    @torch.no_grad()
    def draw(self, look: Look, codes: Codes) -> Tensor:
        """x_N3SS in [-1, 1]: row n of the look with row n of the codes; a single look serves all."""
        pictures = []
        for start in range(0, len(codes), _BATCH):
            part = codes.at(slice(start, start + _BATCH))
            code, map_ = look.code_NA, look.map_NCMM
            if len(code) > 1:
                code, map_ = code[start : start + _BATCH], map_[start : start + _BATCH]
            styles = style(code, part.lip, part.expression, part.eye, part.pose)
            pictures.append(self.networks.generator(styles, map_).float().clamp(-1, 1))
        return torch.cat(pictures)


def lively(clips: Clips) -> tuple[Tensor, Tensor]:
    """(clip, frame) of all frames as in life, clip by clip."""
    clip, frame = torch.meshgrid(torch.arange(len(clips)), torch.arange(clips.frames), indexing="ij")
    return clip.flatten(), frame.flatten()


def open_bundle(folder: Path, device: str = "cpu") -> Subject:
    """A bundle, as the farm loads it. Raises Rejected as `farm.nets.bundle.load` does."""
    found = bundle.load(folder, torch.device(device))
    manifest = found.manifest
    about = {"sha256": found.sha256, "created_by": manifest.created_by, "source": manifest.source}
    return Subject(manifest.name, found.networks, manifest.gains, about={**about, "trained": manifest.trained})
