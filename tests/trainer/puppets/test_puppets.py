"""Puppets: every factor moves its own part of the picture, and speech moves the mouth as its phonemes say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.puppets import clip, speech
from trainer.puppets.parameters import COLUMN, GROUPS, NAMES, identity, neutral
from trainer.puppets.render import render

SIZE = 64
WHERE = {  # rows and columns of a 64 px picture that a factor of a frontal puppet may change
    "jaw": (slice(30, 64), slice(8, 56)),
    "lip_width": (slice(36, 56), slice(12, 52)),
    "pucker": (slice(36, 56), slice(12, 52)),
    "gaze_x": (slice(18, 42), slice(8, 56)),
    "gaze_y": (slice(18, 42), slice(8, 56)),
    "blink": (slice(18, 42), slice(8, 56)),
    "brow_raise": (slice(4, 42), slice(8, 56)),
    "mouth_corner": (slice(26, 64), slice(8, 56)),
}


@pytest.mark.parametrize("name", WHERE)
def test_a_factor_changes_its_own_place_and_nothing_else(name: str) -> None:
    pair = neutral(2)
    pair[1, COLUMN[name]] = 0.8
    first, second = render(pair, SIZE)
    change = (first - second).abs().sum(0)
    rows, columns = WHERE[name]
    inside = change[rows, columns].sum()
    assert inside > 5
    assert inside / change.sum() > 0.98


def test_every_parameter_is_legible() -> None:
    base = identity(5).repeat(len(NAMES) + 1, 1)
    base[:, COLUMN["hair_length"]] = 0.5
    for i, name in enumerate(NAMES):
        base[i + 1, COLUMN[name]] += -0.6 if base[0, COLUMN[name]] > 0 else 0.6
    pictures = render(base, SIZE)
    seen = (pictures[1:] - pictures[:1]).abs().mean((1, 2, 3))
    hidden = {name for name, change in zip(NAMES, seen, strict=True) if change < 5e-4}
    assert not hidden & {*GROUPS["lip"], *GROUPS["pose"], *GROUPS["gaze"], *GROUPS["blink"]}
    assert len(hidden) <= 2  # a beard or a furrow drawn from below zero shows nothing


def test_pictures_are_a_pure_function_of_seed_and_independent_of_the_batch() -> None:
    rows = torch.stack([identity(seed) for seed in range(5)])
    together, apart = render(rows, SIZE), torch.cat([render(row[None], SIZE) for row in rows])
    assert torch.allclose(together, apart, atol=1e-5)
    assert torch.equal(identity(3), identity(3))
    assert not torch.equal(identity(3), identity(4))


def test_lips_close_at_bilabials_and_open_at_open_vowels() -> None:
    spoken = speech.say("papa, mama, bobby saw a map and a pub.", "en-us+m3")
    shapes = speech.mouth_shapes(spoken)
    ends = [*(start for start, _ in spoken.phonemes[1:]), spoken.duration_s]

    def jaw_at(sounds: str) -> float:
        middles = [
            (start + end) / 2
            for (start, name), end in zip(spoken.phonemes, ends, strict=True)
            if name.lstrip("',%_|:;=")[:1] in sounds and name.lstrip("',%_|:;=")
        ]
        assert len(middles) >= 3
        return float(np.mean([shapes[int(at * speech.SHAPE_HZ), 0] for at in middles]))

    assert jaw_at("pbm") < 0.25
    assert jaw_at("aA0O") > 0.5


def test_a_clip_has_a_picture_for_every_moment_of_its_sound() -> None:
    acted = clip.act(speech.say("hello there"), seed=2, fps=25.0)
    assert len(acted.parameters_TP) / 25.0 == pytest.approx(len(acted.wave) / speech.RATE_HZ, abs=1 / speech.RATE_HZ)
    assert float(acted.parameters_TP[:, COLUMN["jaw"]].std()) > 0.05


def test_an_unknown_voice_is_named() -> None:
    with pytest.raises(ValueError, match="xx-nobody"):
        speech.say("hello", "xx-nobody")
