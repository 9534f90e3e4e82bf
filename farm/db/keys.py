"""Tenants and API keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from farm.db.rows import ApiKeyRow, TenantRow
from farm.db.session import Session


@dataclass(frozen=True)
class KeyRecord:
    id: str
    tenant_id: str
    name: str
    prefix: str
    secret_sha256: str
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None


def ensure_tenant(session: Session, tenant_id: str, name: str) -> str:
    """The id of the tenant of this name; `tenant_id` where it is new."""
    session.execute(insert(TenantRow).values(id=tenant_id, name=name).on_conflict_do_nothing(index_elements=["name"]))
    return session.scalars(select(TenantRow.id).where(TenantRow.name == name)).one()


def add(
    session: Session, key_id: str, tenant_id: str, *, name: str, prefix: str, secret_sha256: str, scopes: Sequence[str]
) -> None:
    values = {"name": name, "prefix": prefix, "secret_sha256": secret_sha256, "scopes": list(scopes)}
    session.execute(insert(ApiKeyRow).values(id=key_id, tenant_id=tenant_id, **values))


def by_prefix(session: Session, prefix: str) -> KeyRecord | None:
    row = session.scalar(select(ApiKeyRow).where(ApiKeyRow.prefix == prefix).execution_options(populate_existing=True))
    return None if row is None else _record(row)


def listed(session: Session, tenant_id: str) -> tuple[KeyRecord, ...]:
    """All keys of a tenant, oldest first, revoked ones too."""
    query = select(ApiKeyRow).where(ApiKeyRow.tenant_id == tenant_id).order_by(ApiKeyRow.id)
    return tuple(_record(row) for row in session.scalars(query.execution_options(populate_existing=True)))


def revoke(session: Session, tenant_id: str, id_or_prefix: str) -> str | None:
    """The key's id; None when the tenant has no such key; a key stays revoked since the first time."""
    change = (
        update(ApiKeyRow)
        .where(ApiKeyRow.tenant_id == tenant_id, or_(ApiKeyRow.id == id_or_prefix, ApiKeyRow.prefix == id_or_prefix))
        .values(revoked_at=func.coalesce(ApiKeyRow.revoked_at, func.now()))
        .returning(ApiKeyRow.id)
    )
    return session.scalar(change, execution_options={"synchronize_session": False})


def _record(row: ApiKeyRow) -> KeyRecord:
    return KeyRecord(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        prefix=row.prefix,
        secret_sha256=row.secret_sha256,
        scopes=tuple(row.scopes),
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )
