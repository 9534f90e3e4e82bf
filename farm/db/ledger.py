"""The writing side of batches, jobs, chunks and attempts: small fenced statements that farm.flow puts together.

Locks are taken in one order everywhere, so that transactions never wait for each other in a circle:

    shares -> jobs, by id -> chunks -> batches, by id -> workers

Only claims and what wakes a tenant's share lock shares. A claim never waits for a chunk, and for a job only before it
holds one (farm_claim), so that whoever stops a job may wait for a chunk that is being claimed: it is then leased, and
its holder is told. The batch comes late because it is the row that all its jobs share.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString, cast

from sqlalchemy import CursorResult, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import INTERVAL

from farm.db import shares
from farm.db.rows import AttemptRow, ChunkRow, JobRow, WorkerRow, is_leased, is_waiting
from farm.db.session import Database, Session, run
from farm.domain.chunk import ChunkStatus, Lease, Reason, Work
from farm.domain.document import to_document
from farm.domain.job import JobStatus
from farm.domain.order import Segment
from farm.domain.retry import Try
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


def seconds_from_now(seconds: float) -> Any:
    """Database time, that many seconds on."""
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds, type_=INTERVAL)


_JOBS: Final = """
select id, number, tenant_id, batch_id, status, priority, version_id, plan is not null as planned, frames_total,
    chunks_total, chunks_done, chunks_erased_at is not null as erased
from jobs where """
_LOCKED: Final = " order by id for no key update"


def lock_jobs(
    session: Session,
    *,
    ids: Sequence[str] | None = None,
    batch_id: str | None = None,
    tenant_id: str | None = None,
    skip_locked: bool = False,
) -> list[JobRecord]:
    """Lock jobs in id order, the order that keeps concurrent verbs out of each other's way."""
    found: LiteralString = "true"
    if ids is not None:
        found += " and id = any(%(ids)s)"
    if batch_id is not None:
        found += " and batch_id = %(batch)s"
    if tenant_id is not None:
        found += " and tenant_id = %(tenant)s"
    values = {"ids": list(ids or ()), "batch": batch_id, "tenant": tenant_id}
    rows = run(session, _JOBS + found + _LOCKED + (" skip locked" if skip_locked else ""), values)
    return [JobRecord(**{**row._asdict(), "status": JobStatus(row.status)}) for row in rows]


def lock_job(session: Session, job_id: str) -> JobRecord:
    (job,) = lock_jobs(session, ids=[job_id])
    return job


_CHUNK_OF_TOKEN: Final = """
select id, job_id, work, status, token, queue, worker_id, attempts_spared, batch_frames, failed_by
from chunks where id = %(chunk)s and token = %(token)s and status = 'leased'
"""


def chunk_of_token(session: Session, chunk_id: str, token: str) -> ChunkRecord | None:
    """The chunk, where `token` still holds it."""
    for row in run(session, _CHUNK_OF_TOKEN, {"chunk": chunk_id, "token": token}):
        return ChunkRecord(**{**row._asdict(), "work": Work(row.work), "status": ChunkStatus(row.status)})
    return None


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


_SUCCEED: Final = """
with ended as (
    update chunks set status = 'succeeded', token = null, worker_id = null, lease_expires_at = null, phase = null,
        frames_done = 0, frames_per_s = 0, updated_at = now(), finished_at = now()
    where id = %(chunk)s and token = %(token)s and status = 'leased' returning id
)
update attempts set outcome = 'succeeded', seconds = %(seconds)s::jsonb, finished_at = now()
where token = %(token)s and outcome = 'running' and exists (select from ended)
"""


def finish(session: Session, lease: Lease, seconds: Mapping[str, float] | None = None) -> None:
    """A plan or finalize chunk of a locked job, and its attempt, have succeeded."""
    values = {"chunk": lease.chunk_id, "token": lease.token, "seconds": json.dumps(dict(seconds or {}))}
    run(session, _SUCCEED, values)


_STORE_OUTPUT: Final = """
update jobs set output = %(output)s::jsonb, scores = %(scores)s::jsonb, flags = %(flags)s, updated_at = now()
where id = %(job)s
"""


def store_output(
    session: Session, job_id: str, output: Mapping[str, Any], scores: Mapping[str, float], flags: Sequence[str]
) -> None:
    values = {"job": job_id, "output": json.dumps(output), "scores": json.dumps(dict(scores)), "flags": list(flags)}
    run(session, _STORE_OUTPUT, values)


_FINISH_RENDER: Final = """
select w.token, f.* from unnest(
    %(jobs)s::text[], %(chunks)s::text[], %(tokens)s::text[], %(segments)s::text[], %(frames)s::int[],
    %(seconds)s::text[], %(previews)s::text[]
) as w (job, chunk, token, segment, frames, seconds, preview)
cross join lateral farm_finish(
    w.job, w.chunk, w.token, w.segment::jsonb, w.frames, w.seconds::jsonb, w.preview, %(alone)s) f
"""


def finish_render(session: Session, lease: Lease, segment: Segment) -> Finished | None:
    """A render chunk's output counts, once: chunk, attempt, and the job's counts, whose row stays locked. None: the
    token is stale. One round trip (farm_finish)."""
    for row in run(session, _FINISH_RENDER, _finishing([(lease, segment)], alone=False)):
        return Finished(
            JobStatus(row.job_status),
            row.is_stopped,
            bool(row.is_last),
            row.queue,
            row.worker_id,
            bool(row.on_trial),
            tuple(row.failed_by or ()),
        )
    return None


def finish_renders(database: Database, done: Sequence[tuple[Lease, Segment]]) -> Mapping[str, JobStatus]:
    """`finish_render` of chunks from which nothing else follows, in a transaction of their own: their jobs' statuses by
    token. Of those left out nothing was written."""
    # Jobs are locked in the order of their ids, as everywhere.
    ordered = sorted(done, key=lambda each: each[0].job_id)
    rows = database.alone(_FINISH_RENDER, _finishing(ordered, alone=True))
    return {row.token: JobStatus(row.job_status) for row in rows}


def _finishing(done: Sequence[tuple[Lease, Segment]], *, alone: bool) -> dict[str, Any]:
    return {
        "jobs": [lease.job_id for lease, _ in done],
        "chunks": [lease.chunk_id for lease, _ in done],
        "tokens": [lease.token for lease, _ in done],
        "segments": [json.dumps(to_document(segment)) for _, segment in done],
        "frames": [segment.frames for _, segment in done],
        "seconds": [json.dumps(dict(segment.seconds)) for _, segment in done],
        "previews": [segment.preview_key for _, segment in done],
        "alone": alone,
    }


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


_ADD_FINALIZE: Final = """
insert into chunks (id, tenant_id, job_id, job_number, ordinal, work, status, held, queue, priority, version_id)
select %(id)s, tenant_id, id, number, chunks_total + 1, 'finalize', 'waiting', status = 'paused', %(queue)s, priority,
    version_id
from jobs where id = %(job)s and not exists (select from chunks where job_id = %(job)s and work = 'finalize')
"""


def add_finalize(session: Session, job: JobRecord, queue: str, chunk_id: str) -> None:
    """The chunk that ends a locked job, where it has none yet; it has no frames of its own."""
    shares.wake(session, job.tenant_id, [queue])
    run(session, _ADD_FINALIZE, {"id": chunk_id, "job": job.id, "queue": queue})


def queues_of(session: Session, job_ids: Sequence[str]) -> tuple[str, ...]:
    """Where chunks of these jobs wait."""
    return tuple(session.scalars(select(ChunkRow.queue).where(ChunkRow.job_id.in_(job_ids), is_waiting).distinct()))


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
