"""Training runs, their attempts, events and curves; schedules and what became of their times."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from farm.db.rows.base import Row, now, one_of
from farm.domain.run import OnSuccess, Outcome, RunStatus
from farm.domain.schedule import CatchUp, FiringOutcome, Overlap


class SpecColumns:
    """What a run is asked to do, and what a schedule asks of its runs (farm.domain.run.RunSpec)."""

    recipe: Mapped[str]
    dataset: Mapped[dict[str, Any]]
    overrides: Mapped[dict[str, Any]]
    workers: Mapped[int]
    use_gpu: Mapped[bool]
    on_success: Mapped[str]
    resume_from: Mapped[str | None]
    priority: Mapped[int] = mapped_column(server_default="50")
    preempt: Mapped[bool] = mapped_column(server_default=text("false"))


class RunRow(SpecColumns, Row):
    """attempt, token, host: of the newest attempt; token is empty while none is open. standing: Standing of the newest
    report; stage_number, step: the furthest that any got. spent_gpu_hours: of attempts that ended. curves_read:
    bytes of the curves file whose points are stored. room_asked: it makes room by stopping. fruitless:
    attempts in a row that got no further. clips: key of the list of clips that it was started with."""

    __tablename__ = "training_runs"
    __table_args__ = (
        one_of("status", RunStatus),
        one_of("on_success", OnSuccess),
        CheckConstraint(
            "(status IN ('starting', 'running', 'canceling')) = (token IS NOT NULL)", name="held_has_token"
        ),
        CheckConstraint(
            "(status IN ('succeeded', 'failed', 'canceled')) = (finished_at IS NOT NULL)", name="ended_has_time"
        ),
        CheckConstraint("(status = 'failed') = (error_code IS NOT NULL)", name="failed_has_error"),
        UniqueConstraint("schedule", "schedule_made_at", "fired_for"),
        Index("ix_training_runs_open", "id", postgresql_where=text("finished_at IS NULL")),
        Index("ix_training_runs_schedule_id", "schedule", "id", postgresql_where=text("schedule IS NOT NULL")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    schedule: Mapped[str | None]
    schedule_made_at: Mapped[datetime | None]
    fired_for: Mapped[datetime | None]
    clips: Mapped[str | None]
    status: Mapped[str]
    status_reason: Mapped[str] = mapped_column(server_default="")
    waiting_reason: Mapped[str | None]
    room_asked: Mapped[bool] = mapped_column(server_default=text("false"))
    yielding: Mapped[bool] = mapped_column(server_default=text("false"))
    stop_asked_at: Mapped[datetime | None]
    attempt: Mapped[int] = mapped_column(server_default="0")
    token: Mapped[str | None]
    host: Mapped[str | None]
    heard_at: Mapped[datetime | None]
    fruitless: Mapped[int] = mapped_column(server_default="0")
    standing: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    stage_number: Mapped[int] = mapped_column(server_default="0")
    step: Mapped[int] = mapped_column(server_default="0")
    spent_gpu_hours: Mapped[float] = mapped_column(server_default="0")
    curves_read: Mapped[int] = mapped_column(BigInteger, server_default="0")
    alerts: Mapped[list[str]] = mapped_column(server_default=text("'{}'::text[]"))
    error_code: Mapped[str | None]
    error_detail: Mapped[str | None]
    version_id: Mapped[str | None] = mapped_column(ForeignKey("versions.id"))
    asked_by: Mapped[str | None]
    traceparent: Mapped[str | None]
    created_at: Mapped[datetime] = now()
    updated_at: Mapped[datetime] = now()
    started_at: Mapped[datetime | None]
    progress_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class RunAttemptRow(Row):
    __tablename__ = "training_attempts"
    __table_args__ = (
        one_of("outcome", Outcome),
        CheckConstraint("(outcome = 'running') = (finished_at IS NULL)", name="finished"),
        Index("uq_training_attempts_running", "run_id", unique=True, postgresql_where=text("outcome = 'running'")),
    )

    run_id: Mapped[str] = mapped_column(ForeignKey("training_runs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(unique=True)
    host: Mapped[str | None]
    outcome: Mapped[str]
    reason: Mapped[str | None]
    from_stage_number: Mapped[int]
    from_step: Mapped[int]
    stage: Mapped[str | None]
    step: Mapped[int] = mapped_column(server_default="0")
    gpu_hours: Mapped[float] = mapped_column(server_default="0")
    started_at: Mapped[datetime] = now()
    finished_at: Mapped[datetime | None]


class RunEventRow(Row):
    """Written only while its run's row is locked: ids grow in commit order inside a run."""

    __tablename__ = "training_events"
    __table_args__ = (Index("ix_training_events_run_id_id", "run_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("training_runs.id"))
    kind: Mapped[str]
    data: Mapped[dict[str, Any]]
    at: Mapped[datetime] = now()


class RunPointRow(Row):
    """Means of the losses over `steps` steps that end before `step` (farm.domain.curves)."""

    __tablename__ = "training_points"

    run_id: Mapped[str] = mapped_column(ForeignKey("training_runs.id"), primary_key=True)
    stage: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    steps: Mapped[int]
    losses: Mapped[dict[str, Any]]


class ScheduleRow(SpecColumns, Row):
    """seen_to: up to when its times were seen to. revision: counts changes."""

    __tablename__ = "training_schedules"
    __table_args__ = (
        one_of("overlap", Overlap),
        one_of("catch_up", CatchUp),
        one_of("on_success", OnSuccess),
        Index("ix_training_schedules_due", "next_at", postgresql_where=text("next_at IS NOT NULL")),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(server_default="1")
    cron: Mapped[str]
    timezone: Mapped[str]
    overlap: Mapped[str]
    catch_up: Mapped[str]
    catch_up_most: Mapped[int]
    min_new_clips: Mapped[int]
    paused: Mapped[bool]
    seen_to: Mapped[datetime]
    next_at: Mapped[datetime | None]
    clips: Mapped[str | None]
    created_at: Mapped[datetime] = now()
    updated_at: Mapped[datetime] = now()


class FiringRow(Row):
    """What became of a schedule's times; a run-now has none of its own. Kept when the schedule is deleted."""

    __tablename__ = "training_firings"
    __table_args__ = (
        one_of("outcome", FiringOutcome),
        Index("ix_training_firings_schedule_id", "schedule", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    schedule: Mapped[str]
    at: Mapped[datetime]
    outcome: Mapped[str]
    reason: Mapped[str]
    count: Mapped[int]
    run_id: Mapped[str | None]
    decided_at: Mapped[datetime] = now()
