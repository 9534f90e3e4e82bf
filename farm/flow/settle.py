"""A chunk's attempt ends: its output is kept, its failure is judged, or it goes back."""

from __future__ import annotations

from farm.db import leases, ledger
from farm.db.ledger import ChunkRecord, JobRecord
from farm.db.session import Session
from farm.domain.chunk import ChunkStatus, Failure, Lease, Reason, Work
from farm.domain.document import to_document
from farm.domain.ids import new_id
from farm.domain.job import JobStatus
from farm.domain.order import Output, Segment, mean_scores
from farm.domain.placement import queue_for
from farm.domain.retry import GiveUp, RetryAfter, next_try
from farm.domain.ripple import WORKING
from farm.domain.span import Span
from farm.errors import LeaseLost
from farm.flow import claim, ripple
from farm.flow.ripple import Change

USUAL_BATCH = 8


def is_settled(session: Session, lease: Lease) -> bool:
    """Whether this lease's success is recorded: the answer to a commit whose own answer was lost on the way."""
    return ledger.attempt_outcome(session, lease.token) == "succeeded"


def held_job(session: Session, lease: Lease) -> tuple[JobRecord, ChunkRecord]:
    """Lock the lease's job and read its chunk. Raises LeaseLost where the token is stale or the job has been stopped.

    A paused job still takes what was finished: the work is done.
    """
    job = ledger.lock_job(session, lease.job_id)
    chunk = ledger.chunk_of_token(session, lease.chunk_id, lease.token)
    if chunk is None:
        raise LeaseLost(f"chunk {lease.chunk_id}: the lease has ended")
    if job.status not in WORKING and job.status is not JobStatus.PAUSED:
        ripple.settle(session, claim.withdraw(session, job, chunk.id, lease.token))
        raise LeaseLost(f"chunk {lease.chunk_id}: job {job.status}")
    return job, chunk


def succeed(session: Session, lease: Lease, result: Segment | Output) -> JobStatus:
    """Settle a render chunk with its segment, or the finalize chunk with the job's output; returns the job's status.

    The last segment inserts the finalize chunk. Raises LeaseLost when the token is stale (late or repeated) or the
    job was canceled: discard the object then. ValueError when the result is not one of the lease's work and span.
    """
    if isinstance(result, Output):
        if lease.work is not Work.FINALIZE:
            raise ValueError(f"an output does not settle a {lease.work} chunk")
        return _finished(session, lease, result)
    if lease.work is not Work.RENDER or result.span != lease.span or result.frames != len(lease.span):
        raise ValueError(f"segment {result.span} of {result.frames} frames does not settle {lease.work} {lease.span}")
    return _rendered(session, lease, result)


def _rendered(session: Session, lease: Lease, segment: Segment) -> JobStatus:
    job, _ = held_job(session, lease)
    ledger.end_lease(
        session,
        lease.chunk_id,
        lease.token,
        ChunkStatus.SUCCEEDED,
        segment=to_document(segment),
        frames_done=segment.frames,
    )
    ledger.end_attempt(session, lease.token, "succeeded", seconds=segment.seconds)
    ledger.add_done(session, job.id, lease.chunk_id, frames=segment.frames, preview_key=segment.preview_key)
    if job.chunks_done + 1 < job.chunks_total:
        return job.status
    if not ledger.has_chunk(session, job.id, Work.FINALIZE):
        ledger.add_chunks(
            session,
            job,
            Work.FINALIZE,
            [Span(0, 0)],
            queue_for(Work.FINALIZE),
            first=job.chunks_total + 1,
            ids=[new_id("chk")],
        )
    if job.status is JobStatus.PAUSED:
        return job.status
    ripple.settle(session, [Change(job, JobStatus.FINALIZING, "all segments are rendered")])
    return JobStatus.FINALIZING


def _finished(session: Session, lease: Lease, output: Output) -> JobStatus:
    job, _ = held_job(session, lease)
    ledger.end_lease(session, lease.chunk_id, lease.token, ChunkStatus.SUCCEEDED)
    ledger.end_attempt(session, lease.token, "succeeded")
    scores = mean_scores(leases.segments(session, job.id))
    ledger.change_job(session, [job.id], output=to_document(output), scores=scores)
    ripple.settle(session, [Change(job, JobStatus.SUCCEEDED, "the output is stored")])
    return JobStatus.SUCCEEDED


def fail(session: Session, lease: Lease, failure: Failure, dice: float) -> RetryAfter | GiveUp:
    """Report a failed attempt; `farm.domain.retry` decides. `dice` in [0, 1) spreads the back-off. LeaseLost too."""
    job, chunk = held_job(session, lease)
    decision, changes = judge(session, job, chunk, lease.token, failure, dice)
    ripple.settle(session, changes)
    return decision


def judge(
    session: Session, job: JobRecord, chunk: ChunkRecord, token: str, failure: Failure, dice: float
) -> tuple[RetryAfter | GiveUp, list[Change]]:
    """End a failed attempt of a locked job's chunk: it waits for another, or the job fails with it.

    Returns the decision and what follows for the job, for `ripple.settle`.
    """
    decision = next_try(failure, ledger.earlier_reasons(session, chunk), dice)
    ended = {"reason": failure.reason, "code": failure.code, "detail": failure.detail}
    if isinstance(decision, RetryAfter):
        ledger.end_lease(
            session,
            chunk.id,
            token,
            ChunkStatus.WAITING,
            held=job.status is JobStatus.PAUSED,
            available_at=ledger.seconds_from_now(decision.delay_s),
            batch_frames=_halved(chunk, failure) if decision.halve_batch else chunk.batch_frames,
        )
        ledger.end_attempt(session, token, "failed", **ended)
        return decision, []
    ledger.end_lease(session, chunk.id, token, ChunkStatus.FAILED)
    ledger.end_attempt(session, token, "failed", **ended)
    ripple.ended(session, [job], f"another chunk of the job failed: {decision.code}")
    change = Change(job, JobStatus.FAILED, f"{chunk.work} failed: {failure.reason}", decision.code, decision.detail)
    return decision, [change]


def _halved(chunk: ChunkRecord, failure: Failure) -> int:
    return max(1, (failure.batch_frames or chunk.batch_frames or USUAL_BATCH) // 2)


def give_back(session: Session, lease: Lease) -> None:
    """Return the chunk unfinished at a soft shutdown (preempted): claimable at once, no retry spent. LeaseLost too."""
    job, _ = held_job(session, lease)
    held = job.status is JobStatus.PAUSED
    ledger.end_lease(session, lease.chunk_id, lease.token, ChunkStatus.WAITING, held=held)
    detail = "the worker was shut down and gave the chunk back"
    ledger.end_attempt(session, lease.token, "returned", reason=Reason.PREEMPTED, code="preempted", detail=detail)
