"""The puppets as training material: clips of known factors, drawn from seeds, rendered once, kept in a folder.

A clip is one identity: T frames as in life (factors entangled, a voice to go with them) and L loose frames, whose
factors are drawn independently of each other, wide. Both are cropped as the farm crops any face. Clip numbers are
seeds: the same setting gives the same corpus everywhere, so shards can be made anywhere, in any order.

K clips, T frames as in life, L loose frames, S pixels a side, F factors, W mel frames.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from farm.media import mel
from trainer.puppets.clip import Clip, act
from trainer.puppets.framing import POSE, picture_from_crop, pose_in_crop
from trainer.puppets.parameters import COLUMN, GROUPS, NAMES, columns, identity
from trainer.puppets.render import render
from trainer.puppets.sentences import speak
from trainer.puppets.speech import Speech

FPS: Final = 25
MEL_PER_FRAME: Final = 4
SHARD: Final = 16
"""Clips a file."""

FACTOR_GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "lip": GROUPS["lip"],
    "pose": POSE,
    "gaze": GROUPS["gaze"],
    "blink": GROUPS["blink"],
    "expression": GROUPS["expression"],
}
FACTORS: Final[tuple[str, ...]] = tuple(name for names in FACTOR_GROUPS.values() for name in names)


def factor_slice(group: str) -> slice:
    """Where a group of factors lies among FACTORS."""
    start = FACTORS.index(FACTOR_GROUPS[group][0])
    return slice(start, start + len(FACTOR_GROUPS[group]))


CLOSED: Final = 0.65
"""Blink from which on the iris cannot be seen."""
RENDERED: Final = Path.home() / ".cache" / "dubfarm" / "corpus"
"""Where rendered puppets are kept, unless the caller says otherwise."""


def shown(factors_NF: torch.Tensor) -> torch.Tensor:
    """True where a picture shows the factor, in FACTORS' order: nobody can tell where a closed eye looks."""
    seen = torch.ones_like(factors_NF, dtype=torch.bool)
    seen[:, factor_slice("gaze")] = factors_NF[:, factor_slice("blink")] <= CLOSED
    return seen


@dataclass(frozen=True)
class CorpusSetting:
    """clips train, the next `held_out` ones (other identities, other voices) only measure."""

    size: int
    clips: int
    held_out: int
    frames: int = 40
    loose: int = 8
    seed: int = 1
    version: int = 3
    """Goes up when the same setting would draw other clips than before."""
    languages: tuple[str, ...] = ()
    """What is spoken; empty: the languages of the training."""

    @property
    def key(self) -> str:
        said = {name: value for name, value in asdict(self).items() if name != "languages" or value}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class DatasetSetting:
    """What a run needs to know of a set that `prepare` made. version: SHA-256 of its manifest. factors: "true", or
    "read" by the priors. size: pixels a side as they are stored. clips train, `held_out` measure; of each `frames` at
    25 a second and `loose` others."""

    version: str
    size: int
    clips: int
    held_out: int
    frames: int
    loose: int
    factors: str

    @property
    def key(self) -> str:
        return self.version[:12]


@dataclass(frozen=True)
class Clips:
    """pictures_KNCSS uint8, the T frames first, then the L loose ones; factors_KNF; strip_KBW: mel of the T frames.

    What is looked up comes out on the device of the factors; pictures and voices may stay in the host's memory.
    """

    pictures: torch.Tensor
    factors: torch.Tensor
    strip: torch.Tensor
    frames: int

    def to(self, device: torch.device) -> Clips:
        """Pictures and voices, which may be many gigabytes, are moved as they are drawn."""
        return Clips(self.pictures, self.factors.to(device), self.strip, self.frames)

    def part(self, start: int, stop: int) -> Clips:
        return Clips(self.pictures[start:stop], self.factors[start:stop], self.strip[start:stop], self.frames)

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def is_streamed(self) -> bool:
        """Whether pictures are read where they lie, and so had better be expected."""
        return not isinstance(self.pictures, torch.Tensor)

    def expect(self, clip_B: torch.Tensor) -> None:
        """These clips are wanted next: those that are streamed are fetched meanwhile."""
        if self.is_streamed:
            self.pictures.soon(clip_B)  # pyright: ignore[reportAttributeAccessIssue]

    def picture(self, clip_B: torch.Tensor, frame_B: torch.Tensor) -> torch.Tensor:
        """x_B3SS in [-1, 1], float32."""
        x = self.pictures[clip_B, frame_B].to(self.factors.device, non_blocking=True).float() / 127.5 - 1
        return x.contiguous(memory_format=torch.channels_last)

    def window(self, clip_B: torch.Tensor, frame_B: torch.Tensor) -> torch.Tensor:
        """mel_B1FT of frames as in life: as `farm.media.mel` cuts it at 25 frames a second."""
        at_BT = MEL_PER_FRAME * frame_B[:, None] + torch.arange(mel.WINDOW_FRAMES)
        windows = self.strip[clip_B[:, None], :, at_BT].transpose(1, 2)[:, None].contiguous()
        return windows.to(self.factors.device, non_blocking=True)


@dataclass(frozen=True)
class Corpus:
    setting: CorpusSetting | DatasetSetting
    train: Clips
    held_out: Clips

    def to(self, device: torch.device) -> Corpus:
        return Corpus(self.setting, self.train.to(device), self.held_out.to(device))


def open_corpus(folder: Path, setting: CorpusSetting, done: Callable[[int, int], None] | None = None) -> Corpus:
    """The corpus in memory, rendering whichever shards the folder lacks. done: called with (clips ready, clips)."""
    place = folder / f"puppets-{setting.key}"
    place.mkdir(parents=True, exist_ok=True)
    (place / "setting.json").write_text(json.dumps(asdict(setting), indent=2) + "\n")
    total = setting.clips + setting.held_out
    shards = []
    for first in range(0, total, SHARD):
        shards.append(_shard(place / f"clips-{first:06d}.npz", setting, first, min(first + SHARD, total)))
        if done is not None:
            done(min(first + SHARD, total), total)
    arrays = [torch.from_numpy(np.concatenate([shard[i] for shard in shards])) for i in range(3)]
    whole = Clips(arrays[0], arrays[1], arrays[2], setting.frames)
    return Corpus(setting, whole.part(0, setting.clips), whole.part(setting.clips, total))


def _shard(path: Path, setting: CorpusSetting, first: int, stop: int) -> tuple[NDArray, NDArray, NDArray]:
    if not path.exists():
        clips = [draw_clip(setting, number) for number in range(first, stop)]
        pictures, factors, strip = (np.stack(column) for column in zip(*clips, strict=True))
        unfinished = path.with_suffix(f".{os.getpid()}.tmp")
        with unfinished.open("wb") as file:
            np.savez(file, pictures=pictures, factors=factors, strip=strip)
        unfinished.rename(path)
    with np.load(path) as data:
        return data["pictures"], data["factors"], data["strip"]


@dataclass(frozen=True)
class Scene:
    """What a clip is rendered from: what is said, how it is acted, and the first frame that is kept."""

    speech: Speech
    clip: Clip
    first: int
    seed: int
    dice: np.random.Generator


def scene(setting: CorpusSetting, number: int) -> Scene:
    """A pure function of the clip's number; `dice` are what is left for the rendering."""
    dice = np.random.default_rng((setting.seed, number))
    held_out = number >= setting.clips
    speech = speak(dice, max(4, setting.frames // 6), held_out=held_out, languages=setting.languages)
    while speech.duration_s + 0.3 < setting.frames / FPS:
        speech = speak(dice, setting.frames // 3, held_out=held_out, languages=setting.languages)
    seed = 1_000_000 * setting.seed + number
    clip = act(speech, seed, FPS)
    return Scene(speech, clip, int(dice.integers(0, len(clip.parameters_TP) - setting.frames + 1)), seed, dice)


def draw_clip(setting: CorpusSetting, number: int) -> tuple[NDArray[np.uint8], NDArray, NDArray]:
    """Pictures (T + L, 3, S, S), factors (T + L, F) and mel strip (80, W) of one clip: pure functions of its number."""
    drawn = scene(setting, number)
    clip, first, dice = drawn.clip, drawn.first, drawn.dice
    lively = entangle(clip.parameters_TP, dice)[first : first + setting.frames]
    rows = torch.cat([lively, _loose(drawn.seed, setting.loose, dice)])
    runs = np.concatenate([np.zeros(setting.frames), 1 + np.arange(setting.loose)]).astype(np.int32)
    jitter = dice.standard_normal((1 + setting.loose, 4)) * [0.04, 0.04, 0.03, 0.03]
    place = picture_from_crop(rows, runs, torch.from_numpy(jitter[runs]).float())
    pictures = ((render(rows, setting.size, 8, place) + 1) * 127.5).round().to(torch.uint8).numpy()
    return pictures, true_factors(rows, place), _strip(clip.wave, first, setting.frames)


def entangle(parameters_TP: torch.Tensor, dice: np.random.Generator) -> torch.Tensor:
    """Factors hang together as in life: a mood through the clip, brows and nods that follow the voice, blinks and
    tilts that come with turns of the head, lips that are fully used."""
    rows = parameters_TP.clone()
    jaw, yaw = rows[:, COLUMN["jaw"]], rows[:, COLUMN["yaw"]]
    mood = torch.tensor(_MOODS[int(dice.integers(len(_MOODS)))]) * float(dice.uniform(0.3, 1))
    rows[:, columns("expression")] = 0.6 * rows[:, columns("expression")] + mood
    rows[:, COLUMN["brow_raise"]] += 0.35 * (jaw - jaw.mean())
    rows[:, columns("pose")] += torch.from_numpy(dice.standard_normal(6) * [0.3, 0.2, 0.15, 0.2, 0.2, 0.2]).float()
    rows[:, COLUMN["pitch"]] += 0.4 * (jaw - jaw.mean())
    rows[:, COLUMN["roll"]] += 0.3 * yaw
    rows[:, columns("gaze")] *= torch.tensor([1.6, 2.2])
    rows[:, COLUMN["gaze_x"]] += -0.4 * yaw + float(dice.uniform(-0.4, 0.4))
    turn = torch.diff(yaw, prepend=yaw[:1]).abs()
    rows[:, COLUMN["blink"]] = torch.maximum(rows[:, COLUMN["blink"]], (12 * turn - 0.6).clamp(0, 1))
    rows[:, COLUMN["jaw"]] = (1.3 * jaw).clamp(0, 1.1)
    rows[:, COLUMN["lip_width"]] *= 1.25
    rows[:, COLUMN["pucker"]] = (1.25 * rows[:, COLUMN["pucker"]]).clamp(0, 1.1)
    for group in ("pose", "gaze", "expression"):
        rows[:, columns(group)] = rows[:, columns(group)].clamp(-1, 1)
    return rows


_MOODS: Final = (  # brow_raise, furrow, mouth_corner, lid
    (0.0, 0.0, 0.0, 0.0),
    (0.15, -0.1, 0.9, 0.35),
    (0.35, 0.35, -0.7, 0.1),
    (-0.4, 0.9, -0.35, 0.5),
    (0.95, -0.2, 0.1, -0.7),
    (0.1, 0.5, -0.3, 0.7),
)


def _loose(seed: int, count: int, dice: np.random.Generator) -> torch.Tensor:
    rows = identity(seed).repeat(count, 1)
    draw = torch.from_numpy(dice.uniform(-1, 1, (count, len(NAMES)))).float()
    for group in ("lip", "pose", "gaze", "blink", "expression"):
        rows[:, columns(group)] = draw[:, columns(group)]
    rows[:, columns("pose")] *= 0.75
    for name in ("jaw", "pucker"):
        rows[:, COLUMN[name]] = draw[:, COLUMN[name]].clamp_min(0) * 1.05
    rows[:, COLUMN["blink"]] = (draw[:, COLUMN["blink"]] * 1.5).clamp(0, 1)
    return rows


def true_factors(rows_NP: torch.Tensor, place_N23: torch.Tensor) -> NDArray[np.float32]:
    """factors_NF of puppets' parameters, the pose as it stands in their crops."""
    values = {"pose": pose_in_crop(rows_NP, place_N23)}
    parts = [values.get(group, rows_NP[:, columns(group)] if group != "pose" else None) for group in FACTOR_GROUPS]
    return torch.cat([part for part in parts if part is not None], 1).numpy()


def _strip(wave: NDArray[np.float32], first: int, frames: int) -> NDArray[np.float32]:
    def samples(low: int, high: int) -> NDArray[np.float32]:
        heard = np.zeros(high - low, np.float32)
        begin, end = max(low, 0), min(high, len(wave))
        heard[begin - low : end - low] = wave[begin:end]
        return heard

    return strip(samples, first, frames, mel.rms(wave))


def strip(
    samples: Callable[[int, int], NDArray[np.float32]], first: int, frames: int, loudness: float
) -> NDArray[np.float32]:
    """Mel frames (80, 4 (T - 1) + 20) from the start of the first frame's window to the end of the last one's.

    samples: those [low, high) of the voice, zeros beyond its ends. loudness: the whole voice's root mean square.
    """
    start = mel.window_start(Fraction(first, FPS))
    count = MEL_PER_FRAME * (frames - 1) + mel.WINDOW_FRAMES
    starts = list(range(start, start + count, mel.WINDOW_FRAMES))
    low, high = mel.stretch(starts)
    pieces = mel.windows(samples(low, high), low, starts, loudness)
    return np.concatenate(list(pieces[:, 0]), axis=1)[:, :count]
