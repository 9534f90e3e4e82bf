"""A job's plan chunk is done: its facts and its render chunks are recorded."""

from __future__ import annotations

from collections.abc import Sequence

from farm.db.session import Session
from farm.domain.chunk import Lease
from farm.domain.job import JobStatus
from farm.domain.order import PlanRecord
from farm.domain.span import Span


def record(session: Session, lease: Lease, plan: PlanRecord, spans: Sequence[Span]) -> JobStatus:
    """Settle the plan chunk: facts to the job, one render chunk a span (they must tile [0, frames_total)), job queued.

    Returns the job's status after. Raises LeaseLost when the token is stale or the job was canceled.
    """
    raise NotImplementedError
