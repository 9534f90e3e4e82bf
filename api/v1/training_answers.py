"""What the API answers about training."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from api.v1.answers import Answer
from farm.domain import public
from farm.domain.run import Point, RunView
from farm.domain.schedule import Firing, ScheduleView


class RunErrorAnswer(Answer):
    code: str = Field(description="nan, diverged, bad_dataset, bad_override, usage, lost, bug, or why it did not start")
    detail: str


class RunAttemptAnswer(Answer):
    """A time of computing, from one checkpoint to wherever it got. outcome: running, succeeded, failed, stopped (left a
    checkpoint), lost or canceled."""

    number: int
    submission_id: str
    host: str | None = Field(description="The machine; null on a Ray cluster.")
    outcome: str
    reason: str | None
    stage: str | None
    step: int
    gpu_hours: float
    started_at: datetime
    finished_at: datetime | None


class ScalingAnswer(Answer):
    workers: int
    use_gpu: bool


class DatasetAnswer(Answer):
    uri: str
    manifest_sha256: str | None


class RunAnswer(Answer):
    id: str
    status: str = Field(description="queued, starting, running, canceling, succeeded, failed or canceled")
    status_reason: str
    recipe: str
    dataset: Literal["puppets"] | DatasetAnswer
    overrides: Mapping[str, float | int | bool | None]
    resume_from: str | None
    scaling: ScalingAnswer
    on_success: str
    priority: int
    preempt: bool
    schedule: str | None
    fired_for: datetime | None = Field(description="The schedule's time that it was started for.")
    stage: str | None
    stage_number: int = Field(description="From 1.")
    stages: int
    step: int
    steps: int = Field(description="Of this stage.")
    samples_per_s: float | None
    eta_s: float | None = Field(description="To the end of this stage.")
    losses: Mapping[str, float | None] = Field(description="Of the newest step, by phase/term; null: no finite number.")
    goodput: float | None = Field(description="Share of the time since its start that went into steps that count.")
    gpu_hours: float
    yielding: bool = Field(description="It makes room for rendering just now.")
    waiting_reason: str | None
    alerts: list[str] = Field(description="stall, nan, divergence: told of since the newest attempt began.")
    attempts: int
    attempt: RunAttemptAnswer | None = Field(description="The newest.")
    error: RunErrorAnswer | None
    model_version: str | None = Field(description="What it was registered as.")
    asked_by: str | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    progress_at: datetime | None = Field(description="When a step was last done.")
    finished_at: datetime | None

    @staticmethod
    def of(view: RunView) -> RunAnswer:
        return RunAnswer.model_validate(public.run(view))


class RunDetailAnswer(RunAnswer):
    history: list[RunAttemptAnswer] = Field(description="The newest 20 attempts, oldest first.")

    @staticmethod
    def of(view: RunView) -> RunDetailAnswer:
        history = [public.attempt(attempt) for attempt in view.attempts]
        return RunDetailAnswer.model_validate({**public.run(view), "history": history})


class CurveAnswer(Answer):
    """Means of the losses up to each step, since the step before it in the list."""

    stage: str
    step: list[int]
    losses: Mapping[str, list[float | None]]

    @staticmethod
    def of(stage: str, points: tuple[Point, ...]) -> CurveAnswer:
        names = sorted({name for point in points for name in point.losses})
        losses = {name: [point.losses.get(name) for point in points] for name in names}
        return CurveAnswer(stage=stage, step=[point.step for point in points], losses=losses)


class CurvesAnswer(Answer):
    data: list[CurveAnswer]


class CheckpointAnswer(Answer):
    """A committed checkpoint: `run_…/<name>` resumes from it."""

    name: str
    stage: str
    step: int
    size_bytes: int
    uri: str


class CheckpointsAnswer(Answer):
    data: list[CheckpointAnswer]


class GridAnswer(Answer):
    name: str
    size_bytes: int
    url: str


class GridsAnswer(Answer):
    data: list[GridAnswer]


class FiringAnswer(Answer):
    """outcome: started, queued (behind an open run), skipped or missed. count: times that the entry stands for."""

    at: datetime
    outcome: str
    reason: str
    run_id: str | None
    count: int
    decided_at: datetime

    @staticmethod
    def of(firing: Firing) -> FiringAnswer:
        assert firing.decided_at is not None
        return FiringAnswer(
            at=firing.at,
            outcome=firing.outcome.value,
            reason=firing.reason,
            run_id=firing.run_id,
            count=firing.count,
            decided_at=firing.decided_at,
        )


class ScheduleAnswer(Answer):
    name: str
    revision: int
    cron: str
    timezone: str
    recipe: str
    dataset: Literal["puppets"] | DatasetAnswer
    overrides: Mapping[str, float | int | bool | None]
    resume_from: str | None
    scaling: ScalingAnswer
    on_success: str
    priority: int
    preempt: bool
    overlap: str
    catch_up: str
    catch_up_most: int
    min_new_clips: int
    paused: bool
    next: list[datetime] = Field(description="Its next five fire times; none while it is paused.")
    firings: list[FiringAnswer] = Field(description="What became of its times, the newest 20, newest first.")
    created_at: datetime
    updated_at: datetime

    @staticmethod
    def of(view: ScheduleView) -> ScheduleAnswer:
        schedule, spec = view.schedule, view.schedule.spec
        return ScheduleAnswer.model_validate(
            {
                "name": schedule.name,
                "revision": view.revision,
                "cron": schedule.cron.line,
                "timezone": schedule.cron.timezone,
                "recipe": spec.recipe,
                "dataset": public.dataset(spec.dataset),
                "overrides": dict(spec.overrides),
                "resume_from": spec.resume_from,
                "scaling": {"workers": spec.scaling.workers, "use_gpu": spec.scaling.use_gpu},
                "on_success": spec.on_success.value,
                "priority": spec.priority,
                "preempt": spec.preempt,
                "overlap": schedule.overlap.value,
                "catch_up": schedule.catch_up.value,
                "catch_up_most": schedule.catch_up_most,
                "min_new_clips": schedule.min_new_clips,
                "paused": schedule.paused,
                "next": list(view.next),
                "firings": [FiringAnswer.of(firing) for firing in view.firings],
                "created_at": view.created_at,
                "updated_at": view.updated_at,
            }
        )


class RecipeKeyAnswer(Answer):
    name: str
    type: str = Field(description="int, float or bool")
    default: Any
    minimum: float | None
    optional: bool = Field(description="null switches it off.")


class RecipeStageAnswer(Answer):
    name: str
    steps: int
    batch: int


class RecipeAnswer(Answer):
    name: str
    about: str
    needs_dataset: bool = Field(description="It has no puppets of its own.")
    stages: list[RecipeStageAnswer]
    keys: list[RecipeKeyAnswer]


class RecipesAnswer(Answer):
    data: list[RecipeAnswer]
