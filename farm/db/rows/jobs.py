"""Batches, their jobs, and what is told of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKey,
    Identity,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from farm.db.rows.base import Row, now, one_of
from farm.domain.job import BatchStatus, JobStatus, Kind


class BatchRow(Row):
    """jobs_*: how many of its jobs are in each bucket of farm.domain.ripple; equal to the row sums at every commit."""

    __tablename__ = "batches"
    __table_args__ = (
        one_of("status", BatchStatus),
        CheckConstraint("priority BETWEEN 0 AND 100", name="priority"),
        CheckConstraint(
            "jobs_total = jobs_queued + jobs_running + jobs_succeeded + jobs_failed + jobs_canceled"
            " AND least(jobs_queued, jobs_running, jobs_succeeded, jobs_failed, jobs_canceled) >= 0",
            name="counts",
        ),
        Index("ix_batches_tenant_id_id", "tenant_id", "id"),
        Index("ix_batches_open", "id", postgresql_where=text("finished_at IS NULL")),
        Index("ix_batches_tenant_id_updated_at", "tenant_id", "updated_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str | None]
    status: Mapped[str]
    priority: Mapped[int]
    model: Mapped[str]
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id"))
    deadline: Mapped[datetime | None]
    # "metadata" itself is taken by SQLAlchemy's classes.
    user_metadata: Mapped[dict[str, Any]] = mapped_column("metadata")
    asked_by: Mapped[str | None]
    traceparent: Mapped[str | None]
    paused: Mapped[bool] = mapped_column(server_default=text("false"))
    cancel_asked: Mapped[bool] = mapped_column(server_default=text("false"))
    jobs_total: Mapped[int]
    jobs_queued: Mapped[int]
    jobs_running: Mapped[int] = mapped_column(server_default="0")
    jobs_succeeded: Mapped[int] = mapped_column(server_default="0")
    jobs_failed: Mapped[int] = mapped_column(server_default="0")
    jobs_canceled: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime] = now()
    updated_at: Mapped[datetime] = now()
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class JobRow(Row):
    """chunks_*, frames_done: sums over render chunks, equal to the rows at every commit. number: age, for claims.
    cohort: which of the two it got while a canary had a share of the jobs that ask for champion.

    *_erased_at: since when that class of its objects counts as gone; sweep_at: when the store is gone through for them
    (farm.flow.retain).
    """

    __tablename__ = "jobs"
    __table_args__ = (
        one_of("status", JobStatus),
        one_of("kind", Kind),
        CheckConstraint("priority BETWEEN 0 AND 100", name="priority"),
        CheckConstraint("chunks_done BETWEEN 0 AND chunks_total", name="chunks"),
        CheckConstraint("frames_done BETWEEN 0 AND frames_total", name="frames"),
        UniqueConstraint("batch_id", "ordinal"),
        UniqueConstraint("batch_id", "custom_id"),
        Index("ix_jobs_tenant_id_number", "tenant_id", "number"),
        Index("ix_jobs_ended", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
        Index("ix_jobs_tenant_id_updated_at", "tenant_id", "updated_at"),
        Index(
            "ix_jobs_deadline",
            "deadline",
            postgresql_where=text("finished_at IS NULL AND deadline IS NOT NULL"),
        ),
        Index("ix_jobs_finished_at", "finished_at", postgresql_where=text("status = 'succeeded'")),
        Index("ix_jobs_open", "tenant_id", postgresql_where=text("finished_at IS NULL")),
        Index(
            "ix_jobs_frames",
            "tenant_id",
            "finished_at",
            postgresql_include=["frames_done"],
            postgresql_where=text("finished_at IS NOT NULL"),
        ),
        Index(
            "ix_jobs_stored",
            "tenant_id",
            postgresql_include=["output_bytes"],
            postgresql_where=text("output_bytes IS NOT NULL AND output_erased_at IS NULL"),
        ),
        Index(
            "ix_jobs_chunks_due",
            "tenant_id",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL AND chunks_erased_at IS NULL"),
        ),
        Index(
            "ix_jobs_previews_due",
            "tenant_id",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL AND previews_erased_at IS NULL"),
        ),
        Index(
            "ix_jobs_output_due",
            "tenant_id",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL AND output IS NOT NULL AND output_erased_at IS NULL"),
        ),
        Index("ix_jobs_sweep_at", "sweep_at", postgresql_where=text("sweep_at IS NOT NULL")),
        one_of("cohort", ("champion", "canary")),
        Index("ix_jobs_cohort", "version_id", "created_at", postgresql_where=text("cohort IS NOT NULL")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, Identity(), unique=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.id"))
    ordinal: Mapped[int]
    custom_id: Mapped[str]
    kind: Mapped[str]
    status: Mapped[str]
    status_reason: Mapped[str] = mapped_column(server_default="")
    priority: Mapped[int]
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id"))
    cohort: Mapped[str | None]
    deadline: Mapped[datetime | None]
    spec: Mapped[dict[str, Any]]
    plan: Mapped[dict[str, Any] | None]
    output: Mapped[dict[str, Any] | None]
    output_bytes: Mapped[int | None] = mapped_column(
        BigInteger, Computed("((output -> 'blob') ->> 'size_bytes')::bigint", persisted=True)
    )
    rights: Mapped[dict[str, Any] | None]
    error_code: Mapped[str | None]
    error_detail: Mapped[str | None]
    frames_total: Mapped[int] = mapped_column(server_default="0")
    frames_done: Mapped[int] = mapped_column(server_default="0")
    chunks_total: Mapped[int] = mapped_column(server_default="0")
    chunks_done: Mapped[int] = mapped_column(server_default="0")
    scores: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    flags: Mapped[list[str]] = mapped_column(server_default=text("'{}'::text[]"))
    preview_key: Mapped[str | None]
    chunks_erased_at: Mapped[datetime | None]
    previews_erased_at: Mapped[datetime | None]
    output_erased_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    sweep_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = now()
    updated_at: Mapped[datetime] = now()
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class EventRow(Row):
    """Written only while its batch row is locked: ids then grow in commit order inside a batch (farm.db.events)."""

    __tablename__ = "events"
    __table_args__ = (
        Index("ix_events_batch_id_id", "batch_id", "id"),
        Index("ix_events_job_id_id", "job_id", "id", postgresql_where=text("job_id IS NOT NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    tenant_id: Mapped[str]
    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.id"))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    kind: Mapped[str]
    data: Mapped[dict[str, Any]]
    at: Mapped[datetime] = now()
