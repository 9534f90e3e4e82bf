"""What the fleet can do now: live workers and their speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import ColumnElement, Float, Select, cast, func, select, true

from farm.db.ledger import seconds_from_now
from farm.db.rows import WorkerRow
from farm.db.session import Session

WORKER_LOST_S: Final = 30.0

alive: ColumnElement[bool] = WorkerRow.left_at.is_(None) & (WorkerRow.heartbeat_at > seconds_from_now(-WORKER_LOST_S))
serving: ColumnElement[bool] = (
    alive
    & WorkerRow.draining.is_(False)
    & (WorkerRow.quarantined_until.is_(None) | (WorkerRow.quarantined_until <= func.now()))
)
"""May claim now, be it on trial."""


def speed(session: Session) -> float:
    """Frames a second of all serving workers, as each was last seen to render; 0 when none was."""
    return float(session.scalar(select(func.sum(WorkerRow.frames_per_s)).where(serving)) or 0.0)


def serving_by_queue(session: Session) -> Mapping[str, int]:
    """How many serving workers listen to each queue."""
    return by_queue(session)[0]


def by_queue(session: Session) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """How many live workers of each queue serve, and how many get nothing: they are draining or in quarantine."""
    listens = select(func.unnest(WorkerRow.queues).label("queue"), serving.label("serves")).where(alive).subquery()
    query = select(listens.c.queue, listens.c.serves, func.count()).group_by(listens.c.queue, listens.c.serves)
    found: dict[bool, dict[str, int]] = {True: {}, False: {}}
    for queue, serves, count in session.execute(query):
        found[serves][queue] = count
    return found[True], found[False]


def speeds(session: Session, version_id: str) -> Mapping[str, float]:
    """Frames a second of one worker with a version, by size class: the mean of the serving workers that measured it."""
    pairs = func.jsonb_each_text(WorkerRow.speeds[version_id]).table_valued("key", "value", name="pairs")
    query = (
        select(pairs.c.key, func.avg(cast(pairs.c.value, Float)))
        .select_from(WorkerRow)
        .join(pairs, true())
        .where(serving, WorkerRow.speeds.has_key(version_id))
        .group_by(pairs.c.key)
    )
    return {row[0]: float(row[1]) for row in session.execute(query)}


def others(session: Session, queue: str, than: str) -> tuple[str, ...]:
    """The workers in good standing that listen to a queue, other than one."""
    return tuple(session.scalars(_good(queue, [than])))


def has_other(session: Session, queue: str, than: Sequence[str]) -> bool:
    """Whether a worker in good standing listens to a queue, other than those named."""
    return session.scalar(_good(queue, than).limit(1)) is not None


def _good(queue: str, but: Sequence[str]) -> Select[str]:
    good = serving & WorkerRow.quarantined_until.is_(None) & WorkerRow.queues.contains([queue])
    return select(WorkerRow.id).where(good, WorkerRow.id.not_in(but))
