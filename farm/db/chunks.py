"""Chunks and their attempts as their tenant reads them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import select

from farm.db import cursor as cursors
from farm.db.rows import AttemptRow, ChunkRow
from farm.db.session import Session
from farm.domain.chunk import ChunkStatus, Reason, Work
from farm.domain.span import Span
from farm.domain.views import AttemptView, ChunkView, Page


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
