"""The line of training runs: who makes way, and what those who wait are told."""

from __future__ import annotations

import pytest

from farm.domain.line import Training, Waiting, reasons, victim

LOW, MID, HIGH = Training("run_a", 10), Training("run_b", 50), Training("run_c", 90)


@pytest.mark.parametrize(
    ("first", "training", "expected"),
    [
        (Waiting("run_x", 60, preempts=True), (HIGH, MID, LOW), "run_a"),
        (Waiting("run_x", 60, preempts=False), (HIGH, MID, LOW), None),
        (Waiting("run_x", 50, preempts=True), (MID,), None),
        (Waiting("run_x", 60, preempts=True), (HIGH,), None),
        (Waiting("run_x", 60, preempts=True), (Training("run_d", 10), LOW, MID), "run_d"),
        (Waiting("run_x", 60, preempts=True), (LOW, Training("run_b", 90, leaves=True)), None),
        (Waiting("run_x", 60, preempts=True), (), None),
    ],
)
def test_the_lowest_makes_way_and_of_equals_the_youngest(
    first: Waiting, training: tuple[Training, ...], expected: str | None
) -> None:
    found = victim(first, training)
    assert (found and found.run_id) == expected


def told(*waiting: Waiting, training: tuple[Training, ...] = (MID,), renders_before: int | None = None) -> list[str]:
    found = reasons(waiting, training, renders_before)
    return [found[run.run_id] for run in waiting]


def test_those_who_wait_are_told_the_truth() -> None:
    assert told(Waiting("run_x", 50), training=()) == ["next in line"]
    assert told(Waiting("run_x", 80), Waiting("run_y", 80), Waiting("run_z", 50)) == [
        "waits for a place: run_b (priority 50) is training, of lower priority, but it may not preempt",
        "run_x (priority 80) is ahead of it",
        "run_x (priority 80) is ahead of it, and 1 more",
    ]
    assert told(Waiting("run_x", 50), training=(MID, HIGH)) == [
        "waits for a place: run_b (priority 50), run_c (priority 90) are training"
    ]
    leaving = Training("run_b", 50, leaves=True)
    assert told(Waiting("run_x", 80, preempts=True), training=(leaving, HIGH)) == ["next in line: run_b makes room"]


def test_rendering_stands_in_the_line_too() -> None:
    waiting = (Waiting("run_x", 100), Waiting("run_y", 99), Waiting("run_z", 50))
    assert told(*waiting, training=(), renders_before=100) == [
        "next in line",
        "makes room for rendering",
        "makes room for rendering",
    ]


def test_a_schedules_runs_follow_each_other_and_stand_in_nobodys_way() -> None:
    going = Training("run_b", 50, schedule="nightly")
    assert told(Waiting("run_x", 80, schedule="nightly"), Waiting("run_y", 50), training=(going,)) == [
        "run_b of its schedule has not ended",
        "waits for a place: run_b (priority 50) is training",
    ]
