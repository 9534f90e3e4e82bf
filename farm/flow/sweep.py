"""The tick's repairs: leases that ran out, and deadlines that passed."""

from __future__ import annotations

from dataclasses import dataclass

from farm.db import leases, ledger, shares
from farm.db.session import Session
from farm.domain.chunk import Failure, Reason
from farm.domain.job import JobStatus
from farm.domain.placement import QUEUES
from farm.domain.ripple import WORKING
from farm.flow import claim, idempotency, ripple, settle
from farm.flow.ripple import Change

LOST = Failure(Reason.WORKER_LOST, "worker_lost", "the worker was not heard of until its lease ran out")


@dataclass(frozen=True)
class Swept:
    """What one sweep did. `more` when it stopped at its limit: sweep again."""

    leases_lost: int
    jobs_expired: int
    more: bool


def sweep(session: Session, dice: float = 0.5, limit: int = 100) -> Swept:
    """Fail attempts whose lease ran out (worker_lost), expire jobs past their deadline, forget old idempotent answers.

    Safe anywhere, at any time. `dice` in [0, 1) spreads the back-off. Jobs that another verb has locked just now are
    left for the next sweep.
    """
    lost = ledger.expired_leases(session, limit)
    late = ledger.jobs_past_deadline(session, limit)
    ids = sorted({*late, *(job_id for job_id, _, _ in lost)})
    jobs = {job.id: job for job in ledger.lock_jobs(session, ids=ids, skip_locked=True)}
    changes: dict[str, Change] = {}
    for job_id in late:
        if job_id in jobs and not jobs[job_id].status.is_terminal:
            changes[job_id] = _expire(session, jobs[job_id])
    leases_lost = 0
    for job_id, chunk_id, token in lost:
        if job_id not in jobs or not ledger.is_expired(session, chunk_id, token):
            continue
        leases_lost += 1
        for change in _lose(session, jobs[job_id], chunk_id, token, dice):
            changes[job_id] = change
    ripple.settle(session, list(changes.values()))
    shares.tend(session, leases.queues_in_use(session, QUEUES))
    idempotency.forget(session)
    expired = sum(change.status is JobStatus.EXPIRED for change in changes.values())
    return Swept(leases_lost, expired, more=max(len(lost), len(late)) == limit)


def _expire(session: Session, job: ledger.JobRecord) -> Change:
    ripple.ended(session, [job], "the deadline has passed")
    return Change(job, JobStatus.EXPIRED, "the deadline has passed", "deadline_passed", "not finished by its deadline")


def _lose(session: Session, job: ledger.JobRecord, chunk_id: str, token: str, dice: float) -> list[Change]:
    chunk = ledger.chunk_of_token(session, chunk_id, token)
    if chunk is None:
        return []
    if job.status not in WORKING and job.status is not JobStatus.PAUSED:
        return claim.withdraw(session, job, chunk_id, token)
    return settle.judge(session, job, chunk, token, LOST, dice)[1]
