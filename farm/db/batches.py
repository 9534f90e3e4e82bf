"""Batches as their tenant reads them."""

from __future__ import annotations

from datetime import datetime

from farm.db.session import Session
from farm.domain.job import BatchStatus
from farm.domain.views import BatchView, Page


def get(session: Session, tenant_id: str, batch_id: str) -> BatchView | None: ...


def page(
    session: Session,
    tenant_id: str,
    *,
    status: BatchStatus | None = None,
    updated_since: datetime | None = None,
    cursor: str | None = None,
    page_size: int = 100,
) -> Page[BatchView]:
    """Newest first. Rejected("cursor_invalid")."""
    raise NotImplementedError
