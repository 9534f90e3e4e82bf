"""An asset: bytes that a tenant uploaded to the farm."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from farm.domain.order import Blob


class AssetStatus(StrEnum):
    PENDING = "pending"  # made, its bytes not yet confirmed
    READY = "ready"
    EXPIRED = "expired"  # its bytes were erased, by policy or by request


@dataclass(frozen=True)
class Asset:
    """`blob` is set once ready. Two ready assets of a tenant with the same bytes share one blob."""

    id: str
    tenant_id: str
    status: AssetStatus
    filename: str | None
    content_type: str | None
    blob: Blob | None
    created_at: datetime
