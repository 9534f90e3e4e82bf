"""A job's plan chunk is done: its facts and its render chunks are recorded."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from farm.db import ledger, media
from farm.db.session import Session
from farm.domain.chunk import Lease, Work
from farm.domain.document import to_document
from farm.domain.ids import new_id
from farm.domain.job import JobStatus
from farm.domain.order import PlanRecord
from farm.domain.span import Span
from farm.errors import Transient
from farm.flow import quarantine, ripple
from farm.flow.ripple import Change
from farm.flow.settle import held_job


def record(session: Session, lease: Lease, plan: PlanRecord, spans: Sequence[Span]) -> JobStatus:
    """Settle the plan chunk: facts to the job, one render chunk a span (they must tile [0, frames_total)), job queued.

    Returns the job's status after. Raises Transient when an input was swept away meanwhile (plan again), and
    LeaseLost when the token is stale or the job was canceled.
    """
    edges = [0, *(span.stop for span in spans)]
    tiled = all(span.start == before and len(span) for span, (before, _) in zip(spans, pairwise(edges), strict=True))
    if lease.work is not Work.PLAN or not spans or not tiled or edges[-1] != plan.frames_total:
        raise ValueError(f"spans do not tile [0, {plan.frames_total}), or {lease.work} is not plan work")
    job, chunk = held_job(session, lease)
    if not media.use(session, job.id, lease.chunk_id, (plan.source, plan.voice, *plan.drivers)):
        raise Transient("input_swept", "an input that was found in the store was swept away meanwhile")
    ledger.finish(session, lease, plan.seconds)
    ledger.change_job(
        session,
        [job.id],
        plan=to_document(plan),
        frames_total=plan.frames_total,
        chunks_total=len(spans),
    )
    ids = [new_id("chk") for _ in spans]
    ledger.add_chunks(session, job, Work.RENDER, spans, chunk.queue, first=1, ids=ids)
    status = job.status
    if status is not JobStatus.PAUSED:
        status = JobStatus.QUEUED
        ripple.settle(session, [Change(job, status, f"planned: {plan.frames_total} frames")])
    quarantine.proved(session, chunk.worker_id, chunk.failed_by)
    return status
