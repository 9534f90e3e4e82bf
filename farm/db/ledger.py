"""The writing side of batches, jobs, chunks and attempts: small fenced statements that farm.flow puts together.

Locks are taken in one order everywhere, so that transactions never wait for each other in a circle:

    shares -> jobs, by id -> chunks -> batches, by id -> workers

Only claims and what wakes a tenant's share lock shares. A claim never waits for a chunk, and for a job only before it
holds one (farm_claim), so that whoever stops a job may wait for a chunk that is being claimed: it is then leased, and
its holder is told. The batch comes late because it is the row that all its jobs share.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from sqlalchemy import CursorResult, func, insert, literal, select, text, update
from sqlalchemy.dialects.postgresql import INTERVAL

from farm.db import shares
from farm.db.rows import AttemptRow, BatchRow, ChunkRow, EventRow, JobRow, WorkerRow, is_leased, is_waiting
from farm.db.session import Session
from farm.domain.chunk import ChunkStatus, Lease, Reason, Work
from farm.domain.event import EventKind
from farm.domain.job import BatchStatus, JobStatus
from farm.domain.retry import Try
from farm.domain.ripple import Bucket
from farm.domain.span import Span


@dataclass(frozen=True)
class JobRecord:
    """A job as its verbs see it, usually locked. erased: what was made on its way is gone, it cannot go on."""

    id: str
    number: int
    tenant_id: str
    batch_id: str
    status: JobStatus
    priority: int
    version_id: str
    planned: bool
    frames_total: int
    chunks_total: int
    chunks_done: int
    erased: bool


@dataclass(frozen=True)
class ChunkRecord:
    id: str
    job_id: str
    work: Work
    status: ChunkStatus
    token: str | None
    queue: str
    worker_id: str
    attempts_spared: int
    batch_frames: int | None
    failed_by: Sequence[str] | None


@dataclass(frozen=True)
class Finished:
    """What a render chunk's end means for its job. is_stopped: nothing was written, the job was stopped before.
    is_last: no other is missing. failed_by: workers that had failed the chunk. on_trial: its worker is."""

    job_status: JobStatus
    is_stopped: bool
    is_last: bool
    queue: str
    worker_id: str
    on_trial: bool
    failed_by: Sequence[str]


@dataclass(frozen=True)
class BatchRecord:
    id: str
    tenant_id: str
    status: BatchStatus
    paused: bool
    cancel_asked: bool
    counts: Mapping[Bucket, int]


_JOB = (
    JobRow.id,
    JobRow.number,
    JobRow.tenant_id,
    JobRow.batch_id,
    JobRow.status,
    JobRow.priority,
    JobRow.version_id,
    JobRow.plan.is_not(None).label("planned"),
    JobRow.frames_total,
    JobRow.chunks_total,
    JobRow.chunks_done,
    JobRow.chunks_erased_at.is_not(None).label("erased"),
)


def seconds_from_now(seconds: float) -> Any:
    """Database time, that many seconds on."""
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds, type_=INTERVAL)


def lock_jobs(
    session: Session,
    *,
    ids: Sequence[str] | None = None,
    batch_id: str | None = None,
    tenant_id: str | None = None,
    skip_locked: bool = False,
) -> list[JobRecord]:
    """Lock jobs in id order, the order that keeps concurrent verbs out of each other's way."""
    query = select(*_JOB).order_by(JobRow.id).with_for_update(key_share=True, skip_locked=skip_locked)
    if ids is not None:
        query = query.where(JobRow.id.in_(ids))
    if batch_id is not None:
        query = query.where(JobRow.batch_id == batch_id)
    if tenant_id is not None:
        query = query.where(JobRow.tenant_id == tenant_id)
    return [_job(row) for row in session.execute(query)]


def lock_job(session: Session, job_id: str) -> JobRecord:
    (job,) = lock_jobs(session, ids=[job_id])
    return job


def _job(row: Any) -> JobRecord:
    values = row._asdict()
    return JobRecord(**{**values, "status": JobStatus(values["status"])})


def chunk_of_token(session: Session, chunk_id: str, token: str) -> ChunkRecord | None:
    """The chunk, where `token` still holds it."""
    query = select(
        ChunkRow.id,
        ChunkRow.job_id,
        ChunkRow.work,
        ChunkRow.status,
        ChunkRow.token,
        ChunkRow.queue,
        ChunkRow.worker_id,
        ChunkRow.attempts_spared,
        ChunkRow.batch_frames,
        ChunkRow.failed_by,
    ).where(ChunkRow.id == chunk_id, ChunkRow.token == token, is_leased)
    row = session.execute(query).one_or_none()
    if row is None:
        return None
    values = row._asdict()
    return ChunkRecord(**{**values, "work": Work(values["work"]), "status": ChunkStatus(values["status"])})


def end_lease(session: Session, chunk_id: str, token: str, status: ChunkStatus, **values: Any) -> bool:
    """Take the lease off a chunk and set its status; False when `token` no longer holds it."""
    ended = func.now() if status.is_terminal else None
    if status is ChunkStatus.WAITING:
        # The job's priority may have changed while this chunk was leased.
        values["priority"] = select(JobRow.priority).where(JobRow.id == ChunkRow.job_id).scalar_subquery()
    change = (
        update(ChunkRow)
        .where(ChunkRow.id == chunk_id, ChunkRow.token == token, is_leased)
        .values(
            status=status,
            token=None,
            worker_id=None,
            lease_expires_at=None,
            phase=None,
            frames_per_s=0.0,
            updated_at=func.now(),
            finished_at=ended,
            **{"frames_done": 0, **values},
        )
    )
    return _count(session, change) == 1


def end_attempt(
    session: Session,
    token: str,
    outcome: str,
    *,
    reason: Reason | None = None,
    code: str | None = None,
    detail: str | None = None,
    seconds: Mapping[str, float] | None = None,
) -> None:
    session.execute(
        update(AttemptRow)
        .where(AttemptRow.token == token, AttemptRow.outcome == "running")
        .values(
            outcome=outcome,
            reason=reason,
            code=code,
            detail=detail,
            seconds=dict(seconds or {}),
            finished_at=func.now(),
        )
    )


def attempt_outcome(session: Session, token: str) -> str | None:
    return session.scalar(select(AttemptRow.outcome).where(AttemptRow.token == token))


def tries(session: Session, chunk: ChunkRecord) -> tuple[Try, ...]:
    """How the attempts since the last user retry ended, oldest first; one that still runs is none yet."""
    suspect = select(WorkerRow.id).where(WorkerRow.id == AttemptRow.worker_id, WorkerRow.quarantined_until.is_not(None))
    query = (
        select(AttemptRow.reason, AttemptRow.worker_id, suspect.exists())
        .where(
            AttemptRow.chunk_id == chunk.id,
            AttemptRow.number > chunk.attempts_spared,
            AttemptRow.reason.is_not(None),
            AttemptRow.reason != Reason.CANCELED,
        )
        .order_by(AttemptRow.number)
    )
    return tuple(Try(Reason(reason), worker, bool(is_suspect)) for reason, worker, is_suspect in session.execute(query))


_FINISH: Final = text(
    "select * from farm_finish(:job, :chunk, :token, cast(:segment as jsonb), :frames, cast(:seconds as jsonb),"
    " cast(:preview as text))"
)


def finish_render(
    session: Session,
    lease: Lease,
    segment: Mapping[str, Any],
    *,
    frames: int,
    seconds: Mapping[str, float],
    preview_key: str | None,
) -> Finished | None:
    """A render chunk's output counts, once: chunk, attempt, and the job's counts, whose row stays locked. None: the
    token is stale. One round trip (farm_finish)."""
    found = session.execute(
        _FINISH,
        {
            "job": lease.job_id,
            "chunk": lease.chunk_id,
            "token": lease.token,
            "segment": json.dumps(segment),
            "frames": frames,
            "seconds": json.dumps(dict(seconds)),
            "preview": preview_key,
        },
    ).one_or_none()
    if found is None:
        return None
    return Finished(
        JobStatus(found.job_status),
        found.is_stopped,
        bool(found.is_last),
        found.queue,
        found.worker_id,
        bool(found.on_trial),
        tuple(found.failed_by or ()),
    )


def add_chunks(
    session: Session, job: JobRecord, work: Work, spans: Sequence[Span], queue: str, *, first: int, ids: Sequence[str]
) -> None:
    """Waiting chunks of a locked job, from ordinal `first` on; held where the job is paused."""
    shares.wake(session, job.tenant_id, [queue])
    rows = [
        {
            "id": chunk_id,
            "tenant_id": job.tenant_id,
            "job_id": job.id,
            "job_number": job.number,
            "ordinal": first + k,
            "work": work,
            "status": ChunkStatus.WAITING,
            "held": job.status is JobStatus.PAUSED,
            "queue": queue,
            "priority": job.priority,
            "version_id": job.version_id,
            "start": span.start,
            "stop": span.stop,
        }
        for k, (chunk_id, span) in enumerate(zip(ids, spans, strict=True))
    ]
    session.execute(insert(ChunkRow), rows)


def queues_of(session: Session, job_ids: Sequence[str]) -> tuple[str, ...]:
    """Where chunks of these jobs wait."""
    return tuple(session.scalars(select(ChunkRow.queue).where(ChunkRow.job_id.in_(job_ids), is_waiting).distinct()))


def has_chunk(session: Session, job_id: str, work: Work) -> bool:
    query = select(literal(1)).where(ChunkRow.job_id == job_id, ChunkRow.work == work).limit(1)
    return session.scalar(query) is not None


def jobs_with_open_chunks(session: Session, job_ids: Sequence[str]) -> set[str]:
    """Which jobs have chunks that wait or are leased."""
    query = (
        select(ChunkRow.job_id)
        .where(ChunkRow.job_id.in_(job_ids), ChunkRow.status.in_((ChunkStatus.WAITING, ChunkStatus.LEASED)))
        .distinct()
    )
    return set(session.scalars(query))


def jobs_with_started_renders(session: Session, job_ids: Sequence[str]) -> set[str]:
    """Which jobs have a render chunk that is leased or done."""
    query = (
        select(ChunkRow.job_id)
        .where(
            ChunkRow.job_id.in_(job_ids),
            ChunkRow.work == Work.RENDER,
            ChunkRow.status.in_((ChunkStatus.LEASED, ChunkStatus.SUCCEEDED)),
        )
        .distinct()
    )
    return set(session.scalars(query))


def change_waiting(session: Session, job_ids: Sequence[str], **values: Any) -> int:
    """Change the waiting chunks of locked jobs; one that is being claimed is waited for, and is then leased."""
    change = update(ChunkRow).where(ChunkRow.job_id.in_(job_ids), is_waiting).values(updated_at=func.now(), **values)
    return _count(session, change)


def cancel_waiting(session: Session, job_ids: Sequence[str]) -> int:
    return change_waiting(session, job_ids, status=ChunkStatus.CANCELED, finished_at=func.now())


def revoke_leases(session: Session, job_ids: Sequence[str], detail: str) -> int:
    """Cancel the leased chunks of locked jobs that have ended; their holders find out at the next heartbeat."""
    held = select(ChunkRow.id, ChunkRow.token).where(ChunkRow.job_id.in_(job_ids), is_leased).order_by(ChunkRow.id)
    revoked = 0
    for chunk_id, token in session.execute(held).all():
        if end_lease(session, chunk_id, cast(str, token), ChunkStatus.CANCELED):
            end_attempt(session, cast(str, token), "failed", reason=Reason.CANCELED, code="job_ended", detail=detail)
            revoked += 1
    return revoked


def reopen_chunks(session: Session, job_ids: Sequence[str], *, held: bool) -> int:
    """Failed and canceled chunks of locked jobs wait again, with fresh retries."""
    change = (
        update(ChunkRow)
        .where(
            ChunkRow.job_id.in_(job_ids),
            ChunkRow.status.in_((ChunkStatus.FAILED, ChunkStatus.CANCELED)),
        )
        .values(
            status=ChunkStatus.WAITING,
            held=held,
            attempts_spared=ChunkRow.attempts,
            failed_by=None,
            available_at=func.now(),
            updated_at=func.now(),
            finished_at=None,
            priority=select(JobRow.priority).where(JobRow.id == ChunkRow.job_id).scalar_subquery(),
        )
    )
    return _count(session, change)


def change_job(session: Session, job_ids: Sequence[str], **values: Any) -> None:
    session.execute(update(JobRow).where(JobRow.id.in_(job_ids)).values(updated_at=func.now(), **values))


def add_done(session: Session, job_id: str, chunk_id: str, *, frames: int, preview_key: str | None) -> None:
    """One more render chunk of a locked job is done; its newest picture (by default its last heartbeat's) becomes the
    job's."""
    preview = select(ChunkRow.preview_key).where(ChunkRow.id == chunk_id).scalar_subquery()
    change_job(
        session,
        [job_id],
        chunks_done=JobRow.chunks_done + 1,
        frames_done=JobRow.frames_done + frames,
        preview_key=func.coalesce(preview_key, preview, JobRow.preview_key),
    )


def set_status(
    session: Session,
    job_ids: Sequence[str],
    status: JobStatus,
    reason: str,
    *,
    error_code: str | None = None,
    error_detail: str | None = None,
) -> None:
    """started_at is when the job first ran, finished_at when it ended (empty again after a retry)."""
    running = status in (JobStatus.RUNNING, JobStatus.FINALIZING)
    change_job(
        session,
        job_ids,
        status=status,
        status_reason=reason,
        error_code=error_code,
        error_detail=error_detail,
        started_at=func.coalesce(JobRow.started_at, func.now()) if running else JobRow.started_at,
        finished_at=func.now() if status.is_terminal else None,
    )


def lock_batches(session: Session, batch_ids: Iterable[str]) -> list[BatchRecord]:
    query = (
        select(BatchRow)
        .where(BatchRow.id.in_(sorted(set(batch_ids))))
        .order_by(BatchRow.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    return [
        BatchRecord(
            id=row.id,
            tenant_id=row.tenant_id,
            status=BatchStatus(row.status),
            paused=row.paused,
            cancel_asked=row.cancel_asked,
            counts={
                Bucket.QUEUED: row.jobs_queued,
                Bucket.RUNNING: row.jobs_running,
                Bucket.SUCCEEDED: row.jobs_succeeded,
                Bucket.FAILED: row.jobs_failed,
                Bucket.CANCELED: row.jobs_canceled,
            },
        )
        for row in session.scalars(query)
    ]


def save_batch(session: Session, batch: BatchRecord, **values: Any) -> None:
    over = batch.status in (BatchStatus.COMPLETED, BatchStatus.CANCELED)
    begun = sum(count for bucket, count in batch.counts.items() if bucket is not Bucket.QUEUED) > 0
    session.execute(
        update(BatchRow)
        .where(BatchRow.id == batch.id)
        .values(
            status=batch.status,
            paused=batch.paused,
            cancel_asked=batch.cancel_asked,
            updated_at=func.now(),
            started_at=func.coalesce(BatchRow.started_at, func.now()) if begun else BatchRow.started_at,
            finished_at=func.coalesce(BatchRow.finished_at, func.now()) if over else None,
            **{f"jobs_{bucket}": count for bucket, count in batch.counts.items()},
            **values,
        )
    )


NewEvent = tuple[EventKind, str, str, str | None, Mapping[str, Any]]
"""kind, tenant_id, batch_id, job_id, data."""


def add_events(session: Session, events: Sequence[NewEvent]) -> None:
    """Their batches must be locked, or made in this transaction."""
    if events:
        rows = [
            {"kind": kind, "tenant_id": tenant, "batch_id": batch, "job_id": job, "data": dict(data)}
            for kind, tenant, batch, job, data in events
        ]
        session.execute(insert(EventRow), rows)


def expired_leases(session: Session, limit: int) -> list[tuple[str, str, str]]:
    """(job id, chunk id, token) of leases that have run out, the oldest first."""
    query = (
        select(ChunkRow.job_id, ChunkRow.id, ChunkRow.token)
        .where(is_leased, ChunkRow.lease_expires_at < func.now())
        .order_by(ChunkRow.lease_expires_at)
        .limit(limit)
    )
    return [(job, chunk, cast(str, token)) for job, chunk, token in session.execute(query)]


def is_expired(session: Session, chunk_id: str, token: str) -> bool:
    query = select(literal(1)).where(
        ChunkRow.id == chunk_id,
        ChunkRow.token == token,
        is_leased,
        ChunkRow.lease_expires_at < func.now(),
    )
    return session.scalar(query) is not None


def jobs_past_deadline(session: Session, limit: int) -> list[str]:
    query = (
        select(JobRow.id)
        .where(JobRow.finished_at.is_(None), JobRow.deadline.is_not(None), JobRow.deadline < func.now())
        .order_by(JobRow.deadline)
        .limit(limit)
    )
    return list(session.scalars(query))


def database_time(session: Session) -> datetime:
    return session.scalars(select(func.now())).one()


def _count(session: Session, statement: Any) -> int:
    result = cast("CursorResult[Any]", session.execute(statement, execution_options={"synchronize_session": False}))
    return result.rowcount
