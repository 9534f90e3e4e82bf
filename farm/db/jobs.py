"""Jobs as their tenant reads them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from farm.db.session import Session
from farm.domain.job import JobStatus
from farm.domain.views import JobView, Page, ResultLine


def get(session: Session, tenant_id: str, job_id: str) -> JobView | None: ...


def page(
    session: Session,
    tenant_id: str,
    batch_id: str | None = None,
    *,
    status: JobStatus | None = None,
    updated_since: datetime | None = None,
    cursor: str | None = None,
    page_size: int = 100,
) -> Page[JobView]:
    """Of one batch in the order of its items, else all of the tenant, oldest first. Rejected("cursor_invalid")."""
    raise NotImplementedError


def results(session: Session, tenant_id: str, batch_id: str) -> Iterator[ResultLine]:
    """A line a job, in the order of the items; streams, so use it inside the transaction."""
    raise NotImplementedError
