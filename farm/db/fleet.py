"""What the fleet can do now: live workers and their speed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import ColumnElement, func, select

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


def speed(session: Session) -> float:
    """Frames a second of all serving workers, as each was last seen to render; 0 when none was."""
    return float(session.scalar(select(func.sum(WorkerRow.frames_per_s)).where(serving)) or 0.0)


def serving_by_queue(session: Session) -> Mapping[str, int]:
    """How many serving workers listen to each queue."""
    listens = select(func.unnest(WorkerRow.queues).label("queue")).where(serving).subquery()
    query = select(listens.c.queue, func.count()).group_by(listens.c.queue)
    return dict(session.execute(query).all())
