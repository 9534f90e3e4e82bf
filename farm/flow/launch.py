"""Queued training runs get a place: an attempt with a token, before anything is started anywhere."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from farm.db import runs
from farm.db.ledger import database_time
from farm.db.session import Session
from farm.domain import line
from farm.domain.run import Attempt, RunEventKind, RunSpec, RunStatus
from farm.flow.runs import move

EXPLAINED: Final = 200
"""So many queued runs are told why they wait, the first in line."""


@dataclass(frozen=True)
class Launch:
    """What to start. fruitless: attempts in a row before it that got nowhere."""

    attempt: Attempt
    spec: RunSpec
    fruitless: int = 0


def claim(session: Session, host: str | None, at_once: int, least: int = 0) -> Launch | None:
    """Open an attempt of the queued run of the highest priority here, of equal ones the oldest, where fewer than
    `at_once` are open. host: this machine; None: a cluster. least: only of such a priority or higher.

    The row says `starting` before anything starts: whoever dies now leaves an attempt that nothing runs for, and the
    reconciler opens the next one.
    """
    if runs.count_held(session, host) >= at_once:
        return None
    run = runs.next_queued(session, least)
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


def make_way(session: Session, host: str | None, at_once: int, least: int = 0) -> str | None:
    """Where all room is taken, ask a run here to stop at a checkpoint for the first in line, which may preempt it; its
    id. It goes on when there is room again."""
    if runs.count_held(session, host) < at_once:
        return None
    first = runs.next_queued(session, least)
    if first is None:
        return None
    here = {run.id for run in runs.held(session, host)}
    training = tuple(run for run in runs.training(session) if run.run_id in here)
    waits = line.Waiting(first.id, first.spec.priority, first.spec.preempt, first.schedule)
    found = line.victim(waits, training)
    run = runs.lock(session, found.run_id) if found is not None else None
    # Its attempt may have ended, and another launcher may have asked, while we waited for its row.
    if run is None or run.room_asked or run.status not in (RunStatus.STARTING, RunStatus.RUNNING):
        return None
    runs.change(session, run.id, room_asked=True)
    runs.add_event(session, run.id, RunEventKind.YIELD, {"yielding": True, "for": first.id})
    return run.id


def explain(session: Session, *, renders_before: int | None = None, nowhere: str | None = None) -> None:
    """Write down why queued runs wait. renders_before: rendering wants the devices, and goes before lower priorities.
    nowhere: why none starts here at all; said only where no launcher that starts some has said anything."""
    queued = runs.waiting(session, EXPLAINED)
    if not queued:
        return
    because = line.reasons([run for run, _ in queued], runs.training(session), renders_before)
    for run, shown in queued:
        if nowhere is not None and shown is not None:
            continue
        reason = nowhere or because[run.run_id]
        if reason != shown:
            runs.explain(session, run.run_id, reason)
