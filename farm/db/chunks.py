"""Chunks and their attempts as their tenant reads them."""

from __future__ import annotations

from farm.db.session import Session
from farm.domain.views import ChunkView, Page


def page(
    session: Session, tenant_id: str, job_id: str, *, cursor: str | None = None, page_size: int = 100
) -> Page[ChunkView]:
    """In order: plan, render spans, finalize. Each with all its attempts."""
    raise NotImplementedError
