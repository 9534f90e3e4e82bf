"""Which times of a schedule are started, and what an open run of it means for the next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from farm.domain.cron import Cron
from farm.domain.run import RunSpec, RunStatus
from farm.domain.schedule import CatchUp, Due, Open, Overlap, Schedule, Skip, Start, due, enough, meet

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def hourly(catch_up: CatchUp, **values: object) -> Schedule:
    return Schedule("s", Cron("0 * * * *"), RunSpec("smoke"), catch_up=catch_up, **values)  # pyright: ignore


def at(hour: float) -> datetime:
    return NOON.replace(hour=0) + timedelta(hours=hour)


@pytest.mark.parametrize(
    ("catch_up", "since", "now", "start", "missed"),
    [
        # In time.
        (CatchUp.NONE, at(11.5), at(12.001), [12], 0),
        (CatchUp.NONE, at(12), at(12.5), [], 0),
        # Nobody was there from half past eight until twenty past twelve.
        (CatchUp.NONE, at(8.5), at(12.34), [], 4),
        (CatchUp.LATEST, at(8.5), at(12.34), [12], 3),
        (CatchUp.ALL, at(8.5), at(12.34), [10, 11, 12], 1),
        # ... and was back just at twelve.
        (CatchUp.NONE, at(8.5), at(12.01), [12], 3),
        (CatchUp.ALL, at(11.5), at(12.01), [12], 0),
        (CatchUp.LATEST, at(12), at(12), [], 0),
    ],
)
def test_due(catch_up: CatchUp, since: datetime, now: datetime, start: list[int], missed: int) -> None:
    found = due(hourly(catch_up, catch_up_most=3), since, now)
    assert found.start == tuple(at(hour) for hour in start)
    assert sum(firing.count for firing in found.missed) == missed


def test_a_long_absence_is_counted_up_to_a_thousand() -> None:
    minutely = Schedule("s", Cron("* * * * *"), RunSpec("smoke"), catch_up=CatchUp.LATEST)
    found = due(minutely, NOON - timedelta(days=365), NOON)
    assert found.start == (NOON,)
    assert [firing.count for firing in found.missed] == [999]


def test_paused_means_nothing() -> None:
    assert due(hourly(CatchUp.ALL, paused=True), at(0), at(12)) == Due()


def test_missed_across_the_lost_hour() -> None:
    """A night with the change in it: 2:30 fires at 3:00, once, whoever looks later."""
    schedule = Schedule("s", Cron("30 2 * * *", "Europe/Berlin"), RunSpec("smoke"), catch_up=CatchUp.ALL)
    found = due(schedule, datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 30, 12, tzinfo=UTC))
    assert found.start == (datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 3, 30, 0, 30, tzinfo=UTC))


RUNNING, QUEUED = Open("run_a", RunStatus.RUNNING), Open("run_b", RunStatus.QUEUED)


@pytest.mark.parametrize(
    ("overlap", "open_runs", "expected"),
    [
        (Overlap.FORBID, [], Start()),
        (Overlap.QUEUE, [], Start()),
        (Overlap.REPLACE, [], Start()),
        (Overlap.FORBID, [RUNNING], Skip),
        (Overlap.FORBID, [QUEUED], Skip),
        (Overlap.QUEUE, [RUNNING], Start(behind=True)),
        (Overlap.QUEUE, [QUEUED], Start(behind=True)),
        (Overlap.QUEUE, [RUNNING, QUEUED], Skip),
        (Overlap.REPLACE, [RUNNING, QUEUED], Start(("run_a", "run_b"), behind=True)),
        (Overlap.REPLACE, [Open("run_c", RunStatus.CANCELING)], Start((), behind=True)),
    ],
)
def test_meet(overlap: Overlap, open_runs: list[Open], expected: Start | type[Skip]) -> None:
    found = meet(overlap, open_runs)
    assert found == expected if isinstance(expected, Start) else isinstance(found, expected)


@pytest.mark.parametrize(
    ("wanted", "new", "skips"), [(0, None, False), (5, 5, False), (5, 4, True), (5, None, True), (1, 900, False)]
)
def test_enough(wanted: int, new: int | None, skips: bool) -> None:
    assert (enough(hourly(CatchUp.NONE, min_new_clips=wanted), new) is not None) == skips
