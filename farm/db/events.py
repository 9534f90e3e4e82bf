"""The event log behind SSE."""

from __future__ import annotations

from farm.db.session import Session
from farm.domain.event import Event


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
    raise NotImplementedError
