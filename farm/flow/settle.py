"""A chunk's attempt ends: its output is kept, its failure is judged, or it goes back."""

from __future__ import annotations

from collections.abc import Sequence

from farm.db import fleet, leases, ledger, shares
from farm.db.ledger import ChunkRecord, JobRecord
from farm.db.session import Database, Session
from farm.domain.chunk import ChunkStatus, Failure, Lease, Reason, Work
from farm.domain.document import to_document
from farm.domain.ids import new_id
from farm.domain.job import JobStatus
from farm.domain.order import Output, Segment, all_flags, mean_scores
from farm.domain.retry import GiveUp, RetryAfter, is_blamed, next_try
from farm.domain.ripple import WORKING
from farm.errors import LeaseLost
from farm.flow import claim, quarantine, ripple
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
    _check(lease, result)
    return _rendered(session, lease, result)


def succeed_alone(database: Database, lease: Lease, result: Segment | Output) -> JobStatus:
    """`succeed` in its own transaction; a segment from which nothing follows but its counts takes one round trip."""
    (answer,) = succeed_many(database, [(lease, result)])
    if isinstance(answer, LeaseLost):
        raise answer
    return answer


def succeed_many(database: Database, done: Sequence[tuple[Lease, Segment | Output]]) -> list[JobStatus | LeaseLost]:
    """Answer several workers at once, in their order; the twin of `claim_many`. Segments from which nothing follows but
    their counts share a transaction, the others have one each: each counts, or is lost, for itself."""
    plain: list[tuple[Lease, Segment]] = []
    for lease, result in done:
        if isinstance(result, Segment):
            _check(lease, result)
            plain.append((lease, result))
    statuses = ledger.finish_renders(database, plain) if plain else {}
    return [statuses.get(lease.token) or _succeed_apart(database, lease, result) for lease, result in done]


def _succeed_apart(database: Database, lease: Lease, result: Segment | Output) -> JobStatus | LeaseLost:
    try:
        with database.transaction() as session:
            return succeed(session, lease, result)
    except LeaseLost as error:
        return error


def _check(lease: Lease, segment: Segment) -> None:
    if lease.work is not Work.RENDER or segment.span != lease.span or segment.frames != len(lease.span):
        raise ValueError(f"segment {segment.span} of {segment.frames} frames does not settle {lease.work} {lease.span}")


def _rendered(session: Session, lease: Lease, segment: Segment) -> JobStatus:
    finished = ledger.finish_render(session, lease, segment)
    if finished is None:
        raise LeaseLost(f"chunk {lease.chunk_id}: the lease has ended")
    if finished.is_stopped:
        job = ledger.lock_job(session, lease.job_id)
        ripple.settle(session, claim.withdraw(session, job, lease.chunk_id, lease.token))
        raise LeaseLost(f"chunk {lease.chunk_id}: job {job.status}")
    status = finished.job_status
    if finished.is_last:
        status = _all_rendered(session, ledger.lock_job(session, lease.job_id), finished.queue)
    if finished.on_trial or finished.failed_by:
        quarantine.proved(session, finished.worker_id, finished.failed_by)
    return status


def _all_rendered(session: Session, job: JobRecord, queue: str) -> JobStatus:
    ledger.add_finalize(session, job, queue, new_id("chk"))
    if job.status is JobStatus.PAUSED:
        return job.status
    ripple.settle(session, [Change(job, JobStatus.FINALIZING, "all segments are rendered")])
    return JobStatus.FINALIZING


def _finished(session: Session, lease: Lease, output: Output) -> JobStatus:
    job, chunk = held_job(session, lease)
    ledger.finish(session, lease)
    segments = leases.segments(session, job.id)
    ledger.store_output(session, job.id, to_document(output), mean_scores(segments), all_flags(segments))
    ripple.settle(session, [Change(job, JobStatus.SUCCEEDED, "the output is stored")])
    quarantine.proved(session, chunk.worker_id, chunk.failed_by)
    return JobStatus.SUCCEEDED


def fail(session: Session, lease: Lease, failure: Failure, dice: float) -> RetryAfter | GiveUp:
    """Report a failed attempt; `farm.domain.retry` decides. `dice` in [0, 1) spreads the back-off. LeaseLost too."""
    job, chunk = held_job(session, lease)
    decision, changes, blamed = judge(session, job, chunk, lease.token, failure, dice)
    ripple.settle(session, changes)
    if blamed:
        quarantine.failed_trial(session, chunk.worker_id, failure)
    return decision


def judge(
    session: Session, job: JobRecord, chunk: ChunkRecord, token: str, failure: Failure, dice: float
) -> tuple[RetryAfter | GiveUp, list[Change], bool]:
    """End a failed attempt of a locked job's chunk: it waits for another, or the job fails with it.

    Returns the decision, what follows for the job, for `ripple.settle`, and whether it may be the worker's own doing.
    """
    ended = {"reason": failure.reason, "code": failure.code, "detail": failure.detail}
    ledger.end_attempt(session, token, "failed", **ended)
    failed_by, tries = list(chunk.failed_by or ()), ledger.tries(session, chunk)
    blamed = is_blamed(failure.reason, chunk.worker_id, tries)
    if blamed and chunk.worker_id not in failed_by:
        failed_by.append(chunk.worker_id)
    others = fleet.has_other(session, chunk.queue, [*failed_by, chunk.worker_id])
    decision = next_try(failure, tries, dice, others=others)
    if isinstance(decision, RetryAfter):
        ledger.end_lease(
            session,
            chunk.id,
            token,
            ChunkStatus.WAITING,
            held=job.status is JobStatus.PAUSED,
            available_at=ledger.seconds_from_now(decision.delay_s),
            batch_frames=_halved(chunk, failure) if decision.halve_batch else chunk.batch_frames,
            failed_by=failed_by or None,
        )
        _wait_again(session, job, chunk, decision.delay_s)
        return decision, [], blamed
    ledger.end_lease(session, chunk.id, token, ChunkStatus.FAILED)
    ripple.ended(session, [job], f"another chunk of the job failed: {decision.code}")
    change = Change(job, JobStatus.FAILED, f"{chunk.work} failed: {failure.reason}", decision.code, decision.detail)
    return decision, [change], blamed


def _wait_again(session: Session, job: JobRecord, chunk: ChunkRecord, delay_s: float = 0.0) -> None:
    # What becomes claimable later is found by the sweep.
    if delay_s == 0 and job.status is not JobStatus.PAUSED:
        shares.wake(session, job.tenant_id, [chunk.queue])


def _halved(chunk: ChunkRecord, failure: Failure) -> int:
    return max(1, (failure.batch_frames or chunk.batch_frames or USUAL_BATCH) // 2)


def give_back(session: Session, lease: Lease) -> None:
    """Return the chunk unfinished at a soft shutdown (preempted): claimable at once, no retry spent. LeaseLost too."""
    job, chunk = held_job(session, lease)
    held = job.status is JobStatus.PAUSED
    ledger.end_lease(session, lease.chunk_id, lease.token, ChunkStatus.WAITING, held=held)
    detail = "the worker was shut down and gave the chunk back"
    ledger.end_attempt(session, lease.token, "returned", reason=Reason.PREEMPTED, code="preempted", detail=detail)
    _wait_again(session, job, chunk)
