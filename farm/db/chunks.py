"""Chunks and their attempts as their tenant reads them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from farm.db import cursor as cursors
from farm.db.rows import AttemptRow, ChunkRow
from farm.db.session import Session
from farm.domain.chunk import ChunkStatus, Reason, Work
from farm.domain.span import Span
from farm.domain.views import AttemptView, ChunkView, Page


@dataclass(frozen=True)
class AttemptTrail:
    """Where an attempt's objects are, for its log; the token is no authority any more once the attempt is over."""

    chunk_id: str
    work: Work
    span: Span
    number: int
    worker_id: str
    outcome: str
    reason: str | None
    token: str


def trails(
    session: Session, tenant_id: str, job_id: str, *, chunk_id: str | None = None, number: int | None = None, limit: int
) -> tuple[AttemptTrail, ...]:
    """The newest attempts at a job's chunks, oldest first."""
    query = (
        select(
            ChunkRow.id,
            ChunkRow.work,
            ChunkRow.start,
            ChunkRow.stop,
            AttemptRow.number,
            AttemptRow.worker_id,
            AttemptRow.outcome,
            AttemptRow.reason,
            AttemptRow.token,
        )
        .join(AttemptRow, AttemptRow.chunk_id == ChunkRow.id)
        .where(ChunkRow.tenant_id == tenant_id, ChunkRow.job_id == job_id)
        .order_by(AttemptRow.started_at.desc())
        .limit(limit)
    )
    if chunk_id is not None:
        query = query.where(ChunkRow.id == chunk_id)
    if number is not None:
        query = query.where(AttemptRow.number == number)
    return tuple(
        AttemptTrail(r.id, Work(r.work), Span(r.start, r.stop), r.number, r.worker_id, r.outcome, r.reason, r.token)
        for r in session.execute(query)
    )[::-1]


def page(
    session: Session, tenant_id: str, job_id: str, *, cursor: str | None = None, page_size: int = 100
) -> Page[ChunkView]:
    """In order: plan, render spans, finalize. Each with all its attempts."""
    query = (
        select(ChunkRow)
        .where(ChunkRow.tenant_id == tenant_id, ChunkRow.job_id == job_id)
        .order_by(ChunkRow.ordinal)
        .limit(cursors.limit(page_size))
        .execution_options(populate_existing=True)
    )
    if cursor is not None:
        query = query.where(ChunkRow.ordinal > cursors.decode("chunks", cursor))
    rows = session.scalars(query).all()
    attempts = _attempts(session, [row.id for row in rows])
    views = [
        ChunkView(
            id=row.id,
            job_id=row.job_id,
            ordinal=row.ordinal,
            work=Work(row.work),
            status=ChunkStatus(row.status),
            span=Span(row.start, row.stop),
            worker_id=row.worker_id,
            frames_done=row.frames_done,
            frames_per_s=row.frames_per_s,
            available_at=row.available_at,
            lease_expires_at=row.lease_expires_at,
            attempts=tuple(attempts.get(row.id, ())),
            scores=(row.segment or {}).get("scores", {}),
            flags=tuple((row.segment or {}).get("flags", ())),
            updated_at=row.updated_at,
        )
        for row in rows
    ]
    return cursors.page(views, page_size, "chunks", lambda view: view.ordinal)


def _attempts(session: Session, chunk_ids: Sequence[str]) -> Mapping[str, list[AttemptView]]:
    query = (
        select(AttemptRow)
        .where(AttemptRow.chunk_id.in_(chunk_ids))
        .order_by(AttemptRow.chunk_id, AttemptRow.number)
        .execution_options(populate_existing=True)
    )
    found: dict[str, list[AttemptView]] = defaultdict(list)
    for row in session.scalars(query):
        found[row.chunk_id].append(
            AttemptView(
                number=row.number,
                worker_id=row.worker_id,
                outcome=row.outcome,
                reason=None if row.reason is None else Reason(row.reason),
                code=row.code,
                detail=row.detail,
                seconds=row.seconds,
                started_at=row.started_at,
                finished_at=row.finished_at,
            )
        )
    return found
