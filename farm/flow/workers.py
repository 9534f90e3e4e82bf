"""Render workers come, report and go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from farm.db.session import Session


@dataclass(frozen=True)
class WorkerFacts:
    """What a worker is. `info`: device name, memory, software versions; shown, never used to decide."""

    id: str
    host: str
    device: str
    queues: Sequence[str]
    info: Mapping[str, object] = field(default_factory=dict)


def register(session: Session, facts: WorkerFacts) -> None:
    """Make the worker known (again). A worker that comes back under its id is no longer draining."""
    raise NotImplementedError


def beat(session: Session, worker_id: str, version_id: str | None = None, frames_per_s: float | None = None) -> bool:
    """A worker's sign of life, also when idle (every few seconds). False when it is draining: stop claiming."""
    raise NotImplementedError


def leave(session: Session, worker_id: str) -> None:
    """The worker stops for good: it is no longer listed as alive."""
    raise NotImplementedError


def drain(session: Session, worker_id: str) -> None:
    """The worker gets no more chunks. Rejected("not_found")."""
    raise NotImplementedError


def resume(session: Session, worker_id: str) -> None:
    """The worker gets chunks again: ends draining and quarantine. Rejected("not_found")."""
    raise NotImplementedError
