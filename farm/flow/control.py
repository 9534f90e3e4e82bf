"""What people ask of running work. Every verb sees one tenant's own rows; anything else is Rejected("not_found").

Each writes an audit entry for its `actor`, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from farm.db import batches, jobs, ledger, media, shares, standing
from farm.db.ledger import JobRecord
from farm.db.session import Session
from farm.db.standing import BatchRecord
from farm.domain.audit import Action
from farm.domain.job import BatchStatus, JobStatus
from farm.domain.tenant import FARM, Actor
from farm.domain.views import BatchView, JobView
from farm.errors import Rejected
from farm.flow import audit, ripple
from farm.flow.ripple import Change

RETRYABLE = frozenset({JobStatus.FAILED, JobStatus.CANCELED})


def cancel_batch(session: Session, tenant_id: str, batch_id: str, *, actor: Actor = FARM) -> BatchView:
    """Cancel every job that has not ended: waiting chunks at once, leased ones at their next heartbeat. Repeatable."""
    locked = _batch_jobs(session, tenant_id, batch_id)
    changes = _cancel(session, locked)
    asked = True if any(not job.status.is_terminal for job in locked) else None
    ripple.settle(session, changes, batch_id=batch_id, cancel_asked=asked)
    audit.record(session, actor, Action.BATCH_CANCELED, batch_id, {"jobs": len(changes)}, tenant_id=tenant_id)
    return _batch_view(session, tenant_id, batch_id)


def cancel_job(session: Session, tenant_id: str, job_id: str, *, actor: Actor = FARM) -> JobView:
    """Cancel one job. An ended job stays as it is; repeatable."""
    job = _job(session, tenant_id, job_id)
    ripple.settle(session, _cancel(session, [job]))
    audit.record(session, actor, Action.JOB_CANCELED, job_id, {"was": job.status.value}, tenant_id=tenant_id)
    return _job_view(session, tenant_id, job_id)


def _cancel(session: Session, locked: Sequence[JobRecord]) -> list[Change]:
    open_jobs = [job for job in locked if not job.status.is_terminal]
    ids = [job.id for job in open_jobs]
    ledger.cancel_waiting(session, ids)
    still_leased = ledger.jobs_with_open_chunks(session, ids)
    return [
        Change(job, JobStatus.CANCELING if job.id in still_leased else JobStatus.CANCELED, "canceled by request")
        for job in open_jobs
    ]


def pause_batch(session: Session, tenant_id: str, batch_id: str, *, actor: Actor = FARM) -> BatchView:
    """Hold every job that has not ended; leased chunks go back at their next heartbeat.
    Rejected("batch_ended") when there is nothing left to hold."""
    locked = _batch_jobs(session, tenant_id, batch_id)
    open_jobs = [job for job in locked if not job.status.is_terminal and job.status is not JobStatus.CANCELING]
    if not open_jobs:
        raise Rejected("batch_ended", "no job of this batch can be paused: all have ended or are being canceled")
    ledger.change_waiting(session, [job.id for job in open_jobs], held=True)
    changes = [Change(job, JobStatus.PAUSED, "paused by request") for job in open_jobs]
    ripple.settle(session, changes, batch_id=batch_id, paused=True)
    audit.record(session, actor, Action.BATCH_PAUSED, batch_id, {"jobs": len(changes)}, tenant_id=tenant_id)
    return _batch_view(session, tenant_id, batch_id)


def resume_batch(session: Session, tenant_id: str, batch_id: str, *, actor: Actor = FARM) -> BatchView:
    """Let a paused batch go on. Harmless when it is not paused."""
    locked = _batch_jobs(session, tenant_id, batch_id)
    paused = [job for job in locked if job.status is JobStatus.PAUSED]
    ledger.change_waiting(session, [job.id for job in paused], held=False)
    shares.wake(session, tenant_id, ledger.queues_of(session, [job.id for job in paused]))
    changes = _working(session, paused, "resumed by request")
    ripple.settle(session, changes, batch_id=batch_id, paused=False)
    audit.record(session, actor, Action.BATCH_RESUMED, batch_id, {"jobs": len(changes)}, tenant_id=tenant_id)
    return _batch_view(session, tenant_id, batch_id)


def retry_job(session: Session, tenant_id: str, job_id: str, *, actor: Actor = FARM) -> JobView:
    """Take up a failed or canceled job again from the chunk that failed, keeping finished segments, with fresh retries.
    Rejected("job_not_retryable") otherwise."""
    job = _job(session, tenant_id, job_id)
    if job.status not in RETRYABLE:
        raise Rejected("job_not_retryable", f"only a failed or canceled job can be retried; this one is {job.status}")
    if job.erased:
        raise Rejected("job_not_retryable", "what this job made on its way has been erased: submit it again")
    _retry(session, job.batch_id, [job])
    audit.record(session, actor, Action.JOB_RETRIED, job_id, {"was": job.status.value}, tenant_id=tenant_id)
    return _job_view(session, tenant_id, job_id)


def retry_failed(session: Session, tenant_id: str, batch_id: str, *, actor: Actor = FARM) -> BatchView:
    """retry_job for every failed job of a batch. Rejected("nothing_to_retry") when there is none."""
    locked = _batch_jobs(session, tenant_id, batch_id)
    failed = [job for job in locked if job.status is JobStatus.FAILED and not job.erased]
    if not failed:
        raise Rejected("nothing_to_retry", "this batch has no failed job whose media are still there")
    _retry(session, batch_id, failed)
    audit.record(session, actor, Action.BATCH_RETRIED, batch_id, {"jobs": len(failed)}, tenant_id=tenant_id)
    return _batch_view(session, tenant_id, batch_id)


def _retry(session: Session, batch_id: str, locked: Sequence[JobRecord]) -> None:
    batch = _flags(session, batch_id)
    if batch.status is BatchStatus.CANCELING:
        raise Rejected("batch_canceling", "the batch is being canceled; retry when that has ended")
    ledger.reopen_chunks(session, [job.id for job in locked], held=batch.paused)
    shares.wake(session, batch.tenant_id, ledger.queues_of(session, [job.id for job in locked]))
    if batch.paused:
        changes = [Change(job, JobStatus.PAUSED, "retried by request in a paused batch") for job in locked]
    else:
        changes = _working(session, locked, "retried by request")
    ripple.settle(session, changes, batch_id=batch_id, cancel_asked=False)


def delete_batch(session: Session, tenant_id: str, batch_id: str, *, actor: Actor = FARM) -> BatchView:
    """delete_job for every job of a batch. Rejected("batch_not_ended")."""
    locked = _batch_jobs(session, tenant_id, batch_id)
    if any(not job.status.is_terminal for job in locked):
        raise Rejected("batch_not_ended", "cancel the batch first: only the media of ended jobs can be erased")
    media.erase_all(session, [job.id for job in locked])
    audit.record(session, actor, Action.BATCH_DELETED, batch_id, {"jobs": len(locked)}, tenant_id=tenant_id)
    return _batch_view(session, tenant_id, batch_id)


def delete_job(session: Session, tenant_id: str, job_id: str, *, actor: Actor = FARM) -> JobView:
    """Erase all media of an ended job: output, previews, whatever was made on the way, and its inputs where no other
    job or asset needs them. Its row stays: who asked, with what right, what came of it. Repeatable.
    Rejected("job_not_ended")."""
    job = _job(session, tenant_id, job_id)
    if not job.status.is_terminal:
        raise Rejected(
            "job_not_ended", f"cancel the job first: only the media of ended jobs are erased, it is {job.status}"
        )
    media.erase_all(session, [job.id])
    audit.record(session, actor, Action.JOB_DELETED, job_id, tenant_id=tenant_id)
    return _job_view(session, tenant_id, job_id)


def set_batch_priority(
    session: Session, tenant_id: str, batch_id: str, priority: int, *, actor: Actor = FARM
) -> BatchView:
    """0..100, for all its jobs that have not ended; acts on the next claim. Rejected("priority_out_of_range")."""
    _check_priority(priority)
    locked = _batch_jobs(session, tenant_id, batch_id)
    _prioritise(session, locked, priority)
    batches.set_priority(session, batch_id, priority)
    audit.record(session, actor, Action.BATCH_PRIORITY, batch_id, {"priority": priority}, tenant_id=tenant_id)
    return _batch_view(session, tenant_id, batch_id)


def set_job_priority(session: Session, tenant_id: str, job_id: str, priority: int, *, actor: Actor = FARM) -> JobView:
    """As set_batch_priority, for one job."""
    _check_priority(priority)
    _prioritise(session, [_job(session, tenant_id, job_id)], priority)
    audit.record(session, actor, Action.JOB_PRIORITY, job_id, {"priority": priority}, tenant_id=tenant_id)
    return _job_view(session, tenant_id, job_id)


def _prioritise(session: Session, locked: Sequence[JobRecord], priority: int) -> None:
    ids = [job.id for job in locked if not job.status.is_terminal]
    ledger.change_waiting(session, ids, priority=priority)
    ledger.change_job(session, ids, priority=priority)


def _check_priority(priority: int) -> None:
    if not 0 <= priority <= 100:
        raise Rejected("priority_out_of_range", f"priority is 0 to 100, not {priority}", pointer="/priority")


def _working(session: Session, locked: Sequence[JobRecord], reason: str) -> list[Change]:
    status = ripple.working(session, locked)
    return [Change(job, status[job.id], reason) for job in locked]


def _flags(session: Session, batch_id: str) -> BatchRecord:
    """The batch, locked. Its jobs are locked before it, as everywhere."""
    (batch,) = standing.lock_batches(session, [batch_id])
    return batch


def _batch_jobs(session: Session, tenant_id: str, batch_id: str) -> list[JobRecord]:
    """All jobs of a tenant's batch, locked; a batch has at least one."""
    locked = ledger.lock_jobs(session, batch_id=batch_id, tenant_id=tenant_id)
    if not locked:
        raise Rejected("not_found", f"there is no batch {batch_id}")
    return locked


def _job(session: Session, tenant_id: str, job_id: str) -> JobRecord:
    locked = ledger.lock_jobs(session, ids=[job_id], tenant_id=tenant_id)
    if not locked:
        raise Rejected("not_found", f"there is no job {job_id}")
    return locked[0]


def _batch_view(session: Session, tenant_id: str, batch_id: str) -> BatchView:
    view = batches.get(session, tenant_id, batch_id)
    assert view is not None
    return view


def _job_view(session: Session, tenant_id: str, job_id: str) -> JobView:
    view = jobs.get(session, tenant_id, job_id)
    assert view is not None
    return view
