"""What is seen of an attempt, and what follows: the table that makes rows and processes agree."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from farm.domain.reconcile import (
    CALM,
    MOST_ATTEMPTS,
    PATIENCE,
    STALL,
    TURN,
    Asked,
    Carry,
    End,
    Life,
    Over,
    Report,
    Room,
    Seen,
    Wait,
    alerts,
    decide,
    make_room,
    report_of,
)
from farm.domain.run import MOVES, OPEN, Outcome, RunError, RunStatus, Standing, may_move

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LONG_AGO, JUST = NOW - timedelta(hours=1), NOW - timedelta(seconds=3)
R = RunStatus.RUNNING


def report(state: str, step: int = 50, error: RunError | None = None) -> Report:
    return Report(state, Standing(stage="lip", stage_number=1, step=step), error, "")


def asked(**values: object) -> Asked:
    return Asked(**{"status": R, "started_at": LONG_AGO, "began_at": (1, 20), **values})  # pyright: ignore


ALIVE = Seen(Life.ALIVE, report("running"))
GONE = Seen(Life.GONE)


@pytest.mark.parametrize(
    ("wants", "seen", "expected"),
    [
        (asked(), ALIVE, Carry()),
        (asked(), Seen(Life.ALIVE), Carry()),  # alive, has not said anything yet
        (asked(), Seen(Life.UNKNOWN), Wait),  # a cluster that does not answer says nothing about its jobs
        (asked(cancel=True), Seen(Life.UNKNOWN), Wait),
        # Cancel and room: softly, then for good, and not again and again.
        (asked(cancel=True), ALIVE, End(hard=False)),
        (asked(room=True), ALIVE, End(hard=False)),
        (asked(cancel=True, stop_asked_at=JUST), ALIVE, Carry()),
        (asked(cancel=True, stop_asked_at=LONG_AGO), ALIVE, End(hard=True)),
        # Ended.
        (asked(), Seen(Life.GONE, report("succeeded"), 0), (Outcome.SUCCEEDED, RunStatus.SUCCEEDED)),
        (asked(), Seen(Life.GONE, report("succeeded")), (Outcome.SUCCEEDED, RunStatus.SUCCEEDED)),  # seen by a later us
        (asked(cancel=True), Seen(Life.GONE, report("succeeded")), (Outcome.CANCELED, RunStatus.CANCELED)),
        (asked(cancel=True), GONE, (Outcome.CANCELED, RunStatus.CANCELED)),
        (asked(room=True), Seen(Life.GONE, report("stopped"), 3), (Outcome.STOPPED, RunStatus.QUEUED)),
        (asked(fruitless=2), Seen(Life.GONE, report("stopped", step=20), 3), (Outcome.STOPPED, RunStatus.QUEUED)),
        # Errors that come back.
        *(
            (
                asked(),
                Seen(Life.GONE, report("failed", error=RunError(code, "")), 1),
                (Outcome.FAILED, RunStatus.FAILED),
            )
            for code in ("nan", "diverged", "bad_dataset", "bad_override")
        ),
        (asked(), Seen(Life.GONE, None, 2), (Outcome.FAILED, RunStatus.FAILED)),
        # Killed: the row says running, nothing runs; status.json still says running.
        (asked(), Seen(Life.GONE, report("running")), (Outcome.LOST, RunStatus.QUEUED)),
        (asked(), Seen(Life.GONE, report("running"), -9), (Outcome.LOST, RunStatus.QUEUED)),
        (asked(), GONE, (Outcome.LOST, RunStatus.QUEUED)),
        # A bug is tried again as long as that gets anywhere.
        (asked(), Seen(Life.GONE, report("failed", error=RunError("bug", "x")), 1), (Outcome.FAILED, RunStatus.QUEUED)),
        (asked(fruitless=1), Seen(Life.GONE, report("running", 20)), (Outcome.LOST, RunStatus.QUEUED)),
        (asked(fruitless=2), Seen(Life.GONE, report("running", 20)), (Outcome.LOST, RunStatus.FAILED)),
        (asked(fruitless=2), Seen(Life.GONE, report("running", 21)), (Outcome.LOST, RunStatus.QUEUED)),
        (asked(attempts=MOST_ATTEMPTS), Seen(Life.GONE, report("running", 21)), (Outcome.LOST, RunStatus.FAILED)),
        # Just launched, not to be seen yet; a child that is known to have ended has ended.
        (asked(started_at=JUST), GONE, Wait),
        (asked(started_at=JUST), Seen(Life.GONE, None, -9), (Outcome.LOST, RunStatus.QUEUED)),
        (asked(started_at=JUST), Seen(Life.GONE, report("running")), (Outcome.LOST, RunStatus.QUEUED)),
    ],
)
def test_decide(wants: Asked, seen: Seen, expected: object) -> None:
    found = decide(wants, seen, NOW)
    if isinstance(expected, type):
        assert isinstance(found, expected)
    elif isinstance(expected, tuple):
        assert isinstance(found, Over)
        assert (found.outcome, found.then) == expected
        assert (found.then is RunStatus.FAILED) == (found.error is not None)
        assert may_move(RunStatus.CANCELING if wants.cancel else R, found.then)
    else:
        assert found == expected


def test_progress_forgives_earlier_losses() -> None:
    assert decide(asked(fruitless=2), Seen(Life.GONE, report("running", 21)), NOW).fruitless == 0  # pyright: ignore
    assert decide(asked(fruitless=1), Seen(Life.GONE, report("running", 20)), NOW).fruitless == 2  # pyright: ignore


def test_moves() -> None:
    assert set(MOVES) == set(RunStatus)
    assert MOVES[RunStatus.SUCCEEDED] == frozenset()
    for status in RunStatus:
        assert not may_move(status, status)
        if status in OPEN:
            assert MOVES[status], f"{status} would never end"
    assert not may_move(RunStatus.CANCELING, RunStatus.SUCCEEDED)
    assert may_move(RunStatus.FAILED, RunStatus.QUEUED)


def test_a_report_believes_nothing_that_does_not_fit() -> None:
    good = {"state": "running", "stage": "lip", "step": 3, "steps": 9, "losses": {"a": 1, "b": math.nan, "c": "x"}}
    found = report_of(good)
    assert found.standing.losses == {"a": 1.0, "b": None, "c": None}
    assert (found.standing.step, found.standing.steps, found.error) == (3, 9, None)
    for odd in (True, "7", None, [], {}, -5, math.inf, 1e300):
        assert 0 <= report_of({"step": odd, "losses": odd, "error": odd, "stage": odd}).standing.step <= 2**31
    assert report_of({"error": {"code": "nan", "detail": "d"}}).error == RunError("nan", "d")


def test_alerts() -> None:
    calm = Standing(losses={"a": 1.0})
    falling = [10 / (1 + n) + 1 for n in range(50)]
    assert alerts(calm, timedelta(0), falling) == {}
    assert list(alerts(calm, STALL + timedelta(seconds=1), falling)) == ["stall"]
    assert list(alerts(Standing(losses={"a": None, "b": 2.0}), timedelta(0), [])) == ["nan"]
    assert list(alerts(calm, timedelta(0), [*falling, *[200.0] * 5])) == ["divergence"]
    assert alerts(calm, timedelta(0), [1.0, 1.0, 500.0]) == {}  # too little to tell


def waits(times: int, room: Room, chunks: bool, step: timedelta = timedelta(seconds=1)) -> tuple[Room, int]:
    """After so many looks, and in how many the run made room."""
    now, made = room.since, 0
    for _ in range(times):
        now += step
        room = make_room(room, chunks, now)
        made += room.yielding
    return room, made


def test_a_run_makes_room_while_chunks_wait_and_gets_its_turn() -> None:
    room, made = waits(100, Room(False, NOW), chunks=False)
    assert made == 0
    room = make_room(room, True, NOW)
    assert room.yielding
    back = make_room(room, False, NOW + CALM - timedelta(seconds=1))
    assert back.yielding, "a moment without chunks is no calm yet"
    calm = make_room(back, False, NOW + CALM)
    assert not calm.yielding
    assert make_room(calm, True, NOW + CALM + timedelta(seconds=1)).yielding, "a turn begun in a calm is given up"
    # An endless backlog: PATIENCE of room, a TURN, and so on.
    seconds = int((PATIENCE + TURN).total_seconds())
    room, made = waits(10 * seconds, Room(True, NOW, NOW), chunks=True)
    assert made / (10 * seconds) == pytest.approx(PATIENCE / (PATIENCE + TURN), rel=0.02)
