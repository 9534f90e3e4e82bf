"""Taking a lease, keeping it, and reading what its holder needs."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, Final

from sqlalchemy import ColumnElement, extract, func, select, update

from farm.db import fleet
from farm.db.ledger import seconds_from_now
from farm.db.rows import AssetRow, ChunkRow, JobRow, WorkerRow, is_held, is_leased, is_waiting
from farm.db.session import Session, run
from farm.domain.asset import AssetStatus
from farm.domain.chunk import Lease, Work
from farm.domain.document import from_document
from farm.domain.job import JobSpec, JobStatus, Phase
from farm.domain.order import Blob, Foreseen, Order, PlanRecord, Progress, Segment
from farm.domain.ripple import WORKING
from farm.domain.span import Span

claimable: ColumnElement[bool] = is_waiting & ~is_held & (ChunkRow.available_at <= func.now())


_CLAIM: Final = """
select * from farm_claim(%(queue)s, %(workers)s::text[], %(tokens)s::text[], %(versions)s::text[], %(lease_s)s)
"""


@dataclass(frozen=True)
class Ask:
    """A worker asks for a chunk of the first of `queues` that has one for it; it has `loaded_version` in memory."""

    worker_id: str
    queues: Sequence[str]
    loaded_version: str | None = None


@dataclass(frozen=True)
class Taken:
    """A chunk just leased, and its job's status before."""

    lease: Lease
    job_status: JobStatus
    batch_frames: int | None


def take(session: Session, queue: str, asks: Sequence[Ask], lease_s: float) -> Mapping[int, Taken]:
    """Lease the next chunks of a queue, by index of `asks`; those that get none are left out. One round trip.

    farm_claim (alembic, 0005) holds to fair shares, caps, priorities and quarantines. A job still `queued` of which a
    render chunk is taken is locked: its first one starts it.
    """
    values = {
        "queue": queue,
        "workers": [ask.worker_id for ask in asks],
        "tokens": [secrets.token_hex(16) for _ in asks],
        "versions": [ask.loaded_version for ask in asks],
        "lease_s": lease_s,
    }
    return {row.slot - 1: _taken(row, lease_s) for row in run(session, _CLAIM, values)}


def _taken(row: Any, lease_s: float) -> Taken:
    lease = Lease(
        chunk_id=row.chunk_id,
        job_id=row.job_id,
        batch_id=row.batch_id,
        tenant_id=row.tenant_id,
        work=Work(row.work),
        span=Span(row.start, row.stop),
        attempt=row.attempt,
        token=row.token,
        expires_at=row.expires_at,
        lease_s=lease_s,
    )
    return Taken(lease, JobStatus(row.job_status), row.batch_frames)


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


@dataclass(frozen=True)
class _JobFacts:
    """What never changes of a job once it is there. plan is None until it is planned."""

    spec: JobSpec
    plan: PlanRecord | None
    version_id: str
    bundle_key: str
    bundle_sha256: str
    traceparent: str | None


_known: OrderedDict[str, _JobFacts] = OrderedDict()
"""Of the jobs that this process claimed chunks of last: the next chunk is often one of the same job."""
_KNOWN_JOBS: Final = 512
_known_lock = Lock()


_FACTS: Final = """
select j.id, j.spec, j.plan, j.version_id, v.bundle_key, v.bundle_sha256, b.traceparent
from jobs j join versions v on v.id = j.version_id join batches b on b.id = j.batch_id
where j.id = any(%(ids)s)
"""


def orders(session: Session, taken: Sequence[Taken]) -> list[Order]:
    """Everything that the leases' holders need."""
    facts = _facts(session, [one.lease for one in taken])
    return [_order(session, one, facts[one.lease.job_id]) for one in taken]


def _order(session: Session, taken: Taken, job: _JobFacts) -> Order:
    lease = taken.lease
    is_plan = lease.work is Work.PLAN
    return Order(
        lease=lease,
        spec=job.spec,
        assets=asset_blobs(session, lease.tenant_id, asset_ids(job.spec)) if is_plan else {},
        version_id=job.version_id,
        bundle_key=job.bundle_key,
        bundle_sha256=job.bundle_sha256,
        batch_frames=taken.batch_frames,
        plan=None if is_plan else job.plan,
        segments=segments(session, lease.job_id) if lease.work is Work.FINALIZE else (),
        speeds=fleet.speeds(session, job.version_id) if is_plan else {},
        traceparent=job.traceparent,
    )


def _facts(session: Session, leased: Sequence[Lease]) -> dict[str, _JobFacts]:
    found: dict[str, _JobFacts] = {}
    with _known_lock:
        for lease in leased:
            known = _known.get(lease.job_id)
            if known is not None and (known.plan is not None or lease.work is Work.PLAN):
                found[lease.job_id] = known
                _known.move_to_end(lease.job_id)
    missing = {lease.job_id for lease in leased} - found.keys()
    if not missing:
        return found
    for row in run(session, _FACTS, {"ids": list(missing)}):
        plan = None if row.plan is None else from_document(PlanRecord, row.plan)
        spec = from_document(JobSpec, row.spec)
        found[row.id] = _JobFacts(spec, plan, row.version_id, row.bundle_key, row.bundle_sha256, row.traceparent)
    with _known_lock:
        _known.update({job_id: found[job_id] for job_id in missing})
        while len(_known) > _KNOWN_JOBS:
            _known.popitem(last=False)
    return found


def foreseen(session: Session, lease: Lease) -> Foreseen | None:
    """What comes next for the tenant of a lease, in the queue of its chunk, where that is another job; see Foreseen.

    A look along the index of waiting chunks, which locks nothing. Another tenant's chunk may come first.
    """
    queue = select(ChunkRow.queue).where(ChunkRow.id == lease.chunk_id).scalar_subquery()
    query = (
        select(ChunkRow.job_id, ChunkRow.work)
        .where(ChunkRow.queue == queue, ChunkRow.tenant_id == lease.tenant_id, claimable)
        .order_by(ChunkRow.priority.desc(), ChunkRow.job_number, ChunkRow.ordinal)
        .limit(1)
    )
    row = session.execute(query).one_or_none()
    if row is None or row.job_id == lease.job_id or row.work == Work.FINALIZE:
        return None
    its = replace(lease, job_id=row.job_id, work=Work(row.work))
    job = _facts(session, [its])[row.job_id]
    if its.work is Work.PLAN:
        blobs = tuple(asset_blobs(session, lease.tenant_id, asset_ids(job.spec)).values())
    else:
        assert job.plan is not None
        blobs = (job.plan.plan, job.plan.source, *job.plan.drivers, job.plan.speech)
    return Foreseen(row.job_id, blobs, job.bundle_key, job.bundle_sha256)


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


_SEGMENTS: Final = """
select segment from chunks where job_id = %(job)s and work = 'render' and status = 'succeeded' order by ordinal
"""


def segments(session: Session, job_id: str) -> tuple[Segment, ...]:
    return tuple(from_document(Segment, row.segment) for row in run(session, _SEGMENTS, {"job": job_id}))


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
