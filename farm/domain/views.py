"""What readers of the farm see: frozen snapshots of batches, jobs, chunks, workers and queues. Times are UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from farm.domain.alias import BundleNote, Cohort
from farm.domain.batch import Rights
from farm.domain.chunk import ChunkStatus, Reason, Work
from farm.domain.job import BatchStatus, JobSpec, JobStatus, Kind, Phase
from farm.domain.order import Output, PlanRecord
from farm.domain.span import Span

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page in keyset order; `next_cursor` is opaque, None at the end."""

    items: tuple[T, ...]
    next_cursor: str | None


@dataclass(frozen=True)
class Counts:
    """Jobs of a batch. queued: and validating, paused. running: and finalizing, canceling. failed: and expired."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int


@dataclass(frozen=True)
class BatchView:
    """`progress` in 0..1 over frames (a job without a plan counts as an average one). eta None: not known yet.
    asked_by: id of the key that submitted it; None: the farm itself."""

    id: str
    tenant_id: str
    name: str | None
    status: BatchStatus
    priority: int
    model: str
    version_id: str
    counts: Counts
    progress: float
    frames_done: int
    frames_total: int
    eta: datetime | None
    deadline: datetime | None
    metadata: Mapping[str, str]
    asked_by: str | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True)
class JobView:
    """`error_*` are set when failed or expired. frames_total is 0 until planned. `preview_key`: a JPEG blob.
    cohort: which of the two it got while a canary had a share. *_erased_at: since when those bytes are gone;
    deleted_at: because that was asked for."""

    id: str
    tenant_id: str
    batch_id: str
    ordinal: int
    custom_id: str
    kind: Kind
    status: JobStatus
    status_reason: str
    phase: Phase | None
    waiting_reason: str | None
    priority: int
    version_id: str
    cohort: Cohort | None
    spec: JobSpec
    plan: PlanRecord | None
    frames_done: int
    frames_total: int
    chunks_done: int
    chunks_total: int
    frames_per_s: float
    eta: datetime | None
    preview_key: str | None
    error_code: str | None
    error_detail: str | None
    output: Output | None
    scores: Mapping[str, float]
    flags: tuple[str, ...]
    rights: Rights | None
    previews_erased_at: datetime | None
    output_erased_at: datetime | None
    deleted_at: datetime | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True)
class AttemptView:
    """One lease of a chunk. outcome: running, succeeded, failed or returned; `reason` when failed (or preempted)."""

    number: int
    worker_id: str
    outcome: str
    reason: Reason | None
    code: str | None
    detail: str | None
    seconds: Mapping[str, float]
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class ChunkView:
    id: str
    job_id: str
    ordinal: int
    work: Work
    status: ChunkStatus
    span: Span
    worker_id: str | None
    frames_done: int
    frames_per_s: float
    available_at: datetime
    lease_expires_at: datetime | None
    attempts: tuple[AttemptView, ...]
    scores: Mapping[str, float]
    flags: tuple[str, ...]
    updated_at: datetime


@dataclass(frozen=True)
class WorkerView:
    """`alive`: heard of within the last WORKER_LOST_S. chunk_id: what it holds now. version_id: its loaded bundle.
    bundles: by version, how it stands with files that it was asked to have, or lost."""

    id: str
    host: str
    device: str
    queues: tuple[str, ...]
    version_id: str | None
    chunk_id: str | None
    job_id: str | None
    frames_per_s: float
    alive: bool
    draining: bool
    quarantined_until: datetime | None
    quarantine_reason: str | None
    info: Mapping[str, object]
    bundles: Mapping[str, BundleNote]
    started_at: datetime
    heartbeat_at: datetime


@dataclass(frozen=True)
class QueueView:
    """waiting: claimable now. delayed: waiting for a retry's time. held: of paused batches."""

    queue: str
    waiting: int
    delayed: int
    held: int
    leased: int
    workers: int
    oldest_waiting_s: float | None


@dataclass(frozen=True)
class ResultLine:
    """A line of results.jsonl."""

    job_id: str
    custom_id: str
    status: JobStatus
    output: Output | None
    error_code: str | None
    error_detail: str | None
    version_id: str
    scores: Mapping[str, float]
    flags: tuple[str, ...]
    seconds: float | None
    rights: Rights | None
    asked_by: str | None
    output_erased_at: datetime | None
