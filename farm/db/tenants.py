"""Tenants, their limits and what of them is used."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select, update

from farm.db import cursor as cursors
from farm.db.rows import AssetRow, JobRow, TenantRow, is_ready
from farm.db.session import Session
from farm.domain.quota import Quotas, Rate, Usage
from farm.domain.tenant import Tenant
from farm.domain.views import Page


def get(session: Session, tenant_id: str, *, lock: bool = False) -> Tenant | None:
    query = select(TenantRow).where(TenantRow.id == tenant_id)
    if lock:
        query = query.with_for_update(key_share=True)
    row = session.scalar(query.execution_options(populate_existing=True))
    return None if row is None else _tenant(row)


def page(session: Session, *, cursor: str | None = None, page_size: int = 100) -> Page[Tenant]:
    """Oldest first."""
    query = select(TenantRow).order_by(TenantRow.id).limit(cursors.limit(page_size))
    if cursor is not None:
        query = query.where(TenantRow.id > str(cursors.decode("tenants", cursor)))
    rows = session.scalars(query.execution_options(populate_existing=True))
    return cursors.page([_tenant(row) for row in rows], page_size, "tenants", lambda tenant: tenant.id)


def operators(session: Session) -> tuple[str, ...]:
    """Ids of the tenants that run the farm."""
    return tuple(session.scalars(select(TenantRow.id).where(TenantRow.is_operator).order_by(TenantRow.id)))


def change(session: Session, tenant_id: str, values: Mapping[str, Any]) -> None:
    if values:
        session.execute(update(TenantRow).where(TenantRow.id == tenant_id).values(**values))


def quotas(session: Session, tenant_id: str) -> Quotas:
    row = session.execute(
        select(TenantRow.quota_jobs_open, TenantRow.quota_frames_month, TenantRow.quota_storage_bytes).where(
            TenantRow.id == tenant_id
        )
    ).one()
    return Quotas(*row)


def take_turns(session: Session, tenant_id: str) -> None:
    """Wait until no other transaction of this tenant is between looking at its usage and adding to it."""
    digest = hashlib.sha256(f"quota\0{tenant_id}".encode()).digest()
    number = int.from_bytes(digest[:8], "big", signed=True)
    session.execute(select(func.pg_advisory_xact_lock(number)))


def usage(session: Session, tenant_id: str) -> Usage:
    own = JobRow.tenant_id == tenant_id
    month = func.date_trunc("month", func.now(), "UTC")
    # One statement, one snapshot: a job that ends meanwhile is counted once.
    open_jobs, open_frames = (
        select(value).where(own, JobRow.finished_at.is_(None)).scalar_subquery()
        for value in (func.count(), func.coalesce(func.sum(JobRow.frames_total), 0))
    )
    ended_frames = (
        select(func.coalesce(func.sum(JobRow.frames_done), 0))
        .where(own, JobRow.finished_at.is_not(None), JobRow.finished_at >= month)
        .scalar_subquery()
    )
    outputs = (
        select(func.coalesce(func.sum(JobRow.output_bytes), 0))
        .where(own, JobRow.output_bytes.is_not(None), JobRow.output_erased_at.is_(None))
        .scalar_subquery()
    )
    files = select(AssetRow.sha256, AssetRow.size_bytes).where(AssetRow.tenant_id == tenant_id, is_ready).distinct()
    assets = select(func.coalesce(func.sum(files.subquery().c.size_bytes), 0)).scalar_subquery()
    row = session.execute(select(open_jobs, open_frames, ended_frames, outputs + assets, month)).one()
    return Usage(int(row[0]), int(row[1] + row[2]), int(row[1]), int(row[3]), row[4])


def _tenant(row: TenantRow) -> Tenant:
    return Tenant(
        id=row.id,
        name=row.name,
        is_operator=row.is_operator,
        weight=row.weight,
        max_in_flight=row.max_in_flight,
        rate=Rate(row.rate_per_s, row.rate_burst) if row.rate_per_s and row.rate_burst else None,
        quotas=Quotas(row.quota_jobs_open, row.quota_frames_month, row.quota_storage_bytes),
        retention=row.retention or {},
        created_at=row.created_at,
    )
