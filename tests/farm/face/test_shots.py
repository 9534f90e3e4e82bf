from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from farm.face.shots import THUMB, Shots, change, numbered


def scene(seed: int, shift: int = 0, light: float = 1.0) -> NDArray[np.float32]:
    """A smooth coloured picture of its own; shift moves it sideways."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[0:THUMB, 0:THUMB] / THUMB
    x = x + shift / THUMB
    waves = [
        0.5 + 0.4 * np.sin(2 * np.pi * (random.uniform(0.3, 2) * x + random.uniform(0.3, 2) * y + random.uniform()))
        for _ in range(3)
    ]
    tint = random.uniform(0.3, 1.0, 3)[:, None, None]
    return (np.stack(waves) * tint * light).clip(0, 1).astype(np.float32)


def number(thumbs: list[NDArray[np.float32]]) -> list[int]:
    shots = Shots()
    return numbered(np.array([shots.step(thumb) for thumb in thumbs], np.int32)).tolist()


def test_the_same_picture_has_not_changed() -> None:
    assert change(scene(1), scene(1)) == 0


@pytest.mark.parametrize("pair", [(1, 2), (3, 4), (5, 6), (7, 8)])
def test_a_cut_begins_a_shot(pair: tuple[int, int]) -> None:
    thumbs = [scene(pair[0], t // 4) for t in range(10)] + [scene(pair[1], t // 4) for t in range(10)]
    assert number(thumbs) == [0] * 10 + [1] * 10


def test_a_cut_in_the_second_frame() -> None:
    assert number([scene(1), scene(2), scene(2)]) == [0, 1, 1]


def test_a_pan_and_a_fade_are_no_cuts() -> None:
    assert set(number([scene(1, t) for t in range(30)])) == {0}
    assert set(number([scene(1, 0, 1 - t / 40) for t in range(40)])) == {0}


def test_a_flash_is_no_cut() -> None:
    white = np.ones((3, THUMB, THUMB), np.float32)
    assert set(number([scene(1)] * 6 + [white] * 2 + [scene(1)] * 6)) == {0}


def test_a_short_shot_between_two_others_is_one() -> None:
    assert number([scene(1)] * 6 + [scene(2)] * 6 + [scene(1)] * 6) == [0] * 6 + [1] * 6 + [2] * 6
