"""Rows and processes are made to agree: what is seen of an attempt goes into its run's row, out comes what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from farm.db import runs
from farm.db.ledger import database_time
from farm.db.runs import Run
from farm.db.session import Session
from farm.domain.curves import total
from farm.domain.reconcile import LOST_AFTER, STALL, Asked, End, Over, Report, Seen, Wait, alerts, decide
from farm.domain.run import Attempt, Outcome, Point, RunEventKind, RunStatus
from farm.flow.runs import alert, move

RECENT = 200


@dataclass(frozen=True)
class Todo:
    """What follows for the processes. end: None nothing, "soft" leaves a checkpoint, "hard" kills. finished: the run's
    bundle is to be registered."""

    end: str | None = None
    finished: bool = False
    over: bool = False


NOTHING = Todo()
FOREIGN = Todo(end="hard")
"""No row wants this attempt."""


def settle(
    session: Session,
    attempt: Attempt,
    seen: Seen,
    *,
    yielding: bool = False,
    room: bool = False,
    stall: timedelta = STALL,
) -> Todo:
    """Write down what was seen of an attempt. yielding: its processes are halted for rendering. room: it is to stop and
    make room (a cluster's, which cannot halt).

    An attempt that is over in the rows is nobody's: FOREIGN, whatever it has done since.
    """
    run = runs.lock(session, attempt.run_id)
    if run is None or run.attempt is None or run.attempt.token != attempt.token:
        return FOREIGN
    runs.hear(session, run.id, attempt.token)
    now = database_time(session)
    if room and not run.room_asked and run.status is not RunStatus.CANCELING:
        runs.change(session, run.id, room_asked=True)
    asked = Asked(
        status=run.status,
        started_at=attempt.started_at,
        began_at=run.began_at,
        cancel=run.status is RunStatus.CANCELING,
        room=run.room_asked or room,
        stop_asked_at=run.stop_asked_at,
        attempts=attempt.number,
        fruitless=run.fruitless,
    )
    decision = decide(asked, seen, now)
    if seen.report is not None:
        _write_down(session, run, seen.report)
    if isinstance(decision, Wait):
        return NOTHING
    if isinstance(decision, End):
        if run.stop_asked_at is None:
            runs.change(session, run.id, stop_asked_at=now)
        return Todo(end="hard" if decision.hard else "soft")
    if isinstance(decision, Over):
        return _over(session, run, attempt, decision)
    _go_on(session, run, seen, yielding, now - (run.progress_at or attempt.started_at), stall)
    return NOTHING


def read_curves(session: Session, attempt: Attempt, points: Sequence[Point], offset: int) -> None:
    """Keep a piece of the curves; offset: up to where the file is read."""
    run = runs.lock(session, attempt.run_id)
    if run is None or run.attempt is None or run.attempt.token != attempt.token:
        return
    runs.add_points(session, run.id, points)
    runs.change(session, run.id, curves_read=offset)


def succeed(session: Session, attempt: Attempt, version_id: str | None, reason: str) -> bool:
    """The bundle of a finished attempt is registered; False where another saw to it."""
    run = runs.lock(session, attempt.run_id)
    if run is None or run.attempt is None or run.attempt.token != attempt.token:
        return False
    runs.change(session, run.id, version_id=version_id)
    if version_id is not None:
        runs.add_event(session, run.id, RunEventKind.VERSION, {"version_id": version_id, "reason": reason})
    _close(session, run, attempt, Over(Outcome.SUCCEEDED, RunStatus.SUCCEEDED, reason))
    return True


def fail(session: Session, attempt: Attempt, over: Over) -> bool:
    """End an attempt for a reason of our own (it cannot be launched, its bundle cannot be registered)."""
    run = runs.lock(session, attempt.run_id)
    if run is None or run.attempt is None or run.attempt.token != attempt.token:
        return False
    _close(session, run, attempt, over)
    return True


def give_up_silent(session: Session) -> tuple[str, ...]:
    """Attempts on machines that are not heard of any more are lost; the runs go on elsewhere."""
    lost: list[str] = []
    for run_id in runs.silent(session, LOST_AFTER):
        run = runs.lock(session, run_id)
        if run is None or run.attempt is None:
            continue
        detail = f"{run.attempt.host} has not been heard of for {LOST_AFTER.total_seconds():.0f} s"
        if run.status is RunStatus.CANCELING:
            _close(session, run, run.attempt, Over(Outcome.CANCELED, RunStatus.CANCELED, "canceled by request"))
        else:
            _close(session, run, run.attempt, Over(Outcome.LOST, RunStatus.QUEUED, detail))
        lost.append(run_id)
    return tuple(lost)


def _over(session: Session, run: Run, attempt: Attempt, over: Over) -> Todo:
    if over.then is RunStatus.SUCCEEDED:
        return Todo(finished=True)
    _close(session, run, attempt, over)
    return Todo(over=True)


def _close(session: Session, run: Run, attempt: Attempt, over: Over) -> None:
    fresh = runs.lock(session, run.id)
    assert fresh is not None
    standing = fresh.standing
    before = runs.spent_before(session, run.id)
    runs.end_attempt(
        session, attempt, over.outcome, over.reason, standing, gpu_hours=max(0.0, standing.gpu_hours - before)
    )
    runs.change(session, run.id, spent_gpu_hours=max(before, standing.gpu_hours), fruitless=over.fruitless)
    # A cancel that met the end of its attempt has still been asked for.
    then = over.then
    if fresh.status is RunStatus.CANCELING and then is not RunStatus.CANCELED:
        then = RunStatus.CANCELED
    move(session, fresh, then, over.reason, over.error if then is RunStatus.FAILED else None)


def _write_down(session: Session, run: Run, report: Report) -> None:
    standing = report.standing
    values: dict[str, Any] = {"standing": runs.standing_document(standing)}
    if standing.place > run.furthest:
        values |= {"stage_number": standing.stage_number, "step": standing.step}
    if (standing.stage, standing.step) != (run.standing.stage, run.standing.step):
        values["progress_at"] = database_time(session)
    if standing == run.standing and len(values) == 1:
        return
    runs.change(session, run.id, **values)
    if standing.stage and standing.stage != run.standing.stage:
        data: Mapping[str, Any] = {"stage": standing.stage, "number": standing.stage_number, "of": standing.stages}
        runs.add_event(session, run.id, RunEventKind.STAGE, data)


def _go_on(session: Session, run: Run, seen: Seen, yielding: bool, since_progress: timedelta, stall: timedelta) -> None:
    if run.status is RunStatus.STARTING and seen.report is not None:
        move(session, run, RunStatus.RUNNING, f"attempt {run.attempts}")
    if yielding != run.yielding:
        runs.change(session, run.id, yielding=yielding, progress_at=database_time(session))
        runs.add_event(session, run.id, RunEventKind.YIELD, {"yielding": yielding})
    elif yielding:
        runs.change(session, run.id, progress_at=database_time(session))
    if yielding or seen.report is None:
        return
    stage = seen.report.standing.stage
    recent = [total(point.losses) for point in runs.newest_points(session, run.id, stage, RECENT)] if stage else []
    for kind, detail in alerts(seen.report.standing, since_progress, recent, stall).items():
        if kind not in run.alerts:
            alert(session, run, kind, detail)
