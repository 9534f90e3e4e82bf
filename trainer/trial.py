"""What metrics look at: a model on held-out footage, read by a reader; each rendering made once, when first asked for.

N pictures, K clips, T frames as in life, A people, D driving frames, F factors, S pixels a side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.corpus import Clips
from trainer.subject import CONTROLLED, Codes, Look, Subject


class Reader(Protocol):
    """Reads factors off pictures: the judge on puppets, landmarks on filmed faces."""

    @property
    def name(self) -> str: ...

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """lip, pose, gaze, blink, expression -> names of factors, in the order of what is read."""
        ...

    @property
    def mouth(self) -> tuple[str, ...]:
        """Which of them tell how far a mouth is open, how wide it is, and how far it is pursed."""
        ...

    @property
    def card(self) -> Mapping[str, Any]: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    def read(self, x_B3SS: Tensor) -> Tensor:
        """factors_BF of pictures in [-1, 1]."""
        ...

    def shown(self, factors_BF: Tensor) -> Tensor:
        """True where a picture shows the factor."""
        ...


@dataclass(frozen=True)
class Footage:
    """What a model is judged on: people that it never saw. truth: where `clips.factors` come from.

    phonemes: of each clip, (seconds from its first frame, espeak's mnemonic), where they are known.
    """

    name: str
    clips: Clips
    truth: str
    phonemes: Sequence[Sequence[tuple[float, str]]] | None = None
    voices: Sequence[NDArray[np.float32]] | None = None
    """16 kHz, from each clip's first frame on."""
    frames_per_s: float = 25.0


@dataclass(frozen=True)
class Scope:
    """How much is rendered. drives: held-out frames whose codes drive. people: appearances that they drive."""

    drives: int = 96
    people: int = 12
    pictures: int = 768
    leak_people: int = 24
    pairs: int = 32
    """Cross-video: so many appearances by so many drives; the paper's is 100."""
    shifts: int = 15
    dubbed: int = 24
    """Clips that are dubbed and watched for lip sync."""
    landmarks: int = 96


QUICK: Final = Scope(drives=48, people=4, pictures=192, leak_people=8, pairs=8, shifts=8, dubbed=6, landmarks=24)
SMOKE: Final = Scope(drives=12, people=2, pictures=16, leak_people=2, pairs=2, shifts=3, dubbed=2, landmarks=4)
SCOPES: Final[Mapping[str, Scope]] = {"full": Scope(), "quick": QUICK, "smoke": SMOKE}


@dataclass(frozen=True)
class Driven:
    """Pictures made, each beside the true one, with both ones' factors: true_NF as known, read_NF off what was made."""

    clip: Tensor
    frame: Tensor
    source: Tensor
    wanted: Tensor
    made: Tensor
    true_NF: Tensor
    read_NF: Tensor


@dataclass
class Trial:
    """One model on one footage. What several metrics look at is rendered once."""

    subject: Subject
    footage: Footage
    reader: Reader
    scope: Scope = field(default_factory=Scope)
    has: Mapping[str, Any] = field(default_factory=dict)
    """What else is at hand, by the names that metrics need: landmarks (the prior), features and lite0 (of pictures,
    with a name), syncnet, stage1 (a training's Setting)."""

    @property
    def clips(self) -> Clips:
        return self.footage.clips

    @property
    def gives(self) -> frozenset[str]:
        """What metrics may need and this trial has."""
        known = {"phonemes": self.footage.phonemes, "voices": self.footage.voices, **self.has}
        given = {name for name, value in known.items() if value is not None}
        return frozenset(given | ({"two people"} if len(self.clips) > 1 else set()))

    @cached_property
    def codes(self) -> Codes:
        """Of all frames as in life, row K * T."""
        return self.subject.codes(self.clips)

    def row(self, clip: Tensor, frame: Tensor) -> Tensor:
        return clip * self.clips.frames + frame

    @cached_property
    def true(self) -> Tensor:
        """factors_NF of all frames as in life, as `codes`."""
        return self.clips.factors[:, : self.clips.frames].flatten(0, 1)

    @cached_property
    def drives(self) -> Tensor:
        """Rows of the driving frames, spread evenly over people and time."""
        count = min(self.scope.drives, len(self.true))
        clip = torch.arange(count) % len(self.clips)
        return self.row(clip, (7 + 11 * torch.arange(count)) % self.clips.frames)

    @cached_property
    def natural(self) -> Tensor:
        """(F,) variance over the driving frames that show a factor."""
        return self.variance_of(self.true[self.drives])

    def variance_of(self, true_NF: Tensor) -> Tensor:
        """(F,) over the frames that show a factor; no less than a hundredth of what the whole footage has."""
        everything = self.clips.factors.flatten(0, 1)
        least = 0.01 * variance_where(everything, self.reader.shown(everything)).clamp_min(1e-6)
        return variance_where(true_NF, self.reader.shown(true_NF)).maximum(least)

    @cached_property
    def looks(self) -> Look:
        """Of each person's first frame apart from the clip."""
        return self.subject.look(self.source(torch.arange(len(self.clips))))

    def source(self, clip_N: Tensor, which: int = 0) -> Tensor:
        """The picture that shows a person: not one of the clip, which would tell the expression away."""
        apart = min(self.clips.frames + which, self.clips.factors.shape[1] - 1)
        return self.clips.picture(clip_N, torch.full_like(clip_N, apart))

    @cached_property
    def self_driven(self) -> Driven:
        """Held-out frames made anew: a person's picture, their voice, the frame's own pose, eyes and expression."""
        count = min(self.scope.pictures, len(self.true))
        number = torch.arange(count)
        clip, frame = number % len(self.clips), (3 + 7 * (number // len(self.clips))) % self.clips.frames
        rows = self.row(clip, frame)
        made = self.subject.draw(self.looks.at(clip), self.codes.at(rows))
        wanted = self.clips.picture(clip, frame)
        return Driven(clip, frame, self.source(clip), wanted, made, self.true[rows], self.reader.read(made))

    @cached_property
    def cross_driven(self) -> Driven:
        """Every one of `pairs` people driven by frames of every other one's clip; `wanted` is the driving frame."""
        count = min(self.scope.pairs, len(self.clips))
        person = torch.arange(count).repeat_interleave(count)
        clip = (torch.arange(count).repeat(count) + 1 + person) % len(self.clips)
        frame = (5 + 13 * torch.arange(len(clip))) % self.clips.frames
        apart = person != clip
        person, clip, frame = person[apart], clip[apart], frame[apart]
        rows = self.row(clip, frame)
        made = self.subject.draw(self.looks.at(person), self.codes.at(rows))
        wanted = self.clips.picture(clip, frame)
        return Driven(person, frame, self.source(person), wanted, made, self.true[rows], self.reader.read(made))

    @cached_property
    def dubbed(self) -> tuple[Tensor, Tensor]:
        """(pictures, factors read) of whole clips, (K, T, ...): lips by the clip's own voice, all else as another
        person's clip has it. What then moves the mouth in time with the voice can only be the voice."""
        several, frames = min(self.scope.dubbed, len(self.clips)), torch.arange(self.clips.frames)
        pictures, read = [], []
        for clip in range(several):
            own = self.row(torch.full_like(frames, clip), frames)
            other = self.row(torch.full_like(frames, (clip + 1 + several // 2) % len(self.clips)), frames)
            codes = self.codes.at(other).driven("lip", self.codes.at(own))
            made = self.subject.draw(self.looks.at(torch.tensor([clip])), codes)
            pictures.append(made)
            read.append(self.reader.read(made))
        return torch.stack(pictures), torch.stack(read)

    @cached_property
    def apart_canonical(self) -> dict[str, Tensor]:
        """controlled -> read_ADF: that code alone is driven, all others are zero."""
        codes = self.codes.at(self.drives)
        return {c: self._people(lambda _, c=c: codes.canonical().driven(c, codes)) for c in CONTROLLED}

    @cached_property
    def apart_held(self) -> dict[str, Tensor]:
        """The same with the others held at a held-out frame, another one for every person."""
        codes, count = self.codes.at(self.drives), len(self.drives)

        def held(person: int) -> Codes:
            return codes.at(torch.tensor([(7 * person + 3) % count])).held(count)

        return {c: self._people(lambda person, c=c: held(person).driven(c, codes)) for c in CONTROLLED}

    @cached_property
    def apart_eyes(self) -> dict[str, tuple[Tensor, Tensor]]:
        """gaze and blink -> (rows, read_ADF): the whole eye code, driven by frames in which only that one varies."""
        found = {}
        for controlled in ("gaze", "blink"):
            rows = self._frames_that_vary(controlled)
            codes = self.codes.at(rows)
            mixed = dataclasses.replace(codes.canonical(), eye=codes.eye)
            found[controlled] = (rows, self._people(lambda _, mixed=mixed: mixed))
        return found

    def columns(self, group: str) -> Tensor:
        """(F,) True for the factors of a group."""
        return torch.tensor([name == group for name, several in self.reader.groups.items() for _ in several])

    def _people(self, codes_of: Callable[[int], Codes]) -> Tensor:
        """read_ADF of as many people as the scope says, each with their codes."""
        people = range(min(self.scope.people, len(self.clips)))
        looks = [self.looks.at(torch.tensor([person])) for person in people]
        return torch.stack([self.reader.read(self.subject.draw(looks[p], codes_of(p))) for p in people])

    def _frames_that_vary(self, controlled: str) -> Tensor:
        """Rows with open eyes (gaze), or that look ahead (blink); all drives where there are too few."""
        true = self.true
        if controlled == "gaze":
            blink = true[:, self.columns("blink")]
            chosen = blink < blink.amin() + OPEN * (blink.amax() - blink.amin())
        else:
            gaze = true[:, self.columns("gaze")]
            chosen = (gaze - gaze.median(0).values).abs() < AHEAD * gaze.std(0)
        rows = torch.nonzero(chosen.all(1))[:, 0]
        if len(rows) < 8:
            return self.drives
        return rows[torch.linspace(0, len(rows) - 1, min(len(self.drives), len(rows))).long()]


OPEN: Final = 0.1
"""Of blink's range: an eye that is no more closed is open."""
AHEAD: Final = 0.35
"""Of gaze's deviation: a gaze that is no further from its middle looks ahead."""


def variance_where(values_NF: Tensor, shown_NF: Tensor, fewest: int = 8) -> Tensor:
    """(F,) variance over the rows that show the factor; over all of them where fewer than `fewest` do."""
    shown = torch.where(shown_NF.sum(0) >= fewest, shown_NF, True)
    count = shown.sum(0)
    mean = (values_NF * shown).sum(0) / count
    return ((values_NF - mean).square() * shown).sum(0) / count
