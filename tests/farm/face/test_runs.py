from __future__ import annotations

import numpy as np
import pytest

from farm.face import runs

SCORE = {"#": 1.0, "+": 0.5, ".": 0.0}


def found(marks: str, shots: str | None = None) -> str:
    """#: surely there, +: between the thresholds, .: not there -> # and . after hysteresis, bridging and dropping."""
    score = np.array([SCORE[mark] for mark in marks], np.float32)
    shot = np.array([int(number) for number in shots or "0" * len(marks)], np.int32)
    return "".join("#" if is_in else "." for is_in in runs.bridged(runs.steady(score, shot), shot))


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ("##########", "##########"),
        ("###+++++##", "##########"),  # in the band it stays
        ("...+++++##", "........##"[:8] + ".."),  # and does not begin; two frames are too short a run
        ("...+++++###", "........###"),
        ("###...###", "#########"),  # three lost frames are bridged
        ("###....###", "###....###"),  # four are not
        ("...#......", ".........."),
        ("#", "#"),  # a still
        (".", "."),
        ("", ""),
        ("###+...+###", "####...+###".replace("+", ".")),
    ],
)
def test_found_does_not_flicker(marks: str, expected: str) -> None:
    assert found(marks) == expected


def test_a_cut_ends_a_run_and_is_not_bridged() -> None:
    assert found("####..####", "0000011111") == "####..####"
    shot = np.array([0, 0, 0, 1, 1, 1], np.int32)
    assert runs.runs(np.ones(6, bool), shot).tolist() == [0, 0, 0, 1, 1, 1]


def test_a_shot_may_be_shorter_than_a_run_must_be() -> None:
    assert found("######", "000112") == "######"


def test_runs_are_numbered_in_order() -> None:
    is_in = np.array([0, 1, 1, 0, 1, 0], bool)
    assert runs.runs(is_in, np.zeros(6, np.int32)).tolist() == [-1, 0, 0, -1, 1, -1]


def test_gaps_are_filled_by_straight_lines_inside_a_run() -> None:
    values = np.array([[1.0], [0.0], [0.0], [4.0], [9.0]], np.float32)
    known = np.array([True, False, False, True, True])
    runs.filled(values, known, np.array([0, 0, 0, 0, -1], np.int32))
    assert values[:, 0].tolist() == pytest.approx([1, 2, 3, 4, 9])


def test_a_face_turned_away_leaves_between_58_and_63_degrees() -> None:
    yaw = np.array([0, 50, 57, 64, 80, -57, -64], np.float32)
    score = runs.turned(yaw)
    assert (score[[0, 1]] == 1).all()
    assert (score[[2, 5]] > runs.ENTER).all()
    assert (score[[3, 6]] < runs.LEAVE).all()
    assert score[4] == 0


def shares(run: list[int], shot: list[int] | None = None, rate: float = 25.0) -> list[float]:
    return runs.share(np.array(run, np.int32), np.array(shot or [0] * len(run), np.int32), rate).tolist()


def test_a_face_that_is_lost_or_found_fades() -> None:
    assert shares([-1, 0, 0, 0, 0, 0, 0, 0, -1]) == [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0]
    assert shares([-1, 0, 0, 0, -1, 1, 1, 1]) == [0, 0.25, 0.5, 0.25, 0, 0.25, 0.5, 0.75]
    slow, fast = shares([-1] + [0] * 9, rate=12), shares([-1] + [0] * 9, rate=60)
    assert slow == [0, 0.5, 1, 1, 1, 1, 1, 1, 1, 1]
    assert fast == pytest.approx([k / 8 for k in range(9)] + [1])


def test_a_face_does_not_fade_at_a_cut_nor_where_the_video_begins_or_ends() -> None:
    assert shares([0, 0, 0, 0]) == [1, 1, 1, 1]
    assert shares([0, 0, 1, 1, -1, -1], [0, 0, 1, 1, 2, 2]) == [1, 1, 1, 1, 0, 0]
    assert shares([-1] * 3) == [0, 0, 0]
