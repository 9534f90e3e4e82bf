"""Training runs as people ask for them: made, canceled, taken up again."""

from __future__ import annotations

from datetime import datetime

from farm import trace
from farm.db import runs, versions
from farm.db.ledger import database_time
from farm.db.runs import Run
from farm.db.session import Session
from farm.domain import public
from farm.domain.audit import Action
from farm.domain.ids import new_id
from farm.domain.limits import InputLimits
from farm.domain.run import HELD, RunError, RunEventKind, RunSpec, RunStatus, RunView, may_move, resume_point
from farm.domain.tenant import FARM, Actor
from farm.domain.webhook import Topic
from farm.errors import Problem, Rejected
from farm.flow import audit, notify, recipes


def create(session: Session, spec: RunSpec, limits: InputLimits, *, actor: Actor = FARM) -> RunView:
    """A new run, queued. Rejected("invalid"): the problems of `recipes.checked`, run_not_found at /resume_from."""
    spec = recipes.checked(spec, limits)
    check_resume_from(session, spec)
    return _add(session, spec, actor, {})


def check_resume_from(session: Session, spec: RunSpec) -> None:
    point = resume_point(spec.resume_from) if spec.resume_from is not None else None
    if point is not None and runs.get(session, point[0]) is None:
        raise Rejected("invalid", "1 problem", problems=(_no_run(point[0], "/resume_from"),))


def fire(
    session: Session,
    spec: RunSpec,
    *,
    schedule: str,
    made_at: datetime,
    fired_for: datetime | None,
    clips: str | None,
    actor: Actor,
) -> RunView:
    """A run of a schedule, whose settings were checked when it was set."""
    of = {"schedule": schedule, "schedule_made_at": made_at, "fired_for": fired_for, "clips": clips}
    return _add(session, spec, actor, of)


def _add(session: Session, spec: RunSpec, actor: Actor, of: dict[str, object]) -> RunView:
    run_id = new_id("run")
    runs.add(session, run_id, spec, asked_by=actor.key_id, traceparent=trace.traceparent(), **of)
    runs.add_event(session, run_id, RunEventKind.CREATED, {"schedule": of.get("schedule")})
    detail = {"recipe": spec.recipe, "schedule": of.get("schedule"), "on_success": spec.on_success.value}
    audit.record(session, actor, Action.RUN_CREATED, run_id, detail)
    return view(session, run_id)


def cancel(session: Session, run_id: str, *, actor: Actor = FARM, reason: str = "canceled by request") -> RunView:
    """End a run; one that is computing leaves a checkpoint first. Asking again changes nothing.
    Rejected("not_found", "run_ended")."""
    run = _locked(session, run_id)
    if run.status is RunStatus.SUCCEEDED or run.status is RunStatus.FAILED:
        raise Rejected("run_ended", f"{run_id} has {run.status}")
    if run.status is RunStatus.QUEUED:
        move(session, run, RunStatus.CANCELED, reason)
    elif run.status in (RunStatus.STARTING, RunStatus.RUNNING):
        runs.change(session, run_id, stop_asked_at=None)
        move(session, run, RunStatus.CANCELING, reason)
    else:
        return view(session, run_id)
    audit.record(session, actor, Action.RUN_CANCELED, run_id, {"reason": reason})
    return view(session, run_id)


def resume(session: Session, run_id: str, *, actor: Actor = FARM) -> RunView:
    """Take a failed or canceled run up again where its last checkpoint stands; an open one goes on as it is.
    Rejected("not_found", "run_ended")."""
    run = _locked(session, run_id)
    if run.status is RunStatus.SUCCEEDED:
        raise Rejected("run_ended", f"{run_id} has {run.status}")
    if run.status is RunStatus.CANCELING:
        raise Rejected("run_canceling", f"{run_id} is being canceled; resume it when it has ended")
    if may_move(run.status, RunStatus.QUEUED) and run.status not in HELD:
        runs.change(session, run_id, fruitless=0, room_asked=False)
        move(session, run, RunStatus.QUEUED, "resumed by request")
        audit.record(session, actor, Action.RUN_RESUMED, run_id)
    return view(session, run_id)


def move(
    session: Session, run: Run, then: RunStatus, reason: str, error: RunError | None = None, **also: object
) -> None:
    """The one place where a run's status changes: row, event, webhook. The run's row is locked. also: columns that
    change with it."""
    if not may_move(run.status, then):
        raise ValueError(f"{run.id} cannot go from {run.status} to {then}")
    now = database_time(session)
    is_over = then in (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELED)
    values: dict[str, object] = {
        "status": then.value,
        "status_reason": reason,
        "finished_at": now if is_over else None,
        "error_code": error.code if error is not None else None,
        "error_detail": error.detail if error is not None else None,
        "waiting_reason": None,
        "yielding": False,
    }
    if then not in HELD:
        values |= {"token": None, "stop_asked_at": None, "room_asked": False}
    if then is RunStatus.STARTING and run.attempts == 0:
        values["started_at"] = now
    runs.change(session, run.id, **(values | also))
    data = {"status": then.value, "reason": reason, "attempt": also.get("attempt", run.attempts)}
    if error is not None:
        data["error"] = {"code": error.code, "detail": error.detail}
    runs.add_event(session, run.id, RunEventKind.STATUS, data)
    if is_over:
        notify.tell_operators(session, Topic.RUN_COMPLETED, lambda: _told(session, run.id))


def alert(session: Session, run: Run, kind: str, detail: str) -> None:
    """Tell of something wrong with a run that goes on, once an attempt. Its row is locked."""
    runs.change(session, run.id, alerts=[*run.alerts, kind])
    runs.add_event(session, run.id, RunEventKind.ALERT, {"kind": kind, "detail": detail})
    data = {"kind": kind, "detail": detail}
    notify.tell_operators(session, Topic.RUN_ALERT, lambda: data | _told(session, run.id))


def view(session: Session, run_id: str) -> RunView:
    found = runs.get(session, run_id)
    if found is None:
        raise _not_found(run_id)
    return found


def _told(session: Session, run_id: str) -> dict[str, object]:
    found = view(session, run_id)
    version = versions.get(session, found.version_id) if found.version_id is not None else None
    return {"run_id": run_id, "run": public.run(found), "version": version.name if version is not None else None}


def _locked(session: Session, run_id: str) -> Run:
    run = runs.lock(session, run_id)
    if run is None:
        raise _not_found(run_id)
    return run


def _not_found(run_id: str) -> Rejected:
    return Rejected("not_found", f"there is no training run {run_id}")


def _no_run(run_id: str, pointer: str) -> Problem:
    return Problem("run_not_found", f"there is no training run {run_id}", pointer)
