"""Queued training runs get a place: an attempt with a token, before anything is started anywhere."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from farm.db import runs
from farm.db.ledger import database_time
from farm.db.session import Session
from farm.domain.run import Attempt, RunSpec, RunStatus
from farm.flow.runs import move


@dataclass(frozen=True)
class Launch:
    """What to start. fruitless: attempts in a row before it that got nowhere."""

    attempt: Attempt
    spec: RunSpec
    fruitless: int = 0


def claim(session: Session, host: str | None, at_once: int) -> Launch | None:
    """Open an attempt of the oldest queued run here, where fewer than `at_once` are open. host: this machine; None: a
    cluster.

    The row says `starting` before anything starts: whoever dies now leaves an attempt that nothing runs for, and the
    reconciler opens the next one.
    """
    if runs.count_held(session, host) >= at_once:
        return None
    run = runs.next_queued(session)
    if run is None:
        return None
    number = run.attempts + 1
    attempt = Attempt(run.id, number, secrets.token_hex(16), host, database_time(session))
    runs.add_attempt(session, attempt, run.furthest)
    move(
        session,
        run,
        RunStatus.STARTING,
        f"attempt {number}",
        attempt=number,
        token=attempt.token,
        host=host,
        heard_at=attempt.started_at,
        progress_at=attempt.started_at,
        alerts=[],
        curves_read=0,
        stop_asked_at=None,
    )
    return Launch(attempt, run.spec, run.fruitless)


def hold_back(session: Session, reason: str) -> None:
    """Say why the oldest queued run does not start."""
    run = runs.next_queued(session)
    if run is not None:
        runs.change(session, run.id, waiting_reason=reason)
