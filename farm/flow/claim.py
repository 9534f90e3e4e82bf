"""Work is handed out: claim a chunk under a lease, and keep the lease alive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from farm.db import leases, ledger
from farm.db.leases import Ask, Taken
from farm.db.ledger import JobRecord
from farm.db.session import Session
from farm.domain.chunk import ChunkStatus, Lease, Reason, Work
from farm.domain.job import JobStatus
from farm.domain.order import Foreseen, Order, Progress
from farm.domain.ripple import WORKING
from farm.errors import LeaseLost
from farm.flow import ripple
from farm.flow.ripple import Change

__all__ = ["Ask", "claim", "claim_many", "foresee", "heartbeat", "withdraw"]


def claim(
    session: Session, worker_id: str, queues: Sequence[str], lease_s: float, loaded_version: str | None = None
) -> Order | None:
    """Lease the next chunk of the first of `queues` that has one for this worker; `claim_many` says which that is.

    None: nothing to do now, or the worker is draining or quarantined. `loaded_version` is noted as the worker's bundle.
    """
    return claim_many(session, [Ask(worker_id, queues, loaded_version)], lease_s)[0]


def claim_many(session: Session, asks: Sequence[Ask], lease_s: float) -> list[Order | None]:
    """Answer several workers at once, in their order; each worker asks once. Where some get a chunk and others none,
    those may ask again at once: what there was for them was just being handed out by somebody else.

    Between tenants, the one that has had the least work for its weight comes next, unless it is at its cap. Inside a
    tenant: priority, then job age, then ordinal; but a chunk of the worker's loaded version may overtake up to 15
    others of the same priority, a worker is kept from chunks that it failed while another could try, and every eighth
    chunk of the tenant is the oldest of another priority, in turn, where that has waited for ten minutes.
    """
    taken = _take(session, asks, lease_s)
    started = {
        one.lease.job_id: one
        for one in taken.values()
        if one.lease.work is Work.RENDER and one.job_status is JobStatus.QUEUED
    }
    if started:
        locked = ledger.lock_jobs(session, ids=list(started))
        ripple.settle(session, [Change(job, JobStatus.RUNNING, "first chunk claimed") for job in locked])
    orders = dict(zip(taken, leases.orders(session, list(taken.values())), strict=True))
    return [orders.get(index) for index in range(len(asks))]


def _take(session: Session, asks: Sequence[Ask], lease_s: float) -> dict[int, Taken]:
    """By index of `asks`; workers that name several queues look into them one after another."""
    taken: dict[int, Taken] = {}
    for depth in range(max(len(ask.queues) for ask in asks)):
        looking: dict[str, list[int]] = {}
        for index, ask in enumerate(asks):
            if index not in taken and depth < len(ask.queues):
                looking.setdefault(ask.queues[depth], []).append(index)
        for queue in sorted(looking):
            indices = looking[queue]
            found = leases.take(session, queue, [asks[index] for index in indices], lease_s)
            taken.update({indices[slot]: one for slot, one in found.items()})
    return taken


def foresee(session: Session, lease: Lease) -> Foreseen | None:
    """What the holder of a lease should bring to its machine for its next chunk; None when that is of the same job, or
    nothing is waiting."""
    return leases.foreseen(session, lease)


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
