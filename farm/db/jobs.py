"""Jobs as their tenant reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import extract, func, select, text

from farm.db import bulk, fleet, leases, shares
from farm.db import cursor as cursors
from farm.db.leases import claimable
from farm.db.ledger import database_time
from farm.db.rows import AttemptRow, BatchRow, ChunkRow, JobRow, MediaUseRow, has_succeeded, is_leased, is_waiting
from farm.db.session import Session
from farm.domain.alias import Cohort
from farm.domain.batch import Rights
from farm.domain.chunk import Work
from farm.domain.document import from_document
from farm.domain.job import JobSpec, JobStatus, Kind, Phase
from farm.domain.order import Output, PlanRecord
from farm.domain.outlook import Live, Wait, job_eta_s, phase, waiting_reason
from farm.domain.placement import RENDER_QUEUE
from farm.domain.views import JobView, Page, ResultLine

COUNTED_AHEAD = 10_000
"""How far down the queue one looks to say what is ahead of a job; beyond, nothing is said."""


def get(session: Session, tenant_id: str, job_id: str) -> JobView | None:
    """One job, with what is ahead of it where it waits."""
    query = select(JobRow).where(JobRow.tenant_id == tenant_id, JobRow.id == job_id)
    views = _views(session, _rows(session, query), look_ahead=True)
    return views[0] if views else None


def page(
    session: Session,
    tenant_id: str,
    batch_id: str | None = None,
    *,
    status: JobStatus | None = None,
    updated_since: datetime | None = None,
    in_hand: bool = False,
    cursor: str | None = None,
    page_size: int = 100,
) -> Page[JobView]:
    """Of one batch in the order of its items, else all of the tenant, oldest first. Rejected("cursor_invalid").

    in_hand: only those that a worker is on now, be it planning, rendering or finishing.
    """
    query = select(JobRow).where(JobRow.tenant_id == tenant_id)
    order, kind = JobRow.number, "jobs"
    if batch_id is not None:
        query = query.where(JobRow.batch_id == batch_id)
        order, kind = JobRow.ordinal, "batch-jobs"
    if status is not None:
        query = query.where(JobRow.status == status)
    if updated_since is not None:
        query = query.where(JobRow.updated_at >= updated_since)
    if in_hand:
        query = query.where(select(ChunkRow.id).where(ChunkRow.job_id == JobRow.id, is_leased).exists())
    if cursor is not None:
        query = query.where(order > cursors.decode(kind, cursor))
    rows = _rows(session, query.order_by(order).limit(cursors.limit(page_size)))
    numbers = {row.id: row.number for row in rows}
    views = _views(session, rows)
    return cursors.page(views, page_size, kind, lambda v: numbers[v.id] if batch_id is None else v.ordinal)


def results(session: Session, tenant_id: str, batch_id: str) -> Iterator[ResultLine]:
    """A line a job, in the order of the items; streams, so use it inside the transaction."""
    query = (
        select(
            JobRow.id,
            JobRow.custom_id,
            JobRow.status,
            JobRow.output,
            JobRow.error_code,
            JobRow.error_detail,
            JobRow.version_id,
            JobRow.scores,
            JobRow.flags,
            extract("epoch", JobRow.finished_at - JobRow.started_at).label("seconds"),
            JobRow.rights,
            JobRow.output_erased_at,
            BatchRow.asked_by,
        )
        .join(BatchRow, BatchRow.id == JobRow.batch_id)
        .where(JobRow.tenant_id == tenant_id, JobRow.batch_id == batch_id)
        .order_by(JobRow.ordinal)
    )
    for row in session.execute(query, execution_options={"yield_per": 500}):
        yield ResultLine(
            job_id=row.id,
            custom_id=row.custom_id,
            status=JobStatus(row.status),
            output=_output(row.output),
            error_code=row.error_code,
            error_detail=row.error_detail,
            version_id=row.version_id,
            scores=row.scores,
            flags=tuple(row.flags),
            seconds=None if row.seconds is None else float(row.seconds),
            rights=_rights(row.rights),
            asked_by=row.asked_by,
            output_erased_at=row.output_erased_at,
        )


def numbers(session: Session, count: int) -> list[int]:
    """Fresh job numbers in increasing order: the age by which claims sort."""
    sequence = text("select nextval(pg_get_serial_sequence('jobs', 'number')) from generate_series(1, :count)")
    return sorted(session.scalars(sequence, {"count": count}))


def add(
    session: Session, jobs: Sequence[dict[str, Any]], chunks: Sequence[dict[str, Any]], uses: Sequence[dict[str, Any]]
) -> None:
    """Jobs, their first chunks, and the assets that they need."""
    bulk.copy(session, JobRow, jobs)
    bulk.copy(session, ChunkRow, chunks)
    bulk.copy(session, MediaUseRow, uses)


def usual_frames(session: Session) -> float | None:
    """Mean length in frames of the last planned jobs; None when there was none."""
    last = select(JobRow.frames_total).where(has_succeeded).order_by(JobRow.finished_at.desc()).limit(500).subquery()
    mean = session.scalar(select(func.avg(last.c.frames_total)))
    return None if mean is None else float(mean)


def frames_waiting(session: Session) -> int:
    """Frames of render chunks that could be claimed now, of all tenants, counted up to COUNTED_AHEAD chunks."""
    some = select((ChunkRow.stop - ChunkRow.start).label("frames")).where(claimable).limit(COUNTED_AHEAD).subquery()
    return int(session.scalar(select(func.sum(some.c.frames))) or 0)


def _rows(session: Session, query: Any) -> Sequence[JobRow]:
    return session.scalars(query.execution_options(populate_existing=True)).all()


def _rights(document: Mapping[str, Any] | None) -> Rights | None:
    return None if document is None else from_document(Rights, document)


def _output(document: Mapping[str, Any] | None) -> Output | None:
    return None if document is None else from_document(Output, document)


def _views(session: Session, rows: Sequence[JobRow], *, look_ahead: bool = False) -> list[JobView]:
    if not rows:
        return []
    now = database_time(session)
    live = _live(session, [row.id for row in rows])
    fleet_speed = fleet.speed(session)
    idle = [row for row in rows if row.finished_at is None and row.id not in live]
    waits = _waits(session, idle, now)
    views = []
    for row in rows:
        wait = waits.get(row.id, Wait(1, RENDER_QUEUE))
        ahead_frames = 0
        speed = fleet_speed
        if look_ahead and row.id in waits and wait.workers and not wait.retry_in_s:
            ahead, ahead_frames = _ahead(session, row, wait.queue)
            wait = replace(wait, ahead=ahead)
            speed *= shares.part(session, row.tenant_id, wait.queue)
        views.append(_view(row, live.get(row.id, Live()), wait, speed, ahead_frames, now))
    return views


def _live(session: Session, job_ids: Sequence[str]) -> Mapping[str, Live]:
    """By job, what its leased chunks report."""
    query = (
        select(
            ChunkRow.job_id,
            ChunkRow.work,
            ChunkRow.phase,
            ChunkRow.frames_done,
            ChunkRow.frames_per_s,
            ChunkRow.preview_key,
        )
        .where(ChunkRow.job_id.in_(job_ids), is_leased)
        .order_by(ChunkRow.updated_at)
    )
    found: dict[str, Live] = {}
    for row in session.execute(query):
        so_far = found.get(row.job_id, Live())
        renders = row.work == Work.RENDER
        found[row.job_id] = Live(
            leased=so_far.leased + 1,
            phase=Phase(row.phase) if row.phase else so_far.phase,
            frames_done=so_far.frames_done + (row.frames_done if renders else 0),
            frames_per_s=so_far.frames_per_s + (row.frames_per_s if renders else 0.0),
            preview_key=row.preview_key or so_far.preview_key,
        )
    return found


def _waits(session: Session, rows: Sequence[JobRow], now: datetime) -> Mapping[str, Wait]:
    """By job, what keeps its next chunk from being claimed; jobs without a waiting chunk are left out."""
    if not rows:
        return {}
    query = (
        select(ChunkRow.job_id, func.min(ChunkRow.queue), func.min(ChunkRow.available_at))
        .where(ChunkRow.job_id.in_([row.id for row in rows]), is_waiting)
        .group_by(ChunkRow.job_id)
    )
    found = {job_id: (queue, at) for job_id, queue, at in session.execute(query)}
    failures = _last_failures(session, [job_id for job_id, (_, at) in found.items() if at > now])
    serving, stopped = fleet.by_queue(session)
    leased = leases.leased_by_queue(session)
    tenants = {row.id: row.tenant_id for row in rows}
    caps = {
        (tenant, queue): shares.reached_cap(session, tenant, queue)
        for tenant, queue in {(tenants[job_id], queue) for job_id, (queue, _) in found.items()}
    }
    return {
        job_id: Wait(
            workers=serving.get(queue, 0),
            queue=queue,
            retry_in_s=max(0.0, (at - now).total_seconds()),
            last_failure=failures.get(job_id),
            stopped=stopped.get(queue, 0),
            is_busy=leased.get(queue, 0) >= serving.get(queue, 0),
            cap=caps[tenants[job_id], queue],
        )
        for job_id, (queue, at) in found.items()
    }


def _last_failures(session: Session, job_ids: Sequence[str]) -> Mapping[str, str]:
    if not job_ids:
        return {}
    last = (
        select(ChunkRow.job_id, AttemptRow.reason, AttemptRow.code)
        .join(AttemptRow, AttemptRow.chunk_id == ChunkRow.id)
        .where(ChunkRow.job_id.in_(job_ids), is_waiting, AttemptRow.reason.is_not(None))
        .order_by(AttemptRow.finished_at)
    )
    return {row.job_id: f"{row.reason} ({row.code})" for row in session.execute(last)}


def _ahead(session: Session, row: JobRow, queue: str) -> tuple[int | None, int]:
    """Its tenant's chunks and frames that are claimed before this job's next chunk; None where there are too many to
    count."""
    before = (ChunkRow.priority > row.priority) | (
        (ChunkRow.priority == row.priority) & (ChunkRow.job_number < row.number)
    )
    some = (
        select((ChunkRow.stop - ChunkRow.start).label("frames"))
        .where(ChunkRow.queue == queue, ChunkRow.tenant_id == row.tenant_id, claimable, before)
        .limit(COUNTED_AHEAD)
        .subquery()
    )
    chunks, frames = session.execute(select(func.count(), func.coalesce(func.sum(some.c.frames), 0))).one()
    return (None if chunks == COUNTED_AHEAD else int(chunks)), int(frames)


def _view(row: JobRow, live: Live, wait: Wait, fleet_speed: float, ahead_frames: int, now: datetime) -> JobView:
    status = JobStatus(row.status)
    frames_done = min(row.frames_total, row.frames_done + live.frames_done)
    eta_s = job_eta_s(status, row.frames_total - frames_done, live.frames_per_s, fleet_speed, ahead_frames)
    return JobView(
        id=row.id,
        tenant_id=row.tenant_id,
        batch_id=row.batch_id,
        ordinal=row.ordinal,
        custom_id=row.custom_id,
        kind=Kind(row.kind),
        status=status,
        status_reason=row.status_reason,
        phase=phase(status, live),
        waiting_reason=waiting_reason(status, live.leased, wait),
        priority=row.priority,
        version_id=row.version_id,
        cohort=None if row.cohort is None else Cohort(row.cohort),
        spec=from_document(JobSpec, row.spec),
        plan=None if row.plan is None else from_document(PlanRecord, row.plan),
        frames_done=frames_done,
        frames_total=row.frames_total,
        chunks_done=row.chunks_done,
        chunks_total=row.chunks_total,
        frames_per_s=live.frames_per_s,
        eta=None if eta_s is None else now + timedelta(seconds=eta_s),
        preview_key=live.preview_key or row.preview_key,
        error_code=row.error_code,
        error_detail=row.error_detail,
        output=_output(row.output),
        scores=row.scores,
        flags=tuple(row.flags),
        rights=_rights(row.rights),
        previews_erased_at=row.previews_erased_at,
        output_erased_at=row.output_erased_at,
        deleted_at=row.deleted_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
