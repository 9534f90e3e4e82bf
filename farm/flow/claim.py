"""Work is handed out: claim a chunk under a lease, and keep the lease alive."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

from farm.db import leases, ledger, workers
from farm.db.leases import Taken
from farm.db.ledger import JobRecord
from farm.db.session import Session
from farm.domain.chunk import ChunkStatus, Lease, Reason, Work
from farm.domain.job import JobStatus
from farm.domain.order import Order, Progress
from farm.domain.ripple import WORKING
from farm.errors import LeaseLost
from farm.flow import ripple
from farm.flow.ripple import Change


def claim(
    session: Session, worker_id: str, queues: Sequence[str], lease_s: float, loaded_version: str | None = None
) -> Order | None:
    """Lease the best claimable chunk of the first of `queues` that has one: priority, then job age, then ordinal.

    None: nothing to do now, or the worker is draining or quarantined. `loaded_version` is noted as the worker's bundle.
    """
    if not leases.may_claim(session, worker_id):
        return None
    taken = _take(session, worker_id, queues, lease_s)
    if taken is not None and taken.lease.work is Work.RENDER and taken.job_status is JobStatus.QUEUED:
        job = ledger.lock_job(session, taken.lease.job_id)
        if job.status is JobStatus.QUEUED:
            ripple.settle(session, [Change(job, JobStatus.RUNNING, "first chunk claimed")])
    workers.note(session, worker_id, version_id=loaded_version)
    return None if taken is None else leases.order(session, taken)


def _take(session: Session, worker_id: str, queues: Sequence[str], lease_s: float) -> Taken | None:
    """A chunk whose job goes on. One that slipped past its job's cancel or pause (farm.db.ledger) is put right here."""
    for queue in queues:
        while taken := leases.take(session, queue, worker_id, lease_s, secrets.token_hex(16)):
            if taken.job_status in WORKING:
                return taken
            job = ledger.lock_job(session, taken.lease.job_id)
            if job.status in WORKING:
                return replace(taken, job_status=job.status)
            ripple.settle(session, withdraw(session, job, taken.lease.chunk_id, taken.lease.token))
    return None


def is_wanted(session: Session, lease: Lease) -> bool:
    """False once a heartbeat would raise LeaseLost: a look that costs little, for the time between two heartbeats."""
    return leases.goes_on(session, lease)


def heartbeat(session: Session, lease: Lease, progress: Progress) -> Lease:
    """Extend the lease by its lease_s from now, store the progress; returns the extended lease.

    Raises LeaseLost when the token is stale, or when the job was canceled, paused or has ended; the chunk is then given
    back or canceled, without an attempt spent (`Database.transaction` commits on LeaseLost).
    """
    expires_at = leases.extend(session, lease, progress)
    if expires_at is not None:
        return replace(lease, expires_at=expires_at)
    job = ledger.lock_job(session, lease.job_id)
    if job.status in WORKING:  # paused and resumed just now, or the token is stale
        expires_at = leases.extend(session, lease, progress)
        if expires_at is not None:
            return replace(lease, expires_at=expires_at)
    else:
        ripple.settle(session, withdraw(session, job, lease.chunk_id, lease.token))
    raise LeaseLost(f"chunk {lease.chunk_id}: job {job.status}")


def withdraw(session: Session, job: JobRecord, chunk_id: str, token: str) -> list[Change]:
    """End a lease that its locked job no longer wants: back to waiting where it is paused, else canceled.

    Returns what follows for the job, for `ripple.settle`.
    """
    if job.status is JobStatus.PAUSED:
        if ledger.end_lease(session, chunk_id, token, ChunkStatus.WAITING, held=True):
            ledger.end_attempt(session, token, "returned", code="paused", detail="the batch was paused")
        return []
    if ledger.end_lease(session, chunk_id, token, ChunkStatus.CANCELED):
        detail = f"the job is {job.status}"
        ledger.end_attempt(session, token, "failed", reason=Reason.CANCELED, code="canceled", detail=detail)
    if job.status is JobStatus.CANCELING and not ledger.jobs_with_open_chunks(session, [job.id]):
        return [Change(job, JobStatus.CANCELED, "its last chunk stopped")]
    return []
