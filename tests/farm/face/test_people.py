"""Whose face is whose: tables of boxes, no pictures."""

from __future__ import annotations

import numpy as np
import pytest

from farm.face.likeness import Likeness
from farm.face.people import Box, Linker, Person, Seen, at_point, people


def looks(person: int) -> Likeness:
    """Two persons are 0.5 + 0.5 apart, the same one 0."""
    pattern = np.zeros(20, np.float32)
    pattern[person] = 1
    return Likeness(pattern, np.zeros(20, np.float32))


def box(x: float, y: float = 100, size: float = 40) -> Box:
    return x - size / 2, y - size / 2, x + size / 2, y + size / 2


def follow(frames: list[list[tuple[int, Box]]], shots: list[int] | None = None) -> list[Person]:
    """frames: the (person, box) seen in each. row = 100 * person + frame."""
    linker = Linker()
    for t, faces in enumerate(frames):
        seen = [Seen(where, looks(person), 1000 * person + t) for person, where in faces]
        linker.step(t, shots[t] if shots else 0, seen)
    return people(linker.tracklets, len(frames))


def told_apart(found: list[Person]) -> list[set[int]]:
    """Who was taken for one person, for each."""
    return [{row // 1000 for tracklet in person.tracklets for row in tracklet.rows} for person in found]


def test_one_face_is_one_person() -> None:
    found = follow([[(1, box(100 + t))] for t in range(30)])
    assert told_apart(found) == [{1}]
    assert found[0].frames == 30


def test_two_faces_crossing_keep_their_names() -> None:
    found = follow([[(1, box(100 + 5 * t)), (2, box(300 - 5 * t))] for t in range(40)])
    assert sorted(map(tuple, told_apart(found))) == [(1,), (2,)]
    assert [person.frames for person in found] == [40, 40]


def test_two_faces_crossing_with_one_hidden_behind_the_other() -> None:
    frames = [[(1, box(100 + 5 * t)), (2, box(300 - 5 * t))] for t in range(40)]
    for t in range(16, 25):
        frames[t] = frames[t][:1]
    found = follow(frames)
    assert sorted(map(tuple, told_apart(found))) == [(1,), (2,)]
    assert sorted(person.frames for person in found) == [31, 40]


@pytest.mark.parametrize("gap", [1, 2, 3])
def test_a_short_loss_does_not_end_a_tracklet(gap: int) -> None:
    frames = [[(1, box(100 + t))] if not 10 <= t < 10 + gap else [] for t in range(30)]
    found = follow(frames)
    assert len(found[0].tracklets) == 1


def test_back_after_a_long_loss_in_one_shot() -> None:
    frames = [[(1, box(100))] if not 10 <= t < 40 else [] for t in range(60)]
    assert [person.frames for person in follow(frames)] == [30]


def test_another_face_in_the_same_place_is_not_the_same_person() -> None:
    frames = [[(1 if t < 20 else 2, box(100))] for t in range(40)]
    assert told_apart(follow(frames)) == [{1}, {2}]


def test_the_same_face_across_a_cut() -> None:
    frames = [[(1, box(100))] for _ in range(20)] + [[(1, box(260, size=90))] for _ in range(20)]
    found = follow(frames, [0] * 20 + [1] * 20)
    assert told_apart(found) == [{1}]
    assert len(found[0].tracklets) == 2


def test_dialogue_in_alternating_shots() -> None:
    who = [1] * 20 + [2] * 15 + [1] * 20 + [2] * 15
    shots = [0] * 20 + [1] * 15 + [2] * 20 + [3] * 15
    found = follow([[(person, box(150))] for person in who], shots)
    assert told_apart(found) == [{1}, {2}]
    assert [person.frames for person in found] == [40, 30]


def test_nobody_is_in_two_places_at_once() -> None:
    found = follow([[(1, box(100)), (1, box(300))] for _ in range(20)])
    assert [person.frames for person in found] == [20, 20]


def test_a_glimpse_is_no_person_unless_the_video_is_one() -> None:
    assert len(follow([[(1, box(100))] + ([(2, box(300))] if t == 7 else []) for t in range(20)])) == 1
    assert len(follow([[(1, box(100)), (2, box(300))]])) == 2


@pytest.mark.parametrize(
    ("frame", "point", "hit"),
    [
        (5, (100, 100), 0),
        (5, (122, 100), 0),  # just outside the box
        (5, (300, 110), 1),
        (5, (200, 100), None),  # between the two
        (7, (100, 100), 0),  # that face is not in the frame, but two before
        (9, (100, 100), None),
    ],
)
def test_which_face_is_pointed_at(frame: int, point: tuple[float, float], hit: int | None) -> None:
    assert at_point([(5, box(100)), (5, box(300))], frame, point) == hit
