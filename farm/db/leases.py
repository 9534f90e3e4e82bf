"""Taking a lease, keeping it, and reading what its holder needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, extract, func, insert, select, update

from farm.db.ledger import seconds_from_now
from farm.db.rows import AssetRow, AttemptRow, ChunkRow, JobRow, VersionRow, WorkerRow, is_held, is_leased, is_waiting
from farm.db.session import Session
from farm.domain.asset import AssetStatus
from farm.domain.chunk import ChunkStatus, Lease, Work
from farm.domain.document import from_document
from farm.domain.job import JobSpec, JobStatus, Phase
from farm.domain.order import Blob, Order, PlanRecord, Progress, Segment
from farm.domain.ripple import WORKING
from farm.domain.span import Span

claimable: ColumnElement[bool] = is_waiting & ~is_held & (ChunkRow.available_at <= func.now())


@dataclass(frozen=True)
class Taken:
    """A chunk just leased, and its job's status as seen without a lock."""

    lease: Lease
    job_status: JobStatus
    batch_frames: int | None


def next_chunk(queue: str) -> Select[str]:
    """The id of the best claimable chunk of a queue, locked; those that others are taking are passed over."""
    return (
        select(ChunkRow.id)
        .where(ChunkRow.queue == queue, claimable)
        .order_by(ChunkRow.priority.desc(), ChunkRow.job_number, ChunkRow.ordinal)
        .limit(1)
        .with_for_update(key_share=True, skip_locked=True)
    )


def take(session: Session, queue: str, worker_id: str, lease_s: float, token: str) -> Taken | None:
    """Lease the best claimable chunk of a queue in one statement."""
    best = next_chunk(queue).cte("best").prefix_with("MATERIALIZED")
    change = (
        update(ChunkRow)
        .where(ChunkRow.id == best.c.id)
        .values(
            status=ChunkStatus.LEASED,
            token=token,
            worker_id=worker_id,
            attempts=ChunkRow.attempts + 1,
            leased_at=func.now(),
            lease_expires_at=seconds_from_now(lease_s),
            updated_at=func.now(),
            phase=None,
            frames_done=0,
            frames_per_s=0.0,
        )
        .returning(
            ChunkRow.id,
            ChunkRow.job_id,
            ChunkRow.tenant_id,
            ChunkRow.work,
            ChunkRow.start,
            ChunkRow.stop,
            ChunkRow.attempts,
            ChunkRow.batch_frames,
            extract("epoch", ChunkRow.lease_expires_at).label("expires_at"),
        )
    )
    chunk = session.execute(change, execution_options={"synchronize_session": False}).one_or_none()
    if chunk is None:
        return None
    job = session.execute(select(JobRow.batch_id, JobRow.status).where(JobRow.id == chunk.job_id)).one()
    session.execute(
        insert(AttemptRow).values(
            chunk_id=chunk.id,
            number=chunk.attempts,
            tenant_id=chunk.tenant_id,
            token=token,
            worker_id=worker_id,
            outcome="running",
        )
    )
    lease = Lease(
        chunk_id=chunk.id,
        job_id=chunk.job_id,
        batch_id=job.batch_id,
        tenant_id=chunk.tenant_id,
        work=Work(chunk.work),
        span=Span(chunk.start, chunk.stop),
        attempt=chunk.attempts,
        token=token,
        expires_at=float(chunk.expires_at),
        lease_s=lease_s,
    )
    return Taken(lease, JobStatus(job.status), chunk.batch_frames)


def extend(session: Session, lease: Lease, progress: Progress) -> float | None:
    """Extend a lease whose job goes on, noting the progress: the new expiry, or None where nothing matched.

    A lease past its time that nobody has swept yet is still its holder's: the token is the fence, not the clock. The
    job's row is not touched, so that a heartbeat never waits for a verb on the job.
    """
    change = (
        update(ChunkRow)
        .where(
            ChunkRow.id == lease.chunk_id,
            ChunkRow.token == lease.token,
            is_leased,
            ChunkRow.job_id == JobRow.id,
            JobRow.status.in_(WORKING),
        )
        .values(
            lease_expires_at=seconds_from_now(lease.lease_s),
            updated_at=func.now(),
            phase=progress.phase,
            frames_done=progress.frames_done,
            frames_per_s=progress.frames_per_s,
            preview_key=func.coalesce(progress.preview_key, ChunkRow.preview_key),
        )
        .returning(extract("epoch", ChunkRow.lease_expires_at), ChunkRow.worker_id)
    )
    row = session.execute(change, execution_options={"synchronize_session": False}).one_or_none()
    if row is None:
        return None
    values: dict[str, Any] = {"heartbeat_at": func.now()}
    # Planning only looks at frames, many times as fast: estimates rest on rendering.
    if progress.phase is Phase.RENDERING and progress.frames_per_s > 0:
        values["frames_per_s"] = progress.frames_per_s
    session.execute(update(WorkerRow).where(WorkerRow.id == row[1]).values(**values))
    return float(row[0])


def goes_on(session: Session, lease: Lease) -> bool:
    """Whether `extend` would find its row now: two look-ups by key, nothing is locked or written."""
    query = (
        select(ChunkRow.id)
        .join(JobRow, JobRow.id == ChunkRow.job_id)
        .where(ChunkRow.id == lease.chunk_id, ChunkRow.token == lease.token, is_leased, JobRow.status.in_(WORKING))
    )
    return session.scalar(query) is not None


def order(session: Session, taken: Taken) -> Order:
    """Everything that the lease's holder needs."""
    lease = taken.lease
    job = session.execute(
        select(JobRow.spec, JobRow.plan, JobRow.version_id, VersionRow.bundle_key, VersionRow.bundle_sha256)
        .join(VersionRow, VersionRow.id == JobRow.version_id)
        .where(JobRow.id == lease.job_id)
    ).one()
    spec = from_document(JobSpec, job.spec)
    return Order(
        lease=lease,
        spec=spec,
        assets=asset_blobs(session, lease.tenant_id, asset_ids(spec)) if lease.work is Work.PLAN else {},
        version_id=job.version_id,
        bundle_key=job.bundle_key,
        bundle_sha256=job.bundle_sha256,
        batch_frames=taken.batch_frames,
        plan=None if lease.work is Work.PLAN else from_document(PlanRecord, job.plan),
        segments=segments(session, lease.job_id) if lease.work is Work.FINALIZE else (),
    )


def asset_ids(spec: JobSpec) -> tuple[str, ...]:
    """The assets that a job names, each once."""
    media = [spec.source, spec.voice, spec.face.reference]
    settings = [setting for factors in spec.all_factors for _, setting in factors.items()]
    media += [driver.media for setting in settings for driver in setting.drivers]
    return tuple(dict.fromkeys(m.asset_id for m in media if m is not None and m.asset_id is not None))


def asset_blobs(session: Session, tenant_id: str, ids: Iterable[str]) -> Mapping[str, Blob]:
    """The bytes of those of a tenant's assets that are ready."""
    wanted = list(ids)
    if not wanted:
        return {}
    query = select(AssetRow.id, AssetRow.blob_key, AssetRow.size_bytes, AssetRow.sha256).where(
        AssetRow.tenant_id == tenant_id, AssetRow.id.in_(wanted), AssetRow.status == AssetStatus.READY
    )
    return {row.id: Blob(row.blob_key, row.size_bytes, row.sha256) for row in session.execute(query)}


def segments(session: Session, job_id: str) -> tuple[Segment, ...]:
    query = (
        select(ChunkRow.segment)
        .where(ChunkRow.job_id == job_id, ChunkRow.work == Work.RENDER, ChunkRow.status == ChunkStatus.SUCCEEDED)
        .order_by(ChunkRow.ordinal)
    )
    return tuple(from_document(Segment, document) for document in session.scalars(query))


def may_claim(session: Session, worker_id: str) -> bool:
    """False for a worker that is draining or in quarantine."""
    stopped = WorkerRow.draining | (func.coalesce(WorkerRow.quarantined_until, func.now()) > func.now())
    return not session.scalar(select(stopped).where(WorkerRow.id == worker_id))


def count_claimable(session: Session, queue: str, limit: int) -> int:
    """Claimable chunks of a queue, counted up to `limit`: the backlog itself is never counted through."""
    some = select(ChunkRow.id).where(ChunkRow.queue == queue, claimable).limit(limit).subquery()
    return session.scalars(select(func.count()).select_from(some)).one()


def leased_by_queue(session: Session) -> Mapping[str, int]:
    query = select(ChunkRow.queue, func.count()).where(is_leased).group_by(ChunkRow.queue)
    return {row[0]: row[1] for row in session.execute(query)}


def queues_in_use(session: Session, known: Sequence[str]) -> tuple[str, ...]:
    """The known queues, and those that workers listen to."""
    seen = session.scalars(select(func.unnest(WorkerRow.queues)).where(WorkerRow.left_at.is_(None)).distinct())
    return tuple(dict.fromkeys([*known, *seen]))
