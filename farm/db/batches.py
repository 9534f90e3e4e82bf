"""Batches as their tenant reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, insert, select, update

from farm.db import cursor as cursors
from farm.db import fleet
from farm.db.ledger import database_time
from farm.db.rows import BatchRow, ChunkRow, JobRow, is_leased
from farm.db.session import Session
from farm.domain.chunk import Work
from farm.domain.job import BatchStatus
from farm.domain.outlook import batch_progress
from farm.domain.views import BatchView, Counts, Page


def get(session: Session, tenant_id: str, batch_id: str) -> BatchView | None:
    query = select(BatchRow).where(BatchRow.tenant_id == tenant_id, BatchRow.id == batch_id)
    views = _views(session, _rows(session, query))
    return views[0] if views else None


def page(
    session: Session,
    tenant_id: str,
    *,
    status: BatchStatus | None = None,
    updated_since: datetime | None = None,
    cursor: str | None = None,
    page_size: int = 100,
) -> Page[BatchView]:
    """Newest first. Rejected("cursor_invalid")."""
    query = select(BatchRow).where(BatchRow.tenant_id == tenant_id).order_by(BatchRow.id.desc())
    if status is not None:
        query = query.where(BatchRow.status == status)
    if updated_since is not None:
        query = query.where(BatchRow.updated_at >= updated_since)
    if cursor is not None:
        query = query.where(BatchRow.id < str(cursors.decode("batches", cursor)))
    rows = _rows(session, query.limit(cursors.limit(page_size)))
    return cursors.page(_views(session, rows), page_size, "batches", lambda view: view.id)


def add(session: Session, **values: Any) -> None:
    session.execute(insert(BatchRow).values(**values))


def set_priority(session: Session, batch_id: str, priority: int) -> None:
    session.execute(update(BatchRow).where(BatchRow.id == batch_id).values(priority=priority, updated_at=func.now()))


def _rows(session: Session, query: Any) -> Sequence[BatchRow]:
    return session.scalars(query.execution_options(populate_existing=True)).all()


def _views(session: Session, rows: Sequence[BatchRow]) -> list[BatchView]:
    if not rows:
        return []
    frames = _frames(session, [row.id for row in rows])
    speed = fleet.speed(session)
    now = database_time(session)
    return [_view(row, frames[row.id], speed, now) for row in rows]


def _frames(session: Session, batch_ids: Sequence[str]) -> Mapping[str, Any]:
    """Sums over the jobs of each batch, and the frames done in chunks that are leased now."""
    ended = JobRow.finished_at.is_not(None)
    unplanned = JobRow.frames_total == 0
    query = (
        select(
            JobRow.batch_id,
            func.sum(JobRow.frames_total).label("total"),
            func.sum(JobRow.frames_done).label("done"),
            func.coalesce(func.sum(JobRow.frames_total).filter(ended), 0).label("ended_total"),
            func.coalesce(func.sum(JobRow.frames_done).filter(~ended), 0).label("open_done"),
            func.count().filter(~unplanned).label("planned"),
            func.count().filter(unplanned).label("unplanned"),
            func.count().filter(unplanned & ended).label("unplanned_ended"),
        )
        .where(JobRow.batch_id.in_(batch_ids))
        .group_by(JobRow.batch_id)
    )
    live = (
        select(JobRow.batch_id, func.sum(ChunkRow.frames_done))
        .join(JobRow, JobRow.id == ChunkRow.job_id)
        .where(JobRow.batch_id.in_(batch_ids), is_leased, ChunkRow.work == Work.RENDER)
        .group_by(JobRow.batch_id)
    )
    now_done = dict(session.execute(live).all())
    return {
        row.batch_id: {**row._asdict(), "live": int(now_done.get(row.batch_id) or 0)} for row in session.execute(query)
    }


def _view(row: BatchRow, frames: Mapping[str, Any], speed: float, now: datetime) -> BatchView:
    over = row.finished_at is not None
    usual = frames["total"] / frames["planned"] if frames["planned"] else 1.0
    weights = frames["total"] + usual * frames["unplanned"]
    done = frames["ended_total"] + frames["open_done"] + frames["live"] + usual * frames["unplanned_ended"]
    left = max(0.0, weights - done)
    known = bool(frames["planned"]) and speed > 0 and row.status == BatchStatus.RUNNING
    return BatchView(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        status=BatchStatus(row.status),
        priority=row.priority,
        model=row.model,
        version_id=row.version_id,
        counts=Counts(
            total=row.jobs_total,
            queued=row.jobs_queued,
            running=row.jobs_running,
            succeeded=row.jobs_succeeded,
            failed=row.jobs_failed,
            canceled=row.jobs_canceled,
        ),
        progress=batch_progress(done, weights, is_over=over),
        frames_done=int(frames["done"]) + frames["live"],
        frames_total=int(frames["total"]),
        eta=now + timedelta(seconds=left / speed) if known else None,
        deadline=row.deadline,
        metadata=row.user_metadata,
        asked_by=row.asked_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
