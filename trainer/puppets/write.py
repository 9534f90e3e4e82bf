"""Puppet clips as ordinary mp4s with sound, each beside a sidecar of its true factors: videos like any others.

A clip is one person in one place speaking one sentence. `NAME.factors.json` beside `NAME.mp4` holds what is true of it:
who, the voice, the phonemes with their times, every parameter of every frame, and where the puppet's picture lies in
the video's. T frames, P parameters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.corpus import entangle
from trainer.puppets import film
from trainer.puppets.clip import act
from trainer.puppets.framing import anchors
from trainer.puppets.parameters import COLUMN, NAMES, columns, identity
from trainer.puppets.render import render
from trainer.puppets.sentences import Manner, manner, speak_for
from trainer.puppets.speech import RATE_HZ

FPS: Final = 25
SIDECAR: Final = ".factors.json"
LAYOUTS: Final = ("plain", "voxceleb2")
_LEAD_S: Final = 0.2
_BATCH: Final = 4
_FLOOR: Final = 1.02
"""Where pictures end below, in the puppet's own coordinates: shoulders have no lower edge above it."""


@dataclass(frozen=True)
class WriteSetting:
    """width, height: of the pictures; a square one is filled by its face, as VoxCeleb2's own mp4s are."""

    clips: int
    width: int = 640
    height: int = 360
    seconds: float = 4.0
    seed: int = 1
    per_identity: int = 2
    """Clips of a person; every second one of them begins another video: other light, other clothes."""
    layout: str = "plain"


@dataclass(frozen=True)
class Written:
    """A clip by its names: mp4 and json under `folder`; boxes where the layout has them."""

    video: Path
    sidecar: Path
    boxes: Path | None


@dataclass(frozen=True)
class _Actor:
    """Everything of a clip but its pictures. frame_from_picture (2, 3): pixels (0 the first one's edge) of the video
    from the puppet's own coordinates."""

    rows_TP: torch.Tensor
    wave: NDArray[np.float32]
    frame_from_picture: NDArray[np.float64]
    facts: dict[str, Any]


def write_clips(folder: Path, setting: WriteSetting, done: Callable[[int, int], None] | None = None) -> list[Written]:
    """Write clips 0 .. N - 1, each a pure function of the setting and its number; those that are there stay.

    done: called with (clips ready, clips). plain: folder/person/video/clip.{mp4,json}. voxceleb2: the official two
    trees, folder/mp4/… and folder/txt/… (boxes); sidecars stand beside the mp4s.
    """
    if setting.layout not in LAYOUTS:
        raise ValueError(f"no layout {setting.layout!r}: one of {', '.join(LAYOUTS)}")
    written = []
    for number in range(setting.clips):
        here = _names(folder, setting, number)
        if not (here.video.exists() and here.sidecar.exists()):
            _write(here, setting, number)
        written.append(here)
        if done is not None:
            done(number + 1, setting.clips)
    return written


def _names(folder: Path, setting: WriteSetting, number: int) -> Written:
    person, clip = divmod(number, setting.per_identity)
    name = Path(f"id{person:05d}") / f"puppet{setting.seed:03d}{clip // 2:02d}" / f"{clip % 2 + 1:05d}"
    if setting.layout == "plain":
        path = folder / name
        return Written(path.with_suffix(".mp4"), path.with_suffix(SIDECAR), None)
    path = folder / "mp4" / name
    boxes = (folder / "txt" / name).with_suffix(".txt")
    return Written(path.with_suffix(".mp4"), path.with_suffix(SIDECAR), boxes)


def _write(names: Written, setting: WriteSetting, number: int) -> None:
    actor = _cast(setting, number)
    names.video.parent.mkdir(parents=True, exist_ok=True)
    unfinished = names.video.with_suffix(".mp4.tmp")
    film.video(unfinished, _pictures(actor, setting), FPS, actor.wave)
    if names.boxes is not None:
        names.boxes.parent.mkdir(parents=True, exist_ok=True)
        names.boxes.write_text(_boxes(actor, setting, names))
    names.sidecar.write_text(json.dumps(actor.facts, separators=(",", ":")) + "\n")
    unfinished.rename(names.video)


def _cast(setting: WriteSetting, number: int) -> _Actor:
    person, clip = divmod(number, setting.per_identity)
    who, scene = np.random.default_rng((setting.seed, person)), np.random.default_rng((setting.seed, person, clip // 2))
    dice = np.random.default_rng((setting.seed, person, clip, 7))
    how: Manner = manner(who)
    frames = round(setting.seconds * FPS)
    speech = speak_for(dice, how, frames / FPS - _LEAD_S)
    acted = act(speech, int(dice.integers(2**31)), FPS, _LEAD_S)
    rows = entangle(acted.parameters_TP, dice)[:frames]
    rows[:, columns("identity")] = identity(int(who.integers(2**31)))[columns("identity")]
    rows[:, columns("nuisance")] = identity(int(scene.integers(2**31)))[columns("nuisance")]
    samples = frames * RATE_HZ // FPS
    wave = np.pad(acted.wave, (0, max(0, samples - len(acted.wave))))[:samples]
    place = _place(setting, scene)
    facts = {
        "puppet": 1,
        "seed": setting.seed,
        "number": number,
        "person": person,
        "fps": FPS,
        "frames": frames,
        "width": setting.width,
        "height": setting.height,
        "voice": how.voice,
        "words_per_minute": how.words_per_minute,
        "pitch": how.pitch,
        "pitch_range": how.range,
        "text": speech.text,
        "phonemes": [[round(start + _LEAD_S, 3), name] for start, name in speech.phonemes],
        "frame_from_picture": place.round(6).tolist(),
        "parameters": {name: [round(v, 5) for v in rows[:, at].tolist()] for name, at in COLUMN.items()},
    }
    return _Actor(rows, wave, place, facts)


def _place(setting: WriteSetting, dice: np.random.Generator) -> NDArray[np.float64]:
    """Where the camera stands: head and shoulders at the lower edge, somewhere between the sides."""
    if setting.width == setting.height:
        unit, centre = setting.height / 2.0, np.array([0.0, 0.0])
    else:
        unit = setting.height / (2 * dice.uniform(1.1, 1.4))
        reach = max(0.0, setting.width / (2 * unit) - 1.15)  # nobody's shoulders leave the picture
        centre = np.array([-reach * dice.uniform(-0.8, 0.8), _FLOOR - setting.height / (2 * unit)])
    middle = np.array([setting.width, setting.height]) / 2
    return np.column_stack([np.eye(2) * unit, middle - unit * centre])


def _pictures(actor: _Actor, setting: WriteSetting) -> Iterator[NDArray[np.uint8]]:
    """Only a square as high as the picture is drawn: the background is the same along a row, so it goes on."""
    unit, left = actor.frame_from_picture[0, 0], actor.frame_from_picture[0, 2]
    side = setting.height
    first = round(min(max(left - side / 2, 0), max(setting.width - side, 0)))
    middle = (np.array([first, 0]) + side / 2 - actor.frame_from_picture[:, 2]) / unit
    square = torch.tensor(np.column_stack([np.eye(2) * side / (2 * unit), middle])).float()
    for rows in actor.rows_TP.split(_BATCH):
        drawn = film.pixels(render(rows, side, _BATCH, square.expand(len(rows), 2, 3)))
        over = setting.width - side - first
        if setting.width < side:
            at = (side - setting.width) // 2
            yield np.ascontiguousarray(drawn[:, :, at : at + setting.width])
        else:
            yield np.pad(drawn, ((0, 0), (0, 0), (first, over), (0, 0)), "edge")


def _boxes(actor: _Actor, setting: WriteSetting, names: Written) -> str:
    """The official text: facts of the clip, then a box a frame, in parts of the picture that the clip was cut from.

    Frames are numbered as in that longer video. A square clip was cut from the middle ninth of a square picture.
    """
    in_frame = anchors(actor.rows_TP).numpy() @ actor.frame_from_picture[:, :2].T + actor.frame_from_picture[:, 2]
    eyes = in_frame[:, :2].mean(1)
    side = 2.6 * np.linalg.norm(in_frame[:, 2] - eyes, axis=1)
    centre = (0.45 * eyes + 0.55 * in_frame[:, 2])[:, :]
    size, shift = np.array([setting.width, setting.height], np.float64), 0.0
    if setting.width == setting.height:
        size, shift = 3 * size, size
    corner = (centre - side[:, None] / 2 + shift) / size
    lines = [
        f"Identity  : \t{names.video.parent.parent.name}",
        f"Reference : \t{names.video.parent.name}",
        "Offset    : \t0",
        "FV Conf   : \t20.000\t(1)",
        "ASD Conf  : \t8.000",
        "",
        "FRAME \tX \tY \tW \tH ",
    ]
    first = 100 + 25 * (setting.seed % 1000)
    for t, ((x, y), edge) in enumerate(zip(corner, side, strict=True)):
        lines.append(f"{first + t:06d} \t{x:.3f} \t{y:.3f} \t{edge / size[0]:.3f} \t{edge / size[1]:.3f} ")
    return "\n".join(lines) + "\n"


def read_sidecar(data: str) -> tuple[torch.Tensor, NDArray[np.float64]]:
    """Parameters (T, P) and frame_from_picture (2, 3) of a sidecar's text. Raises ValueError for one that is not."""
    try:
        facts = json.loads(data)
        if facts["puppet"] != 1:
            raise ValueError("made by another version")
        rows = torch.tensor([facts["parameters"][name] for name in NAMES], dtype=torch.float32).T.contiguous()
        return rows, np.array(facts["frame_from_picture"], np.float64).reshape(2, 3)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no sidecar of a puppet clip: {error!r}") from error
