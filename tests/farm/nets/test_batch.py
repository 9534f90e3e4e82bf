"""How the batch is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from farm.nets.batch import SIZES, USUAL, chosen, find, measured, tried
from farm.nets.bundle import load
from farm.nets.ready import ready


@pytest.mark.parametrize(
    ("speeds", "batch"),
    [
        ({1: 10.0, 2: 10.5, 4: 10.2, 8: 10.0}, 8),
        ({1: 12.0, 2: 10.0, 4: 9.0, 8: 8.0}, 1),
        ({1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0, 16: 15.0, 32: 15.5}, 16),
        ({1: 10.0, 2: 19.0, 4: 20.0}, 4),
        ({}, USUAL),
    ],
    ids=["all alike", "small is faster", "large is faster", "eight did not fit", "nothing tried"],
)
def test_the_usual_batch_unless_another_is_faster(speeds: dict[int, float], batch: int) -> None:
    assert chosen(speeds) == batch


@pytest.mark.parametrize(
    ("seconds_of", "full_after", "last"),
    [
        (lambda size: 0.1, 99, 128),
        (lambda size: 0.1 * size, 99, 16),
        (lambda size: 3.0 * size, 99, 4),
        (lambda size: 0.1, 3, 4),
    ],
    ids=["ever faster", "no faster", "slow", "full"],
)
def test_trying_ends(seconds_of: Callable[[int], float], full_after: int, last: int) -> None:
    asked: list[int] = []

    def timed(size: int) -> float:
        asked.append(size)
        return seconds_of(size)

    speeds = tried(SIZES, timed, lambda: len(asked) >= full_after)
    assert list(speeds) == asked
    assert asked[-1] == last


def test_what_does_not_fit_is_not_chosen() -> None:
    def seconds_of(size: int) -> float:
        if size >= 4:
            raise torch.OutOfMemoryError("none left")
        return 0.1

    assert chosen(tried(SIZES, seconds_of, lambda: False)) == 2


def test_a_real_bundle(tiny_folder: Path) -> None:
    loaded = ready(load(tiny_folder, torch.device("cpu")))
    speeds = measured(loaded, (1, 2))
    assert set(speeds) == {1, 2}
    assert all(speed > 0 for speed in speeds.values())
    assert find(loaded) == (USUAL, {})  # noise must not choose on processors
