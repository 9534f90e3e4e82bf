"""Answers kept under idempotency keys."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, func, insert, select

from farm.db.ledger import seconds_from_now
from farm.db.rows import IdempotencyRow
from farm.db.session import Session


def try_lock(session: Session, tenant_id: str, key: str) -> bool:
    """Hold the key until the transaction ends; False while another transaction holds it.

    An advisory lock leaves nothing behind when its process is killed, unlike a row that says "in flight".
    """
    digest = hashlib.sha256(f"idempotency\0{tenant_id}\0{key}".encode()).digest()
    number = int.from_bytes(digest[:8], "big", signed=True)
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(number))))


def find(session: Session, tenant_id: str, key: str) -> tuple[str, int, Mapping[str, Any], Mapping[str, str]] | None:
    """(request hash, status, body, headers)."""
    row = session.get(IdempotencyRow, (tenant_id, key), populate_existing=True)
    return None if row is None else (row.request_sha256, row.status, row.body, row.headers)


def add(
    session: Session,
    tenant_id: str,
    key: str,
    request_sha256: str,
    status: int,
    body: Mapping[str, Any],
    headers: Mapping[str, str],
) -> None:
    values = {"request_sha256": request_sha256, "status": status, "body": dict(body), "headers": dict(headers)}
    session.execute(insert(IdempotencyRow).values(tenant_id=tenant_id, key=key, **values))


def forget(session: Session, older_than_s: float) -> None:
    session.execute(delete(IdempotencyRow).where(IdempotencyRow.created_at < seconds_from_now(-older_than_s)))
