"""Render workers come, report and go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from farm.db import workers
from farm.db.session import Session
from farm.domain.audit import Action
from farm.domain.tenant import FARM, Actor
from farm.errors import Rejected
from farm.flow import audit


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
    workers.put(
        session,
        id=facts.id,
        host=facts.host,
        device=facts.device,
        queues=list(facts.queues),
        info=dict(facts.info),
    )


def beat(
    session: Session,
    worker_id: str,
    version_id: str | None = None,
    frames_per_s: float | None = None,
    speeds: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """A worker's sign of life, also when idle (every few seconds).

    speeds: frames a second that it measured, by version and farm.domain.speed's size class; plans go by them.
    """
    workers.note(session, worker_id, version_id=version_id, frames_per_s=frames_per_s, speeds=speeds or None)


def is_kept_out(session: Session, worker_id: str) -> bool:
    """Whether a worker is draining or in quarantine: it gets nothing, and should leave messages to others."""
    return workers.is_kept_out(session, worker_id)


def leave(session: Session, worker_id: str) -> None:
    """The worker stops for good: it is no longer listed as alive."""
    workers.leave(session, worker_id)


def drain(session: Session, worker_id: str, *, actor: Actor = FARM) -> None:
    """The worker gets no more chunks. Rejected("not_found")."""
    if not workers.change(session, worker_id, draining=True):
        raise _unknown(worker_id)
    audit.record(session, actor, Action.WORKER_DRAINED, worker_id)


def resume(session: Session, worker_id: str, *, actor: Actor = FARM) -> None:
    """The worker gets chunks again: ends draining and quarantine. Rejected("not_found")."""
    if not workers.resume(session, worker_id):
        raise _unknown(worker_id)
    audit.record(session, actor, Action.WORKER_RESUMED, worker_id)


def _unknown(worker_id: str) -> Rejected:
    return Rejected("not_found", f"there is no worker {worker_id}")
