"""Curves come in pieces, are cut off anywhere, and give the same points however they were read."""

from __future__ import annotations

import json

import pytest

from farm.domain.curves import POINTS_A_STAGE, Read, read, stretch, thin
from farm.domain.run import Point

STAGES = {"lip": 2500, "compose": 40}


def text() -> bytes:
    lines = [{"stage": stage, "step": n, "a": n, "b": 1} for stage, steps in STAGES.items() for n in range(steps)]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def in_pieces(whole: bytes, size: int) -> list[Point]:
    points: list[Point] = []
    at = end = 0
    while end < len(whole):
        end = min(len(whole), end + size)
        found = read(whole[at:end], STAGES, ended=end == len(whole))
        points += found.points
        at += found.bytes
    return points


@pytest.mark.parametrize("size", [100, 1000, 4096, 10**9])
def test_points_do_not_depend_on_the_pieces(size: int) -> None:
    found = in_pieces(text(), size)
    assert found == list(read(text(), STAGES, ended=True).points)
    lips = [point for point in found if point.stage == "lip"]
    assert stretch(2500) == 3
    assert sum(point.steps for point in found) == 2540
    assert len(lips) <= POINTS_A_STAGE
    assert lips[0] == Point("lip", 3, 3, {"a": 1.0, "b": 1.0})
    assert (lips[-1].step, lips[-1].steps) == (2500, 1)


def test_what_is_no_line_is_passed_over() -> None:
    mixed = b'{"stage":"compose","step":0,"a":1}\nnonsense\n[1]\n{"stage":"compose","step":1,"a":NaN,"t":"x"}\n{"stage'
    assert read(mixed, STAGES) == Read(
        (Point("compose", 1, 1, {"a": 1.0}), Point("compose", 2, 1, {"a": None})), mixed.rindex(b"\n") + 1
    )


def test_thinned_curves_keep_their_end_and_their_mean() -> None:
    points = [Point("lip", n + 1, 1, {"a": float(n)}) for n in range(1001)]
    few = thin(points, 100)
    assert len(few) <= 100
    assert few[-1].step == 1001
    assert sum(point.losses["a"] * point.steps for point in few) == pytest.approx(sum(range(1001)))  # pyright: ignore
    assert thin(points[:5], 100) == tuple(points[:5])
