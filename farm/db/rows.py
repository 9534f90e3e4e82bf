"""The tables. Only farm.db reads or writes them; everybody else sees nouns of farm.domain.

What is copied downwards, and why: a chunk carries what a claim sorts and filters by (queue, priority, job_number,
held), so that handing out one of a million waiting chunks reads one index entry and joins nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    Computed,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    MetaData,
    Text,
    UniqueConstraint,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from farm.domain.asset import AssetStatus
from farm.domain.chunk import ChunkStatus, Reason, Work
from farm.domain.job import BatchStatus, JobStatus, Kind
from farm.domain.run import OnSuccess, Outcome, RunStatus
from farm.domain.schedule import CatchUp, FiringOutcome, Overlap
from farm.domain.webhook import DeliveryStatus


class Row(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own declaration
        str: Text(),
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
        list[str]: ARRAY(Text()),
    }


_OFTEN_VACUUMED: Final = {
    "autovacuum_vacuum_scale_factor": 0.005,
    "autovacuum_vacuum_threshold": 500,
    "autovacuum_analyze_scale_factor": 0.02,
    "autovacuum_vacuum_cost_delay": 0,
}
"""Tables that every claim changes: dead entries gather where the next claim looks first."""


def _one_of(column: str, values: Iterable[StrEnum] | tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _now() -> Mapped[datetime]:
    return mapped_column(server_default=func.now())


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
    created_at: Mapped[datetime] = _now()


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
    created_at: Mapped[datetime] = _now()
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


class AssetRow(Row):
    __tablename__ = "assets"
    __table_args__ = (
        _one_of("status", AssetStatus),
        CheckConstraint("(status = 'ready') = (blob_key IS NOT NULL)", name="ready_has_blob"),
        Index("ix_assets_tenant_id_sha256", "tenant_id", "sha256", postgresql_where=text("status = 'ready'")),
        Index("ix_assets_tenant_id_id", "tenant_id", "id"),
        Index("ix_assets_blob_key", "blob_key", postgresql_where=text("status = 'ready'")),
        Index("ix_assets_used_at", "tenant_id", "used_at", postgresql_where=text("status <> 'expired'")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    status: Mapped[str]
    filename: Mapped[str | None]
    content_type: Mapped[str | None]
    blob_key: Mapped[str | None]
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None]
    created_at: Mapped[datetime] = _now()
    used_at: Mapped[datetime] = _now()
    expired_at: Mapped[datetime | None]


class VersionRow(Row):
    """lineage, reports, gate: documents of farm.domain.version. evaluation: the JSON that the gate reads.
    unusable: why no worker can render with it."""

    __tablename__ = "versions"
    __table_args__ = (UniqueConstraint("model", "name"), UniqueConstraint("model", "id"))

    id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"))
    name: Mapped[str]
    bundle_key: Mapped[str]
    bundle_sha256: Mapped[str]
    manifest: Mapped[dict[str, Any]]
    trained: Mapped[bool]
    licence: Mapped[str]
    lineage: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    evaluation: Mapped[dict[str, Any] | None]
    reports: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    gate: Mapped[dict[str, Any] | None]
    unusable: Mapped[str | None]
    created_at: Mapped[datetime] = _now()


class ModelRow(Row):
    """gate, canary: documents of farm.domain.gate and farm.domain.canary; empty for the defaults."""

    __tablename__ = "models"

    name: Mapped[str] = mapped_column(primary_key=True)
    gate: Mapped[dict[str, Any] | None]
    canary: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = _now()


class AliasRow(Row):
    """revision: how often it was changed. share: of new jobs that ask for champion, where this is the canary. since:
    when it came to its version. watched_at: when its scores were last looked at (farm.flow.canary)."""

    __tablename__ = "aliases"
    __table_args__ = (
        ForeignKeyConstraint(["model", "version_id"], ["versions.model", "versions.id"]),
        CheckConstraint("share BETWEEN 0 AND 1", name="share"),
    )

    model: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[str]
    share: Mapped[float | None]
    revision: Mapped[int] = mapped_column(BigInteger, server_default="1")
    since: Mapped[datetime] = _now()
    watched_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = _now()


class StagingRow(Row):
    """An alias that moves once workers have the version, or at `until`. move: a document of farm.domain.alias."""

    __tablename__ = "stagings"
    __table_args__ = (ForeignKeyConstraint(["model", "version_id"], ["versions.model", "versions.id"]),)

    model: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[str]
    move: Mapped[dict[str, Any]]
    since: Mapped[datetime] = _now()
    until: Mapped[datetime]


class AliasMoveRow(Row):
    """undone: a promotion that a rollback took back; the next rollback goes further back. share: the canary's from then
    on. reasons: why a promotion was below the gate (forced), or why a canary was stopped."""

    __tablename__ = "alias_moves"
    __table_args__ = (
        _one_of("kind", ("promote", "rollback", "share", "stop")),
        ForeignKeyConstraint(["model", "alias"], ["aliases.model", "aliases.name"]),
        Index("ix_alias_moves_model_alias_id", "model", "alias", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    model: Mapped[str]
    alias: Mapped[str]
    kind: Mapped[str]
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id"))
    previous_version_id: Mapped[str | None] = mapped_column(ForeignKey("versions.id"))
    actor: Mapped[str]
    share: Mapped[float | None]
    forced: Mapped[bool] = mapped_column(server_default=text("false"))
    reasons: Mapped[list[str]] = mapped_column(server_default=text("'{}'::text[]"))
    undone: Mapped[bool] = mapped_column(server_default=text("false"))
    at: Mapped[datetime] = _now()


class BatchRow(Row):
    """jobs_*: how many of its jobs are in each bucket of farm.domain.ripple; equal to the row sums at every commit."""

    __tablename__ = "batches"
    __table_args__ = (
        _one_of("status", BatchStatus),
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
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()
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
        _one_of("status", JobStatus),
        _one_of("kind", Kind),
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
        _one_of("cohort", ("champion", "canary")),
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
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class ConsentRow(Row):
    """That a job's source video may be trained on, until withdrawn_at. asked_by, withdrawn_by: keys."""

    __tablename__ = "training_consents"
    __table_args__ = (
        Index("ix_training_consents_withdrawn", "job_id", postgresql_where=text("withdrawn_at IS NOT NULL")),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    statement: Mapped[str]
    reference: Mapped[str | None]
    asked_by: Mapped[str | None]
    given_at: Mapped[datetime] = _now()
    withdrawn_at: Mapped[datetime | None]
    withdrawn_by: Mapped[str | None]


class MediaUseRow(Row):
    """A job needs an asset (its id) or a stored input (its key), until its intermediates are erased: retries need them
    too."""

    __tablename__ = "media_uses"
    __table_args__ = (Index("ix_media_uses_job_id", "job_id"),)

    media: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)


class InputRow(Row):
    """A user's file in the store, by content. sweeping: its object is about to be deleted. swept_at: since when it is
    gone."""

    __tablename__ = "inputs"
    __table_args__ = (Index("ix_inputs_used_at", "used_at", postgresql_where=text("swept_at IS NULL")),)

    key: Mapped[str] = mapped_column(primary_key=True)
    used_at: Mapped[datetime] = _now()
    sweeping: Mapped[bool] = mapped_column(server_default=text("false"))
    swept_at: Mapped[datetime | None]


class ShareRow(Row):
    """What a tenant has had of a queue. virtual_time: work handed out, in frames over the tenant's weight; who has had
    the least comes next. active: it may have claimable chunks; false is only said of those that have none
    (farm.db.shares). turn, level: where the round through its priorities stands.

    A claim's only common row, written again and again: half of each page is left free for its next versions.
    """

    __tablename__ = "shares"
    __table_args__ = (
        Index("ix_shares_active", "queue", postgresql_where=text("active")),
        {"postgresql_with": {"fillfactor": 50, **_OFTEN_VACUUMED}},
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
        _one_of("work", Work),
        _one_of("status", ChunkStatus),
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
        {"postgresql_with": _OFTEN_VACUUMED},
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
    available_at: Mapped[datetime] = _now()
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
    updated_at: Mapped[datetime] = _now()
    finished_at: Mapped[datetime | None]


# Spelled as in the partial indexes: a prepared statement plans once for every value, and an index for some values is no
# use to it where the value is a parameter.
is_waiting: ColumnElement[bool] = ChunkRow.status == literal_column("'waiting'")
is_leased: ColumnElement[bool] = ChunkRow.status == literal_column("'leased'")
is_held: ColumnElement[bool] = ChunkRow.held.expression
is_ready: ColumnElement[bool] = AssetRow.status == literal_column("'ready'")
has_succeeded: ColumnElement[bool] = JobRow.status == literal_column("'succeeded'")


class MetricRow(Row):
    """Counters of what has ended, and samples (farm.db.metrics)."""

    __tablename__ = "metrics"

    name: Mapped[str] = mapped_column(primary_key=True)
    data: Mapped[dict[str, Any]]
    at: Mapped[datetime] = _now()


class AttemptRow(Row):
    """swept_at: since when what a lost attempt had stored is gone (farm.flow.retain)."""

    __tablename__ = "attempts"
    __table_args__ = (
        _one_of("outcome", ("running", "succeeded", "failed", "returned")),
        _one_of("reason", Reason),
        CheckConstraint("(outcome = 'running') = (finished_at IS NULL)", name="finished"),
        CheckConstraint("outcome <> 'failed' OR reason IS NOT NULL", name="failed_has_reason"),
        Index("ix_attempts_ended", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
        Index("ix_attempts_failed", "worker_id", "finished_at", postgresql_where=text("outcome = 'failed'")),
        Index(
            "ix_attempts_strays",
            "finished_at",
            postgresql_where=text("outcome IN ('failed', 'returned') AND swept_at IS NULL"),
        ),
        {"postgresql_with": _OFTEN_VACUUMED},
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
    started_at: Mapped[datetime] = _now()
    finished_at: Mapped[datetime | None]
    swept_at: Mapped[datetime | None]


has_failed: ColumnElement[bool] = AttemptRow.outcome == literal_column("'failed'")


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
    at: Mapped[datetime] = _now()


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
    at: Mapped[datetime] = _now()


class WebhookEndpointRow(Row):
    """topics: empty for all. Secrets are kept as they are: a signature needs them. old_secret signs until
    old_secret_until, so that receivers can change over."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        CheckConstraint("enabled = (disabled_reason IS NULL)", name="disabled_has_reason"),
        Index("ix_webhook_endpoints_tenant_id_id", "tenant_id", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    url: Mapped[str]
    description: Mapped[str | None]
    topics: Mapped[list[str]]
    secret: Mapped[str]
    old_secret: Mapped[str | None]
    old_secret_until: Mapped[datetime | None]
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    disabled_reason: Mapped[str | None]
    disabled_at: Mapped[datetime | None]
    last_success_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()


class WebhookEventRow(Row):
    """The outbox: written in the transaction of what it tells, where somebody listens. body: the exact text sent."""

    __tablename__ = "webhook_events"

    id: Mapped[str] = mapped_column(primary_key=True)
    topic: Mapped[str]
    body: Mapped[str]
    traceparent: Mapped[str | None]
    at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class WebhookDeliveryRow(Row):
    """An event for an endpoint. due_at: of the next try; a relay that takes it moves due_at to the end of its lease, so
    that a relay's death needs no repair. failures: tries since it was last (re)started, attempts: all of them."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        _one_of("status", DeliveryStatus),
        CheckConstraint("(status = 'pending') = (due_at IS NOT NULL)", name="pending_is_due"),
        CheckConstraint("token IS NULL OR status = 'pending'", name="leased_is_pending"),
        UniqueConstraint("endpoint_id", "event_id"),
        Index("ix_webhook_deliveries_endpoint_id_id", "endpoint_id", "id"),
        Index(
            "ix_webhook_deliveries_endpoint_id_due_at",
            "endpoint_id",
            "due_at",
            postgresql_where=text("status = 'pending'"),
        ),
        Index("ix_webhook_deliveries_due_at", "due_at", postgresql_where=text("status = 'pending'")),
        Index("ix_webhook_deliveries_leased", "endpoint_id", postgresql_where=text("token IS NOT NULL")),
        Index("ix_webhook_deliveries_event_id", "event_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    event_id: Mapped[str] = mapped_column(ForeignKey("webhook_events.id", ondelete="CASCADE"))
    topic: Mapped[str]
    status: Mapped[str]
    attempts: Mapped[int] = mapped_column(server_default="0")
    failures: Mapped[int] = mapped_column(server_default="0")
    due_at: Mapped[datetime | None]
    token: Mapped[str | None]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    started_at: Mapped[datetime] = _now()
    created_at: Mapped[datetime] = _now()
    finished_at: Mapped[datetime | None]


class WebhookTryRow(Row):
    __tablename__ = "webhook_tries"

    delivery_id: Mapped[str] = mapped_column(ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[int | None]
    error: Mapped[str | None]
    seconds: Mapped[float]
    answer: Mapped[str]
    at: Mapped[datetime] = _now()


class WorkerRow(Row):
    """quarantined_until: set and past, the worker is on trial: its next chunk ends the quarantine or renews it.
    quarantines: in a row, which makes each longer than the one before. forgiven_at: failures before it no longer count.
    speeds: {version id: {size class: frames a second}} as measured by itself (farm.domain.speed). bundles: {version id:
    what it says of the files that it has or fetches} (farm.domain.alias)."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    device: Mapped[str]
    queues: Mapped[list[str]]
    info: Mapped[dict[str, Any]]
    version_id: Mapped[str | None]
    frames_per_s: Mapped[float] = mapped_column(server_default="0")
    draining: Mapped[bool] = mapped_column(server_default=text("false"))
    quarantined_until: Mapped[datetime | None]
    quarantine_reason: Mapped[str | None]
    quarantines: Mapped[int] = mapped_column(server_default="0")
    forgiven_at: Mapped[datetime | None]
    speeds: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    bundles: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    started_at: Mapped[datetime] = _now()
    heartbeat_at: Mapped[datetime] = _now()
    left_at: Mapped[datetime | None]


class RunRow(Row):
    """attempt, token, host: of the newest attempt; token is empty while none is open. standing: Standing of the newest
    report; stage_number, step: the furthest that any got. spent_gpu_hours: of attempts that ended. curves_read:
    bytes of the curves file whose points are stored. room_asked: it makes room by stopping. fruitless:
    attempts in a row that got no further. clips: key of the list of clips that it was started with."""

    __tablename__ = "training_runs"
    __table_args__ = (
        _one_of("status", RunStatus),
        _one_of("on_success", OnSuccess),
        CheckConstraint(
            "(status IN ('starting', 'running', 'canceling')) = (token IS NOT NULL)", name="held_has_token"
        ),
        CheckConstraint(
            "(status IN ('succeeded', 'failed', 'canceled')) = (finished_at IS NOT NULL)", name="ended_has_time"
        ),
        CheckConstraint("(status = 'failed') = (error_code IS NOT NULL)", name="failed_has_error"),
        UniqueConstraint("schedule", "schedule_made_at", "fired_for"),
        Index("ix_training_runs_open", "id", postgresql_where=text("finished_at IS NULL")),
        Index("ix_training_runs_schedule_id", "schedule", "id", postgresql_where=text("schedule IS NOT NULL")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    recipe: Mapped[str]
    dataset: Mapped[dict[str, Any]]
    overrides: Mapped[dict[str, Any]]
    workers: Mapped[int]
    use_gpu: Mapped[bool]
    on_success: Mapped[str]
    resume_from: Mapped[str | None]
    priority: Mapped[int] = mapped_column(server_default="50")
    preempt: Mapped[bool] = mapped_column(server_default=text("false"))
    schedule: Mapped[str | None]
    schedule_made_at: Mapped[datetime | None]
    fired_for: Mapped[datetime | None]
    clips: Mapped[str | None]
    status: Mapped[str]
    status_reason: Mapped[str] = mapped_column(server_default="")
    waiting_reason: Mapped[str | None]
    room_asked: Mapped[bool] = mapped_column(server_default=text("false"))
    yielding: Mapped[bool] = mapped_column(server_default=text("false"))
    stop_asked_at: Mapped[datetime | None]
    attempt: Mapped[int] = mapped_column(server_default="0")
    token: Mapped[str | None]
    host: Mapped[str | None]
    heard_at: Mapped[datetime | None]
    fruitless: Mapped[int] = mapped_column(server_default="0")
    standing: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    stage_number: Mapped[int] = mapped_column(server_default="0")
    step: Mapped[int] = mapped_column(server_default="0")
    spent_gpu_hours: Mapped[float] = mapped_column(server_default="0")
    curves_read: Mapped[int] = mapped_column(BigInteger, server_default="0")
    alerts: Mapped[list[str]] = mapped_column(server_default=text("'{}'::text[]"))
    error_code: Mapped[str | None]
    error_detail: Mapped[str | None]
    version_id: Mapped[str | None] = mapped_column(ForeignKey("versions.id"))
    asked_by: Mapped[str | None]
    traceparent: Mapped[str | None]
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()
    started_at: Mapped[datetime | None]
    progress_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class RunAttemptRow(Row):
    __tablename__ = "training_attempts"
    __table_args__ = (
        _one_of("outcome", Outcome),
        CheckConstraint("(outcome = 'running') = (finished_at IS NULL)", name="finished"),
        Index("uq_training_attempts_running", "run_id", unique=True, postgresql_where=text("outcome = 'running'")),
    )

    run_id: Mapped[str] = mapped_column(ForeignKey("training_runs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(unique=True)
    host: Mapped[str | None]
    outcome: Mapped[str]
    reason: Mapped[str | None]
    from_stage_number: Mapped[int]
    from_step: Mapped[int]
    stage: Mapped[str | None]
    step: Mapped[int] = mapped_column(server_default="0")
    gpu_hours: Mapped[float] = mapped_column(server_default="0")
    started_at: Mapped[datetime] = _now()
    finished_at: Mapped[datetime | None]


class RunEventRow(Row):
    """Written only while its run's row is locked: ids grow in commit order inside a run."""

    __tablename__ = "training_events"
    __table_args__ = (Index("ix_training_events_run_id_id", "run_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("training_runs.id"))
    kind: Mapped[str]
    data: Mapped[dict[str, Any]]
    at: Mapped[datetime] = _now()


class RunPointRow(Row):
    """Means of the losses over `steps` steps that end before `step` (farm.domain.curves)."""

    __tablename__ = "training_points"

    run_id: Mapped[str] = mapped_column(ForeignKey("training_runs.id"), primary_key=True)
    stage: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    steps: Mapped[int]
    losses: Mapped[dict[str, Any]]


class ScheduleRow(Row):
    """seen_to: up to when its times were seen to. revision: counts changes."""

    __tablename__ = "training_schedules"
    __table_args__ = (
        _one_of("overlap", Overlap),
        _one_of("catch_up", CatchUp),
        _one_of("on_success", OnSuccess),
        Index("ix_training_schedules_due", "next_at", postgresql_where=text("next_at IS NOT NULL")),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(server_default="1")
    cron: Mapped[str]
    timezone: Mapped[str]
    recipe: Mapped[str]
    dataset: Mapped[dict[str, Any]]
    overrides: Mapped[dict[str, Any]]
    workers: Mapped[int]
    use_gpu: Mapped[bool]
    on_success: Mapped[str]
    resume_from: Mapped[str | None]
    priority: Mapped[int] = mapped_column(server_default="50")
    preempt: Mapped[bool] = mapped_column(server_default=text("false"))
    overlap: Mapped[str]
    catch_up: Mapped[str]
    catch_up_most: Mapped[int]
    min_new_clips: Mapped[int]
    paused: Mapped[bool]
    seen_to: Mapped[datetime]
    next_at: Mapped[datetime | None]
    clips: Mapped[str | None]
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()


class FiringRow(Row):
    """What became of a schedule's times; a run-now has none of its own. Kept when the schedule is deleted."""

    __tablename__ = "training_firings"
    __table_args__ = (
        _one_of("outcome", FiringOutcome),
        Index("ix_training_firings_schedule_id", "schedule", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    schedule: Mapped[str]
    at: Mapped[datetime]
    outcome: Mapped[str]
    reason: Mapped[str]
    count: Mapped[int]
    run_id: Mapped[str | None]
    decided_at: Mapped[datetime] = _now()
