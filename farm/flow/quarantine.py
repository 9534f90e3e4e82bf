"""Bad workers: who fails what others then finish gets nothing for a while, then one chunk to prove itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from farm.db import fleet, workers
from farm.db.session import Session
from farm.domain.audit import Action
from farm.domain.chunk import Failure
from farm.domain.retry import forgive_s
from farm.domain.tenant import FARM
from farm.flow import audit

WINDOW_S: Final = 3600.0
FAILURES: Final = 3
"""Chunks that a worker failed within the window and others finished, for a quarantine."""


def proved(session: Session, worker_id: str, failed_by: Sequence[str] | None) -> None:
    """A worker finished a chunk: that ends its trial, and counts against those who had failed the chunk.

    A transaction's last step: locks worker rows.
    """
    workers.end_trial(session, worker_id)
    for other in sorted(set(failed_by or ()) - {worker_id}):
        _weigh(session, other)


def failed_trial(session: Session, worker_id: str, failure: Failure) -> None:
    """A worker failed a chunk: on trial, that renews its quarantine. A transaction's last step."""
    if workers.is_on_trial(session, worker_id):
        _quarantine(session, worker_id, f"its first chunk after a quarantine failed too: {failure.code}")


def _weigh(session: Session, worker_id: str) -> None:
    failures = workers.failures(session, WINDOW_S)
    own = failures.get(worker_id, 0)
    if own < FAILURES:
        return
    view = workers.get(session, worker_id)
    if view is None or view.quarantined_until is not None:
        return
    # A fault that all meet (a store that fails) is nobody's own, and the last worker of a queue is kept in any case.
    peers = [other for queue in view.queues for other in fleet.others(session, queue, worker_id)]
    usual = sum(failures.get(peer, 0) for peer in peers) / max(1, len(peers))
    if all(fleet.others(session, queue, worker_id) for queue in view.queues) and own > 2 * usual:
        _quarantine(session, worker_id, f"it failed {own} chunks within the hour that other workers then finished")


def _quarantine(session: Session, worker_id: str, reason: str) -> None:
    seconds = forgive_s(workers.quarantines(session, worker_id))
    if workers.quarantine(session, worker_id, seconds, reason):
        detail = {"reason": reason, "seconds": seconds}
        audit.record(session, FARM, Action.WORKER_QUARANTINED, worker_id, detail)
