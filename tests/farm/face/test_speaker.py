"""Who speaks: two puppets in one picture, each with words of its own, and the sound of one of them."""

from __future__ import annotations

import wave as wave_file
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from farm.domain.job import FaceSetting
from farm.face import speaker
from farm.face.nets import FaceNets
from farm.face.speaker import Sound
from farm.face.track import Track, Tracker
from farm.media import audio, mel
from farm.media.frame import Frame
from tests.farm.face.drawn_person import frame, picture_format
from trainer.puppets.clip import Clip, act
from trainer.puppets.parameters import columns
from trainer.puppets.render import render
from trainer.puppets.speech import RATE_HZ, say

SIDE, FPS, FRAMES = 160, 25, 105
TEXTS = (
    ("Open the window, my mother, and pay for the apple and the bread above the table.", "en-us+m5", 14),
    ("Una mañana de lluvia la abuela abre siempre la puerta y vamos poco a poco al pueblo.", "es+f3", 7),
)


def puppet(number: int) -> Clip:
    text, voice, seed = TEXTS[number]
    clip = act(say(text, voice), seed, FPS)
    assert len(clip.parameters_TP) >= FRAMES
    return clip


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [puppet(0), puppet(1)]


@pytest.fixture(scope="module")
def pictures(clips: list[Clip]) -> list[Frame]:
    """The left one is the larger, and nearer to the middle."""
    shown = []
    for clip, size in zip(clips, (SIDE, SIDE * 3 // 4), strict=True):
        rows = clip.parameters_TP[:FRAMES].clone()
        rows[:, columns("pose")] *= 0.3
        pictures = (render(rows, size) + 1) / 2
        shown.append(torch.nn.functional.pad(pictures, (0, 0, SIDE - size, 0), mode="replicate"))
    both = torch.cat(shown, 3).permute(0, 2, 3, 1).numpy()
    return [frame(np.ascontiguousarray(picture), k) for k, picture in enumerate(both)]


def sound_of(wave: NDArray[np.float32], folder: Path) -> Sound:
    with wave_file.open(str(folder / "given.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((wave * 32767).clip(-32768, 32767).astype("<i2").tobytes())
    audio.speech(folder / "given.wav", folder / "sound.wav")
    samples = audio.read(folder / "sound.wav", 0, audio.length(folder / "sound.wav"))
    return Sound(folder / "sound.wav", mel.rms(samples), np.arange(FRAMES) / FPS)


def is_left(track: Track) -> bool:
    return bool(track.anchors[track.found][:, :, 0].mean() < SIDE)


def test_the_face_that_moves_with_the_sound_is_taken(
    nets: FaceNets, clips: list[Clip], pictures: list[Frame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(nets, picture_format(pictures[0].y.shape[1], SIDE), FaceSetting())
    tracker.add(pictures)
    samples = FRAMES * RATE_HZ // FPS
    waves = {"left": clips[0].wave[:samples], "right": clips[1].wave[:samples], "quiet": np.zeros(samples, np.float32)}
    close = tracker._rows.close
    monkeypatch.setattr(tracker._rows, "close", lambda: None)  # so that it can be asked again
    assert is_left(tracker.finish())
    assert tracker.finish().faces_seen == 2
    found = {}
    for name, wave in waves.items():
        sound = sound_of(wave, tmp_path)
        found[name] = is_left(tracker.finish(lambda sound=sound: sound))
    close()
    assert found == {"left": True, "right": False, "quiet": True}


def test_nobody_is_preferred_to_the_main_face_without_need() -> None:
    assert speaker.chosen([3, 1], [0.5, 0.55]) == 0
    assert speaker.chosen([3, 1], [0.05, 0.15]) == 0
    assert speaker.chosen([3, 1], [0.05, 0.3]) == 1
    assert speaker.chosen([1, 3, 2], [0.0, 0.0, 0.0]) == 1


def test_windows_hold_only_what_can_be_judged() -> None:
    times = np.arange(300) / 25.0
    seen = np.array([*range(100), *range(110, 130), *range(220, 300)])
    assert [len(part) for part in speaker.windows(seen, times)] == [100, 80]
