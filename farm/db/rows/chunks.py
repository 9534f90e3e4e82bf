"""Chunks with their attempts, and what tenants share queues by."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from farm.db.rows.base import OFTEN_VACUUMED, Row, now, one_of
from farm.domain.chunk import ChunkStatus, Reason, Work


class ShareRow(Row):
    """What a tenant has had of a queue. virtual_time: work handed out, in frames over the tenant's weight; who has had
    the least comes next. active: it may have claimable chunks; false is only said of those that have none
    (farm.db.shares). turn, level: where the round through its priorities stands.

    A claim's only common row, written again and again: half of each page is left free for its next versions.
    """

    __tablename__ = "shares"
    __table_args__ = (
        Index("ix_shares_active", "queue", postgresql_where=text("active")),
        {"postgresql_with": {"fillfactor": 50, **OFTEN_VACUUMED}},
    )

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    queue: Mapped[str] = mapped_column(primary_key=True)
    virtual_time: Mapped[float] = mapped_column(server_default="0")
    active: Mapped[bool] = mapped_column(server_default=text("false"))
    turn: Mapped[int] = mapped_column(server_default="0")
    level: Mapped[int] = mapped_column(server_default="101")


class ChunkRow(Row):
    """attempts_spared: attempts before the last retry by a user; they no longer count against the chunk.
    version_id: of its job, for workers that have it loaded. failed_by: workers that failed it; others go first."""

    __tablename__ = "chunks"
    __table_args__ = (
        one_of("work", Work),
        one_of("status", ChunkStatus),
        CheckConstraint("start >= 0 AND stop >= start", name="span"),
        CheckConstraint(
            "(status = 'leased') = (token IS NOT NULL)"
            " AND (status = 'leased') = (lease_expires_at IS NOT NULL)"
            " AND (status = 'leased') = (worker_id IS NOT NULL)",
            name="leased_has_lease",
        ),
        UniqueConstraint("job_id", "ordinal"),
        Index(
            "ix_chunks_claim",
            "queue",
            "tenant_id",
            text("priority DESC"),
            "job_number",
            "ordinal",
            postgresql_where=text("status = 'waiting' AND NOT held"),
        ),
        Index("ix_chunks_lease", "lease_expires_at", postgresql_where=text("status = 'leased'")),
        Index("ix_chunks_leased_job", "job_id", postgresql_where=text("status = 'leased'")),
        Index("ix_chunks_worker", "worker_id", postgresql_where=text("status = 'leased'")),
        Index("ix_chunks_in_flight", "tenant_id", "queue", postgresql_where=text("status = 'leased'")),
        Index("ix_chunks_held", "queue", postgresql_where=text("status = 'waiting' AND held")),
        {"postgresql_with": OFTEN_VACUUMED},
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    job_number: Mapped[int] = mapped_column(BigInteger)
    ordinal: Mapped[int]
    work: Mapped[str]
    status: Mapped[str]
    held: Mapped[bool] = mapped_column(server_default=text("false"))
    queue: Mapped[str]
    priority: Mapped[int]
    start: Mapped[int] = mapped_column(server_default="0")
    stop: Mapped[int] = mapped_column(server_default="0")
    available_at: Mapped[datetime] = now()
    attempts: Mapped[int] = mapped_column(server_default="0")
    attempts_spared: Mapped[int] = mapped_column(server_default="0")
    batch_frames: Mapped[int | None]
    version_id: Mapped[str | None]
    failed_by: Mapped[list[str] | None]
    token: Mapped[str | None]
    worker_id: Mapped[str | None]
    leased_at: Mapped[datetime | None]
    lease_expires_at: Mapped[datetime | None]
    phase: Mapped[str | None]
    frames_done: Mapped[int] = mapped_column(server_default="0")
    frames_per_s: Mapped[float] = mapped_column(server_default="0")
    preview_key: Mapped[str | None]
    segment: Mapped[dict[str, Any] | None]
    updated_at: Mapped[datetime] = now()
    finished_at: Mapped[datetime | None]


class AttemptRow(Row):
    """swept_at: since when what a lost attempt had stored is gone (farm.flow.retain)."""

    __tablename__ = "attempts"
    __table_args__ = (
        one_of("outcome", ("running", "succeeded", "failed", "returned")),
        one_of("reason", Reason),
        CheckConstraint("(outcome = 'running') = (finished_at IS NULL)", name="finished"),
        CheckConstraint("outcome <> 'failed' OR reason IS NOT NULL", name="failed_has_reason"),
        Index("ix_attempts_ended", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
        Index("ix_attempts_failed", "worker_id", "finished_at", postgresql_where=text("outcome = 'failed'")),
        Index(
            "ix_attempts_strays",
            "finished_at",
            postgresql_where=text("outcome IN ('failed', 'returned') AND swept_at IS NULL"),
        ),
        {"postgresql_with": OFTEN_VACUUMED},
    )

    chunk_id: Mapped[str] = mapped_column(ForeignKey("chunks.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    token: Mapped[str] = mapped_column(unique=True)
    worker_id: Mapped[str]
    outcome: Mapped[str]
    reason: Mapped[str | None]
    code: Mapped[str | None]
    detail: Mapped[str | None]
    seconds: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    started_at: Mapped[datetime] = now()
    finished_at: Mapped[datetime | None]
    swept_at: Mapped[datetime | None]


class MetricRow(Row):
    """Counters of what has ended, and samples (farm.db.metrics)."""

    __tablename__ = "metrics"

    name: Mapped[str] = mapped_column(primary_key=True)
    data: Mapped[dict[str, Any]]
    at: Mapped[datetime] = now()
