"""Work is handed out: claim a chunk under a lease, and keep the lease alive."""

from __future__ import annotations

from collections.abc import Sequence

from farm.db.session import Session
from farm.domain.chunk import Lease
from farm.domain.order import Order, Progress


def claim(
    session: Session, worker_id: str, queues: Sequence[str], lease_s: float, loaded_version: str | None = None
) -> Order | None:
    """Lease the best claimable chunk of the first of `queues` that has one: priority, then job age, then ordinal.

    None: nothing to do now, or the worker is draining or quarantined. `loaded_version` is noted as the worker's bundle.
    The worker must be registered (farm.flow.workers.register).
    """
    raise NotImplementedError


def heartbeat(session: Session, lease: Lease, progress: Progress) -> Lease:
    """Extend the lease by its lease_s from now, store the progress; returns the extended lease.

    Raises LeaseLost when the token is stale, or when the job was canceled, paused or has ended; the chunk is then given
    back or canceled, without an attempt spent (`Database.transaction` commits on LeaseLost).
    """
    raise NotImplementedError
