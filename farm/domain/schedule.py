"""Schedules of training runs: which of the times that came are started, and what stands in the way of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from farm.domain.cron import Cron
from farm.domain.run import RunSpec, RunStatus


class Overlap(StrEnum):
    """What happens when a schedule fires while a run of it is open. forbid: nothing. queue: one waits for its end.
    replace: the open ones are canceled, the new one waits for their end."""

    FORBID = "forbid"
    QUEUE = "queue"
    REPLACE = "replace"


class CatchUp(StrEnum):
    """What happens with times that came while nobody was there. none: nothing. latest: the newest is started.
    all: all are, up to the schedule's `most`, oldest first."""

    NONE = "none"
    LATEST = "latest"
    ALL = "all"


GRACE: Final = timedelta(seconds=90)
"""A time that is looked at so late was not missed: ticks come every few seconds, restarts take a minute."""
MOST_COUNTED: Final = 1000


@dataclass(frozen=True)
class Schedule:
    """catch_up_most: of `all`. min_new_clips: a firing starts only when the data has so many clips that the last run
    did not know; 0: always."""

    name: str
    cron: Cron
    spec: RunSpec
    overlap: Overlap = Overlap.FORBID
    catch_up: CatchUp = CatchUp.NONE
    catch_up_most: int = 5
    min_new_clips: int = 0
    paused: bool = False


class FiringOutcome(StrEnum):
    STARTED = "started"
    QUEUED = "queued"
    SKIPPED = "skipped"
    MISSED = "missed"


@dataclass(frozen=True)
class Firing:
    """What became of a time. count: 1, or how many missed times the entry stands for (at is the newest)."""

    at: datetime
    outcome: FiringOutcome
    reason: str
    run_id: str | None = None
    count: int = 1
    decided_at: datetime | None = None


@dataclass(frozen=True)
class ScheduleView:
    """next: its next fire times, none while it is paused. revision: counts its changes."""

    schedule: Schedule
    revision: int
    next: tuple[datetime, ...]
    firings: tuple[Firing, ...]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Due:
    """start: times to start a run for, oldest first. missed: the others."""

    start: tuple[datetime, ...] = ()
    missed: tuple[Firing, ...] = ()


def due(schedule: Schedule, since: datetime, now: datetime) -> Due:
    """What to do about the times in (since, now]. `since`: up to when they were seen to."""
    if schedule.paused:
        return Due()
    came = schedule.cron.back(now, since, MOST_COUNTED)
    if not came:
        return Due()
    match schedule.catch_up:
        case CatchUp.NONE:
            wanted = tuple(at for at in came[:1] if now - at <= GRACE)
            why = "missed: nobody was there in time (catch_up none)"
        case CatchUp.LATEST:
            wanted = came[:1]
            why = "missed: a later time stands for it (catch_up latest)"
        case CatchUp.ALL:
            wanted = came[: schedule.catch_up_most]
            why = f"missed: beyond the newest {schedule.catch_up_most} (catch_up all)"
    left = came[len(wanted) :]
    missed = (Firing(left[0], FiringOutcome.MISSED, why, count=len(left)),) if left else ()
    return Due(tuple(reversed(wanted)), missed)


@dataclass(frozen=True)
class Open:
    """A run of the schedule that has not ended."""

    run_id: str
    status: RunStatus


@dataclass(frozen=True)
class Start:
    """cancel: runs that make room first. behind: the new run waits for the end of open ones."""

    cancel: tuple[str, ...] = ()
    behind: bool = False


@dataclass(frozen=True)
class Skip:
    reason: str


def meet(overlap: Overlap, open_runs: Sequence[Open]) -> Start | Skip:
    """A firing meets the schedule's open runs."""
    if not open_runs:
        return Start()
    first = open_runs[0].run_id
    match overlap:
        case Overlap.FORBID:
            return Skip(f"{first} of this schedule has not ended (overlap forbid)")
        case Overlap.QUEUE:
            waiting = [run.run_id for run in open_runs if run.status is RunStatus.QUEUED]
            if waiting and len(open_runs) > 1:
                return Skip(f"{waiting[-1]} of this schedule waits already (overlap queue)")
            return Start(behind=True)
        case Overlap.REPLACE:
            going = tuple(run.run_id for run in open_runs if run.status is not RunStatus.CANCELING)
            return Start(cancel=going, behind=True)


def enough(schedule: Schedule, new_clips: int | None, why: str = "") -> Skip | None:
    """Whether the data has grown enough. new_clips None: nobody could tell, and why."""
    if schedule.min_new_clips <= 0:
        return None
    if new_clips is None:
        return Skip(f"its clips could not be counted: {why}" if why else "its clips could not be counted")
    if new_clips < schedule.min_new_clips:
        return Skip(f"{new_clips} new clips since the last run, {schedule.min_new_clips} are wanted")
    return None
