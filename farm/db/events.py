"""The event log behind SSE.

A sequence hands out ids before their transactions commit, so that a reader could see 7, and 6 only later. Events are
therefore written under their batch's row lock, last in the transaction: inside a batch, ids grow in commit order.
"""

from __future__ import annotations

from sqlalchemy import select

from farm.db.rows import EventRow
from farm.db.session import Session
from farm.domain.event import Event, EventKind


def after(
    session: Session,
    tenant_id: str,
    *,
    batch_id: str | None = None,
    job_id: str | None = None,
    last_id: int = 0,
    limit: int = 500,
) -> tuple[Event, ...]:
    """Events of one batch or one job with id > last_id, oldest first. None is ever missed: ids grow in commit order
    inside a batch."""
    if (batch_id is None) == (job_id is None):
        raise ValueError("one of batch_id and job_id")
    query = select(EventRow).where(EventRow.tenant_id == tenant_id, EventRow.id > last_id)
    query = query.where(EventRow.batch_id == batch_id if job_id is None else EventRow.job_id == job_id)
    return tuple(
        Event(
            id=row.id,
            kind=EventKind(row.kind),
            batch_id=row.batch_id,
            job_id=row.job_id,
            at=row.at,
            data=row.data,
        )
        for row in session.scalars(query.order_by(EventRow.id).limit(limit))
    )
