"""API keys as their tenant reads them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from farm.db.rows import ApiKeyRow
from farm.db.session import Session
from farm.domain.tenant import Scope


@dataclass(frozen=True)
class ApiKey:
    """What is kept of a key beside the SHA-256 of its secret."""

    id: str
    name: str
    prefix: str
    scopes: frozenset[Scope]
    created_at: datetime
    revoked_at: datetime | None


def listed(session: Session, tenant_id: str) -> tuple[ApiKey, ...]:
    """All keys of a tenant, newest first, revoked ones too."""
    rows = session.scalars(select(ApiKeyRow).where(ApiKeyRow.tenant_id == tenant_id).order_by(ApiKeyRow.id.desc()))
    return tuple(
        ApiKey(
            id=row.id,
            name=row.name,
            prefix=row.prefix,
            scopes=frozenset(Scope(scope) for scope in row.scopes),
            created_at=row.created_at,
            revoked_at=row.revoked_at,
        )
        for row in rows
    )
