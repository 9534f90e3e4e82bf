"""Counts over all tenants, for the metrics."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import func, select

from farm.db.rows import ChunkRow, JobRow
from farm.db.session import Session
from farm.domain.chunk import ChunkStatus
from farm.domain.job import JobStatus


def jobs_by_status(session: Session) -> Mapping[str, int]:
    """Every status, also those of no job."""
    counts: dict[str, int] = dict.fromkeys(JobStatus, 0)
    counts.update(
        (status, count)
        for status, count in session.execute(select(JobRow.status, func.count()).group_by(JobRow.status))
    )
    return counts


def chunks_by_status(session: Session) -> Mapping[str, int]:
    """Every status, also those of no chunk.."""
    counts: dict[str, int] = dict.fromkeys(ChunkStatus, 0)
    counts.update(
        (status, count)
        for status, count in session.execute(select(ChunkRow.status, func.count()).group_by(ChunkRow.status))
    )
    return counts
