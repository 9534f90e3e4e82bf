"""Assets as their tenant reads them."""

from __future__ import annotations

from farm.db.session import Session
from farm.domain.asset import Asset
from farm.domain.views import Page


def get(session: Session, tenant_id: str, asset_id: str) -> Asset | None: ...


def page(session: Session, tenant_id: str, *, cursor: str | None = None, page_size: int = 100) -> Page[Asset]:
    """Newest first."""
    raise NotImplementedError
