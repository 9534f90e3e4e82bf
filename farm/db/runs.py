"""Training runs with their attempts, events and curves. A run's row is locked before anything is written about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, and_, delete, exists, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import aliased

from farm.db import cursor as cursors
from farm.db.ledger import seconds_from_now
from farm.db.rows import RunAttemptRow, RunEventRow, RunPointRow, RunRow
from farm.db.session import Session
from farm.domain.line import Training, Waiting
from farm.domain.run import (
    HELD,
    Attempt,
    AttemptView,
    Dataset,
    OnSuccess,
    Outcome,
    Point,
    RunError,
    RunEvent,
    RunEventKind,
    RunSpec,
    RunStatus,
    RunView,
    Scaling,
    Standing,
    submission_id,
)
from farm.domain.schedule import Open
from farm.domain.views import Page

ATTEMPTS_SHOWN = 20
_held = tuple(sorted(HELD))


@dataclass(frozen=True)
class Run:
    """A run as the verbs of farm.flow see it. attempt None: none is open. began_at: place of the run when the attempt
    was launched; furthest: of any attempt so far."""

    id: str
    spec: RunSpec
    status: RunStatus
    schedule: str | None
    attempt: Attempt | None
    attempts: int
    began_at: tuple[int, int]
    furthest: tuple[int, int]
    room_asked: bool
    yielding: bool
    stop_asked_at: datetime | None
    heard_at: datetime | None
    fruitless: int
    standing: Standing
    curves_read: int
    alerts: tuple[str, ...]
    progress_at: datetime | None
    asked_by: str | None


def spec_values(spec: RunSpec) -> dict[str, Any]:
    """The columns that runs and schedules share."""
    return {
        "recipe": spec.recipe,
        "dataset": asdict(spec.dataset),
        "overrides": dict(spec.overrides),
        "workers": spec.scaling.workers,
        "use_gpu": spec.scaling.use_gpu,
        "on_success": spec.on_success.value,
        "resume_from": spec.resume_from,
        "priority": spec.priority,
        "preempt": spec.preempt,
    }


def spec_of(row: Any) -> RunSpec:
    return RunSpec(
        row.recipe,
        Dataset(**row.dataset),
        row.overrides,
        Scaling(row.workers, row.use_gpu),
        OnSuccess(row.on_success),
        row.resume_from,
        row.priority,
        row.preempt,
    )


# --- reading -----------------------------------------------------------------------------------------------------


def get(session: Session, run_id: str) -> RunView | None:
    row = session.get(RunRow, run_id, populate_existing=True)
    return None if row is None else _views(session, [row], ATTEMPTS_SHOWN)[0]


def page(
    session: Session,
    *,
    status: RunStatus | None = None,
    schedule: str | None = None,
    updated_since: datetime | None = None,
    cursor: str | None = None,
    page_size: int = 100,
) -> Page[RunView]:
    """Newest first, each with its newest attempt. Rejected("cursor_invalid")."""
    query = select(RunRow).order_by(RunRow.id.desc())
    if status is not None:
        query = query.where(RunRow.status == status)
    if schedule is not None:
        query = query.where(RunRow.schedule == schedule)
    if updated_since is not None:
        query = query.where(RunRow.updated_at >= updated_since)
    if cursor is not None:
        query = query.where(RunRow.id < str(cursors.decode("runs", cursor)))
    query = query.limit(cursors.limit(page_size)).execution_options(populate_existing=True)
    return cursors.page(_views(session, session.scalars(query).all(), 1), page_size, "runs", lambda view: view.id)


def lock(session: Session, run_id: str) -> Run | None:
    query = select(RunRow).where(RunRow.id == run_id).with_for_update().execution_options(populate_existing=True)
    row = session.scalar(query)
    return None if row is None else _run(session, row)


def held(session: Session, host: str | None) -> tuple[Run, ...]:
    """Runs with an open attempt on this machine (None: on clusters)."""
    there = RunRow.host.is_(None) if host is None else RunRow.host == host
    query = select(RunRow).where(RunRow.status.in_(_held), there).order_by(RunRow.id)
    rows = session.scalars(query.execution_options(populate_existing=True)).all()
    return tuple(_run(session, row) for row in rows)


def silent(session: Session, after: timedelta) -> tuple[str, ...]:
    """Runs whose machine has not been heard of for so long."""
    query = select(RunRow.id).where(
        RunRow.status.in_(_held),
        RunRow.host.is_not(None),
        RunRow.heard_at < seconds_from_now(-after.total_seconds()),
    )
    return tuple(session.scalars(query))


def next_queued(session: Session, least: int = 0) -> Run | None:
    """The run that may start first, locked: of the highest priority, `least` at least, the oldest; runs of one schedule
    follow each other."""
    other = aliased(RunRow)
    busy = exists().where(other.schedule == RunRow.schedule, other.status.in_(_held))
    query = (
        select(RunRow)
        .where(RunRow.status == RunStatus.QUEUED, RunRow.priority >= least, or_(RunRow.schedule.is_(None), ~busy))
        .order_by(RunRow.priority.desc(), RunRow.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=RunRow)
        .execution_options(populate_existing=True)
    )
    row = session.scalar(query)
    return None if row is None else _run(session, row)


def waiting(session: Session, limit: int) -> tuple[tuple[Waiting, str | None], ...]:
    """Queued runs in the order in which they will start, each with the reason that it shows."""
    query = select(RunRow.id, RunRow.priority, RunRow.preempt, RunRow.schedule, RunRow.waiting_reason)
    query = query.where(RunRow.status == RunStatus.QUEUED, RunRow.finished_at.is_(None))
    rows = session.execute(query.order_by(RunRow.priority.desc(), RunRow.id).limit(limit))
    return tuple((Waiting(row.id, row.priority, row.preempt, row.schedule), row.waiting_reason) for row in rows)


def training(session: Session) -> tuple[Training, ...]:
    """Runs with an open attempt anywhere."""
    leaves = or_(RunRow.room_asked, RunRow.status == RunStatus.CANCELING)
    query = select(RunRow.id, RunRow.priority, leaves, RunRow.schedule).where(RunRow.status.in_(_held))
    return tuple(Training(*row) for row in session.execute(query.order_by(RunRow.id)))


def count_held(session: Session, host: str | None) -> int:
    there = RunRow.host.is_(None) if host is None else RunRow.host == host
    return session.scalars(select(func.count()).where(RunRow.status.in_(_held), there)).one()


def open_of(session: Session, schedule: str) -> tuple[Open, ...]:
    """Runs of a schedule that have not ended, oldest first."""
    query = select(RunRow.id, RunRow.status).where(RunRow.schedule == schedule, RunRow.finished_at.is_(None))
    return tuple(Open(row.id, RunStatus(row.status)) for row in session.execute(query.order_by(RunRow.id)))


def spent_before(session: Session, run_id: str) -> float:
    """GPU-hours of its attempts that ended."""
    return session.scalars(select(RunRow.spent_gpu_hours).where(RunRow.id == run_id)).one()


def counts(session: Session) -> Mapping[str, int]:
    """Runs by status."""
    query = select(RunRow.status, func.count()).group_by(RunRow.status)
    found = dict(session.execute(query).all())
    return {status.value: found.get(status, 0) for status in RunStatus}


@dataclass(frozen=True)
class Going:
    """An open attempt, for metrics. done: share of its stage."""

    id: str
    standing: Standing
    since_progress_s: float

    @property
    def done(self) -> float:
        return self.standing.step / self.standing.steps if self.standing.steps else 0.0


def going(session: Session) -> tuple[Going, ...]:
    since = func.extract("epoch", func.clock_timestamp() - func.coalesce(RunRow.progress_at, RunRow.updated_at))
    query = select(RunRow.id, RunRow.standing, since).where(RunRow.status.in_(_held)).order_by(RunRow.id)
    return tuple(Going(id, Standing(**standing), max(0.0, float(s))) for id, standing, s in session.execute(query))


def spent(session: Session) -> tuple[float, int]:
    """GPU-hours of all attempts that ended, and how many those were."""
    query = select(func.coalesce(func.sum(RunAttemptRow.gpu_hours), 0.0), func.count(RunAttemptRow.finished_at))
    row = session.execute(query).one()
    return float(row[0]), int(row[1])


# --- writing -----------------------------------------------------------------------------------------------------


def add(session: Session, run_id: str, spec: RunSpec, **values: Any) -> None:
    session.execute(insert(RunRow).values(id=run_id, status=RunStatus.QUEUED.value, **spec_values(spec), **values))


def change(session: Session, run_id: str, **values: Any) -> None:
    session.execute(
        update(RunRow)
        .where(RunRow.id == run_id)
        .values(updated_at=func.now(), **values)
        .execution_options(synchronize_session=False)
    )


def explain(session: Session, run_id: str, reason: str) -> None:
    """Why a run waits, as long as it does; a run that somebody holds just now is told at the next look."""
    query = select(RunRow.id).where(RunRow.id == run_id, RunRow.status == RunStatus.QUEUED)
    if session.scalar(query.with_for_update(skip_locked=True)) is not None:
        change(session, run_id, waiting_reason=reason)


def hear(session: Session, run_id: str, token: str) -> bool:
    """The machine of an attempt is there; False where the attempt is over."""
    heard = (
        update(RunRow)
        .where(RunRow.id == run_id, RunRow.token == token)
        .values(heard_at=func.now())
        .execution_options(synchronize_session=False)
    )
    return cast("CursorResult[Any]", session.execute(heard)).rowcount == 1


def add_attempt(session: Session, attempt: Attempt, began_at: tuple[int, int]) -> None:
    session.execute(
        insert(RunAttemptRow).values(
            run_id=attempt.run_id,
            number=attempt.number,
            token=attempt.token,
            host=attempt.host,
            outcome=Outcome.RUNNING.value,
            from_stage_number=began_at[0],
            from_step=began_at[1],
            started_at=attempt.started_at,
        )
    )


def end_attempt(
    session: Session, attempt: Attempt, outcome: Outcome, reason: str, standing: Standing, *, gpu_hours: float
) -> None:
    session.execute(
        update(RunAttemptRow)
        .where(RunAttemptRow.run_id == attempt.run_id, RunAttemptRow.number == attempt.number)
        .values(
            outcome=outcome.value,
            reason=reason,
            stage=standing.stage,
            step=standing.step,
            gpu_hours=gpu_hours,
            finished_at=func.now(),
        )
        .execution_options(synchronize_session=False)
    )


# --- events and curves --------------------------------------------------------------------------------------------


def add_event(session: Session, run_id: str, kind: RunEventKind, data: Mapping[str, Any]) -> None:
    """The run's row must be locked by this transaction."""
    session.execute(insert(RunEventRow).values(run_id=run_id, kind=kind.value, data=dict(data)))


def events_after(session: Session, run_id: str, last_id: int = 0, limit: int = 500) -> tuple[RunEvent, ...]:
    query = select(RunEventRow).where(RunEventRow.run_id == run_id, RunEventRow.id > last_id)
    return tuple(
        RunEvent(row.id, RunEventKind(row.kind), row.run_id, row.at, row.data)
        for row in session.scalars(query.order_by(RunEventRow.id).limit(limit))
    )


def add_points(session: Session, run_id: str, points: Sequence[Point]) -> None:
    """Points of steps that were done again replace the earlier ones."""
    if not points:
        return
    # Of a step that is there twice the newest counts; one statement may not change a row twice.
    newest = {(point.stage, point.step): point for point in points}
    rows = [
        {"run_id": run_id, "stage": p.stage, "step": p.step, "steps": p.steps, "losses": dict(p.losses)}
        for p in newest.values()
    ]
    statement = upsert(RunPointRow)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["run_id", "stage", "step"],
            set_={"steps": statement.excluded.steps, "losses": statement.excluded.losses},
        ),
        rows,
    )


def drop_points(session: Session, run_id: str) -> None:
    session.execute(
        delete(RunPointRow).where(RunPointRow.run_id == run_id).execution_options(synchronize_session=False)
    )


def points(session: Session, run_id: str, stage: str | None = None) -> tuple[Point, ...]:
    """By stage and step."""
    query = select(RunPointRow.stage, RunPointRow.step, RunPointRow.steps, RunPointRow.losses)
    query = query.where(RunPointRow.run_id == run_id)
    if stage is not None:
        query = query.where(RunPointRow.stage == stage)
    return tuple(Point(*row) for row in session.execute(query.order_by(RunPointRow.stage, RunPointRow.step)))


def newest_points(session: Session, run_id: str, stage: str, limit: int) -> tuple[Point, ...]:
    """Of one stage, oldest first."""
    query = select(RunPointRow.stage, RunPointRow.step, RunPointRow.steps, RunPointRow.losses)
    query = query.where(RunPointRow.run_id == run_id, RunPointRow.stage == stage)
    found = session.execute(query.order_by(RunPointRow.step.desc()).limit(limit)).all()
    return tuple(Point(*row) for row in reversed(found))


# --- rows to nouns -------------------------------------------------------------------------------------------------


def standing_document(standing: Standing) -> dict[str, Any]:
    return asdict(standing)


def _run(session: Session, row: RunRow) -> Run:
    attempt, began_at = None, (row.stage_number, row.step)
    if row.token is not None:
        found = session.get(RunAttemptRow, (row.id, row.attempt), populate_existing=True)
        assert found is not None
        attempt = Attempt(row.id, found.number, found.token, found.host, found.started_at)
        began_at = (found.from_stage_number, found.from_step)
    return Run(
        id=row.id,
        spec=spec_of(row),
        status=RunStatus(row.status),
        schedule=row.schedule,
        attempt=attempt,
        attempts=row.attempt,
        began_at=began_at,
        furthest=(row.stage_number, row.step),
        room_asked=row.room_asked,
        yielding=row.yielding,
        stop_asked_at=row.stop_asked_at,
        heard_at=row.heard_at,
        fruitless=row.fruitless,
        standing=Standing(**row.standing),
        curves_read=row.curves_read,
        alerts=tuple(row.alerts),
        progress_at=row.progress_at,
        asked_by=row.asked_by,
    )


def _views(session: Session, rows: Sequence[RunRow], attempts_each: int) -> list[RunView]:
    if not rows:
        return []
    newest = and_(RunAttemptRow.run_id == RunRow.id, RunAttemptRow.number > RunRow.attempt - attempts_each)
    query = select(RunAttemptRow).join(RunRow, newest).where(RunRow.id.in_([row.id for row in rows]))
    attempts: dict[str, list[AttemptView]] = {}
    for row in session.scalars(query.order_by(RunAttemptRow.number).execution_options(populate_existing=True)):
        attempts.setdefault(row.run_id, []).append(
            AttemptView(
                number=row.number,
                submission_id=submission_id(row.run_id, row.number),
                host=row.host,
                outcome=Outcome(row.outcome),
                reason=row.reason,
                stage=row.stage,
                step=row.step,
                gpu_hours=row.gpu_hours,
                started_at=row.started_at,
                finished_at=row.finished_at,
            )
        )
    return [_view(row, tuple(attempts.get(row.id, ()))) for row in rows]


def _view(row: RunRow, attempts: tuple[AttemptView, ...]) -> RunView:
    standing = Standing(**row.standing)
    return RunView(
        id=row.id,
        spec=spec_of(row),
        status=RunStatus(row.status),
        status_reason=row.status_reason,
        schedule=row.schedule,
        fired_for=row.fired_for,
        standing=standing,
        attempts=attempts,
        attempts_total=row.attempt,
        gpu_hours=max(row.spent_gpu_hours, standing.gpu_hours),
        yielding=row.yielding,
        waiting_reason=row.waiting_reason if row.status == RunStatus.QUEUED else None,
        alerts=tuple(row.alerts),
        error=RunError(row.error_code, row.error_detail or "") if row.error_code is not None else None,
        version_id=row.version_id,
        asked_by=row.asked_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
        started_at=row.started_at,
        progress_at=row.progress_at,
        finished_at=row.finished_at,
    )
