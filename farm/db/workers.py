"""Workers and queues as operators read them."""

from __future__ import annotations

from typing import Final

from farm.db.session import Session
from farm.domain.views import QueueView, WorkerView

WORKER_LOST_S: Final = 30.0


def listed(session: Session) -> tuple[WorkerView, ...]:
    """All workers that have not left, by host and id."""
    raise NotImplementedError


def get(session: Session, worker_id: str) -> WorkerView | None: ...


def queues(session: Session) -> tuple[QueueView, ...]:
    """Depths of every queue. `waiting`, `delayed` and `held` are counted up to 100,000."""
    raise NotImplementedError
