"""Tenants with their keys, what their requests answered, and who did what."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from farm.db.rows.base import Row, now


class TenantRow(Row):
    """is_operator: its admins run the farm for everybody. weight: its share of every queue beside the other tenants'
    weights. max_in_flight: chunks that workers may hold of it at once, on each queue; empty for no cap, 0 for none at
    all. Other empty limits: the farm's own; retention: days by class, where it is another than the farm's."""

    __tablename__ = "tenants"
    __table_args__ = (
        CheckConstraint("weight > 0 AND weight <= 1000", name="weight"),
        CheckConstraint("max_in_flight >= 0", name="max_in_flight"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    weight: Mapped[float] = mapped_column(server_default="1")
    max_in_flight: Mapped[int | None]
    is_operator: Mapped[bool] = mapped_column(server_default=text("false"))
    rate_per_s: Mapped[float | None]
    rate_burst: Mapped[int | None]
    quota_jobs_open: Mapped[int | None]
    quota_frames_month: Mapped[int | None] = mapped_column(BigInteger)
    quota_storage_bytes: Mapped[int | None] = mapped_column(BigInteger)
    retention: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = now()


class ApiKeyRow(Row):
    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    name: Mapped[str]
    prefix: Mapped[str] = mapped_column(unique=True)
    secret_sha256: Mapped[str]
    scopes: Mapped[list[str]]
    rate_per_s: Mapped[float | None]
    rate_burst: Mapped[int | None]
    created_at: Mapped[datetime] = now()
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class IdempotencyRow(Row):
    __tablename__ = "idempotency_keys"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_sha256: Mapped[str]
    status: Mapped[int]
    body: Mapped[dict[str, Any]]
    headers: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class AuditRow(Row):
    """tenant_id: whose admins read it; empty for what all tenants share. Actions are not constrained: a log outlives
    the code that wrote it."""

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("ix_audit_log_tenant_id_id", "tenant_id", "id"),
        Index("ix_audit_log_actor_tenant_id_id", "actor_tenant_id", "id"),
        Index("ix_audit_log_subject_id", "subject", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    tenant_id: Mapped[str | None]
    actor_tenant_id: Mapped[str | None]
    actor_key_id: Mapped[str | None]
    actor_name: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[dict[str, Any]]
    at: Mapped[datetime] = now()
