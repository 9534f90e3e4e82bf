"""Tenants and API keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from farm.db.rows import ApiKeyRow, TenantRow
from farm.db.session import Session
from farm.domain.quota import Rate


@dataclass(frozen=True)
class KeyRecord:
    id: str
    tenant_id: str
    name: str
    prefix: str
    secret_sha256: str
    scopes: tuple[str, ...]
    rate: Rate | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True)
class Holder:
    """A key as its verification sees it, with what its tenant adds. `ended`: revoked or past its time."""

    key: KeyRecord
    ended: bool
    is_operator: bool
    tenant_rate: Rate | None


def ensure_tenant(session: Session, tenant_id: str, name: str, *, operator: bool = False) -> str:
    """The id of the tenant of this name; `tenant_id` where it is new. The farm's first tenant runs it, and those that
    are made `operator`."""
    first = ~select(TenantRow.id).exists()
    new = insert(TenantRow).values(id=tenant_id, name=name, is_operator=first)
    session.execute(new.on_conflict_do_nothing(index_elements=["name"]))
    if operator:
        session.execute(update(TenantRow).where(TenantRow.name == name).values(is_operator=True))
    return session.scalars(select(TenantRow.id).where(TenantRow.name == name)).one()


def add(
    session: Session,
    key_id: str,
    tenant_id: str,
    *,
    name: str,
    prefix: str,
    secret_sha256: str,
    scopes: Sequence[str],
    expires_at: datetime | None = None,
    rate: Rate | None = None,
) -> None:
    values = {"name": name, "prefix": prefix, "secret_sha256": secret_sha256, "scopes": list(scopes)}
    limits = {"expires_at": expires_at, "rate_per_s": rate and rate.per_s, "rate_burst": rate and rate.burst}
    session.execute(insert(ApiKeyRow).values(id=key_id, tenant_id=tenant_id, **values, **limits))


def holder(session: Session, prefix: str) -> Holder | None:
    query = (
        select(ApiKeyRow, TenantRow, or_(ApiKeyRow.revoked_at.is_not(None), ApiKeyRow.expires_at <= func.now()))
        .join(TenantRow, TenantRow.id == ApiKeyRow.tenant_id)
        .where(ApiKeyRow.prefix == prefix)
        .execution_options(populate_existing=True)
    )
    found = session.execute(query).one_or_none()
    if found is None:
        return None
    key, tenant, ended = found
    return Holder(_record(key), bool(ended), tenant.is_operator, _rate(tenant))


def _rate(row: ApiKeyRow | TenantRow) -> Rate | None:
    return None if row.rate_per_s is None or row.rate_burst is None else Rate(row.rate_per_s, row.rate_burst)


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
        rate=_rate(row),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
