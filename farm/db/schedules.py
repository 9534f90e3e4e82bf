"""Schedules of training runs, and what became of their times."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from farm.db.rows import FiringRow, ScheduleRow
from farm.db.runs import spec_of, spec_values
from farm.db.session import Session
from farm.domain.cron import Cron
from farm.domain.schedule import CatchUp, Firing, FiringOutcome, Overlap, Schedule

FIRINGS_SHOWN = 20


@dataclass(frozen=True)
class Kept:
    """A schedule with its book-keeping. seen_to: up to when its times were seen to. clips: key of the list of clips
    that its last run was started with. made_at: tells it from an earlier one of this name."""

    schedule: Schedule
    revision: int
    seen_to: datetime
    clips: str | None
    made_at: datetime
    updated_at: datetime


def get(session: Session, name: str) -> Kept | None:
    return _kept(session.get(ScheduleRow, name, populate_existing=True))


def lock(session: Session, name: str) -> Kept | None:
    query = select(ScheduleRow).where(ScheduleRow.name == name).with_for_update()
    return _kept(session.scalar(query.execution_options(populate_existing=True)))


def listed(session: Session) -> tuple[Kept, ...]:
    """By name."""
    rows = session.scalars(select(ScheduleRow).order_by(ScheduleRow.name).execution_options(populate_existing=True))
    return tuple(kept for row in rows if (kept := _kept(row)) is not None)


def due(session: Session, now: datetime) -> tuple[str, ...]:
    """Names of schedules whose time has come."""
    query = select(ScheduleRow.name).where(ScheduleRow.next_at <= now).order_by(ScheduleRow.next_at)
    return tuple(session.scalars(query))


def add(session: Session, schedule: Schedule, now: datetime, next_at: datetime | None) -> None:
    values = _values(schedule)
    session.execute(insert(ScheduleRow).values(name=schedule.name, seen_to=now, next_at=next_at, **values))


def replace(session: Session, schedule: Schedule, seen_to: datetime, next_at: datetime | None) -> None:
    change(
        session,
        schedule.name,
        seen_to=seen_to,
        next_at=next_at,
        revision=ScheduleRow.revision + 1,
        updated_at=func.now(),
        **_values(schedule),
    )


def change(session: Session, name: str, **values: Any) -> None:
    session.execute(
        update(ScheduleRow)
        .where(ScheduleRow.name == name)
        .values(**values)
        .execution_options(synchronize_session=False)
    )


def remove(session: Session, name: str) -> bool:
    gone = delete(ScheduleRow).where(ScheduleRow.name == name).returning(ScheduleRow.name)
    return session.scalar(gone, execution_options={"synchronize_session": False}) is not None


def add_firing(session: Session, name: str, firing: Firing) -> None:
    session.execute(
        insert(FiringRow).values(
            schedule=name,
            at=firing.at,
            outcome=firing.outcome.value,
            reason=firing.reason,
            count=firing.count,
            run_id=firing.run_id,
        )
    )


def firings(session: Session, name: str, since: datetime, limit: int = FIRINGS_SHOWN) -> tuple[Firing, ...]:
    """Newest first; `since`: those of an earlier schedule of this name are not this one's."""
    query = select(FiringRow).where(FiringRow.schedule == name, FiringRow.decided_at >= since)
    return tuple(
        Firing(row.at, FiringOutcome(row.outcome), row.reason, row.run_id, row.count, row.decided_at)
        for row in session.scalars(query.order_by(FiringRow.id.desc()).limit(limit))
    )


def _values(schedule: Schedule) -> dict[str, Any]:
    return {
        **spec_values(schedule.spec),
        "cron": schedule.cron.line,
        "timezone": schedule.cron.timezone,
        "overlap": schedule.overlap.value,
        "catch_up": schedule.catch_up.value,
        "catch_up_most": schedule.catch_up_most,
        "min_new_clips": schedule.min_new_clips,
        "paused": schedule.paused,
    }


def _kept(row: ScheduleRow | None) -> Kept | None:
    if row is None:
        return None
    schedule = Schedule(
        row.name,
        Cron(row.cron, row.timezone),
        spec_of(row),
        Overlap(row.overlap),
        CatchUp(row.catch_up),
        row.catch_up_most,
        row.min_new_clips,
        row.paused,
    )
    return Kept(schedule, row.revision, row.seen_to, row.clips, row.created_at, row.updated_at)
