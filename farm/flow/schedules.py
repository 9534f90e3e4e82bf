"""Schedules of training runs: set, deleted, fired by the clock or by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from farm.db import runs, schedules
from farm.db.ledger import database_time
from farm.db.schedules import Kept
from farm.db.session import Session
from farm.domain.audit import Action
from farm.domain.limits import InputLimits
from farm.domain.run import RunView
from farm.domain.schedule import Firing, FiringOutcome, Schedule, ScheduleView, Skip, due, enough, meet
from farm.domain.tenant import FARM, Actor
from farm.errors import Problem, Rejected
from farm.flow import audit, recipes
from farm.flow import runs as run_verbs

NEXT: Final = 5


def put(session: Session, schedule: Schedule, limits: InputLimits, *, actor: Actor = FARM) -> tuple[ScheduleView, bool]:
    """Set a schedule by its name, and whether it is new. Runs that it started keep the settings that they have; with
    another cron line, time zone or an end of its pause, times before now count as seen to.

    Rejected("invalid"): the problems of cron (cron_invalid, cron_never, timezone_unknown) and of `recipes.checked`.
    """
    problems: list[Problem] = list(schedule.cron.problems())
    try:
        schedule = replace(schedule, spec=recipes.checked(schedule.spec, limits))
        run_verbs.check_resume_from(session, schedule.spec)
    except Rejected as error:
        problems += error.problems
    data = schedule.spec.dataset
    if schedule.min_new_clips > 0 and (data.uri is None or data.manifest_sha256 is not None):
        what = "puppets do" if data.uri is None else "one version of a set does"
        detail = f"{what} not grow: min_new_clips needs a dataset's uri, without manifest_sha256"
        problems.append(Problem("min_new_clips_refused", detail, "/min_new_clips"))
    if problems:
        raise Rejected("invalid", f"{len(problems)} problems", problems=tuple(problems))
    now = database_time(session)
    found = schedules.lock(session, schedule.name)
    if found is None:
        schedules.add(session, schedule, now, _next(schedule, now))
    elif found.schedule != schedule:
        is_moved = found.schedule.cron != schedule.cron or found.schedule.paused
        seen_to = now if is_moved else found.seen_to
        schedules.replace(session, schedule, seen_to, _next(schedule, seen_to))
    if found is None or found.schedule != schedule:
        detail = {"cron": schedule.cron.line, "timezone": schedule.cron.timezone, "recipe": schedule.spec.recipe}
        audit.record(session, actor, Action.SCHEDULE_SET, schedule.name, detail | {"paused": schedule.paused})
    return view(session, schedule.name), found is None


def delete(session: Session, name: str, *, actor: Actor = FARM) -> None:
    """Runs that it started go on. Rejected("not_found")."""
    if not schedules.remove(session, name):
        raise _not_found(name)
    audit.record(session, actor, Action.SCHEDULE_DELETED, name)


def view(session: Session, name: str) -> ScheduleView:
    """Rejected("not_found")."""
    kept = schedules.get(session, name)
    if kept is None:
        raise _not_found(name)
    return shown(session, kept)


def shown(session: Session, kept: Kept) -> ScheduleView:
    now = database_time(session)
    following = () if kept.schedule.paused else kept.schedule.cron.next(max(now, kept.seen_to), NEXT)
    told = schedules.firings(session, kept.schedule.name, kept.made_at)
    return ScheduleView(kept.schedule, kept.revision, following, told, kept.made_at, kept.updated_at)


def run_now(session: Session, name: str, *, actor: Actor = FARM) -> RunView:
    """A run of the schedule at once, paused or not, whatever clips are new; its times stay as they are.
    Rejected("not_found", "run_open": the overlap policy stands against it)."""
    kept = schedules.lock(session, name)
    if kept is None:
        raise _not_found(name)
    met = meet(kept.schedule.overlap, runs.open_of(session, name))
    if isinstance(met, Skip):
        raise Rejected("run_open", met.reason)
    for run_id in met.cancel:
        run_verbs.cancel(session, run_id, actor=actor, reason=f"replaced by a newer run of {name}")
    run = run_verbs.fire(
        session,
        kept.schedule.spec,
        schedule=name,
        made_at=kept.made_at,
        fired_for=None,
        clips=kept.clips,
        actor=actor,
    )
    audit.record(session, actor, Action.SCHEDULE_RUN_NOW, name, {"run": run.id})
    return run


# --- the clock -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counted:
    """The clips of a schedule's data: how many the last run did not know, and the key of the list as it is now. new
    None: nobody could tell, and why."""

    new: int | None
    clips: str | None
    why: str = ""


UNCOUNTED: Final = Counted(None, None)


def waiting(session: Session, now: datetime | None = None) -> tuple[Kept, ...]:
    """Schedules whose time has come. now: the clock; None is the database's."""
    names = schedules.due(session, now or database_time(session))
    return tuple(kept for name in names if (kept := schedules.get(session, name)) is not None)


def fire(session: Session, seen: Kept, counted: Counted = UNCOUNTED, now: datetime | None = None) -> tuple[str, ...]:
    """See to the times of a schedule that have come; ids of the runs that it starts. seen: the schedule as it was when
    its clips were counted; where it changed since, nothing is done, and the next look does it."""
    kept = schedules.lock(session, seen.schedule.name)
    if kept is None or (kept.revision, kept.made_at) != (seen.revision, seen.made_at):
        return ()
    now = now or database_time(session)
    schedule = kept.schedule
    found = due(schedule, kept.seen_to, now)
    for missed in found.missed:
        schedules.add_firing(session, schedule.name, missed)
    started: list[str] = []
    for at in found.start:
        firing = _start(session, kept, at, counted)
        schedules.add_firing(session, schedule.name, firing)
        if firing.run_id is not None:
            started.append(firing.run_id)
            if counted.clips is not None:
                schedules.change(session, schedule.name, clips=counted.clips)
                counted = replace(counted, new=0)
    seen_to = max(now, kept.seen_to)
    schedules.change(session, schedule.name, seen_to=seen_to, next_at=_next(schedule, seen_to))
    return tuple(started)


def _start(session: Session, kept: Kept, at: datetime, counted: Counted) -> Firing:
    name = kept.schedule.name
    met = meet(kept.schedule.overlap, runs.open_of(session, name))
    if isinstance(met, Skip):
        return Firing(at, FiringOutcome.SKIPPED, met.reason)
    lacking = enough(kept.schedule, counted.new, counted.why)
    if lacking is not None:
        return Firing(at, FiringOutcome.SKIPPED, lacking.reason)
    for run_id in met.cancel:
        run_verbs.cancel(session, run_id, reason=f"replaced by a newer run of {name}")
    run = run_verbs.fire(
        session,
        kept.schedule.spec,
        schedule=name,
        made_at=kept.made_at,
        fired_for=at,
        clips=counted.clips or kept.clips,
        actor=FARM,
    )
    outcome, why = (FiringOutcome.QUEUED, "behind an open run") if met.behind else (FiringOutcome.STARTED, "on time")
    if kept.schedule.min_new_clips > 0:
        why = f"{why}, {counted.new} new clips"
    return Firing(at, outcome, why, run.id)


def _next(schedule: Schedule, since: datetime) -> datetime | None:
    return None if schedule.paused else schedule.cron.next(since, 1)[0]


def _not_found(name: str) -> Rejected:
    return Rejected("not_found", f"there is no training schedule {name}")
