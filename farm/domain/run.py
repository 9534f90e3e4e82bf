"""A training run: what is asked for, where it stands, and which move leads where."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from farm.domain.line import PRIORITY
from farm.domain.override import Value


class RunStatus(StrEnum):
    """queued: waits for a place. starting: an attempt is being launched. canceling: its processes are being ended."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    CANCELING = "canceling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


MOVES: Final[Mapping[RunStatus, frozenset[RunStatus]]] = {
    RunStatus.QUEUED: frozenset({RunStatus.STARTING, RunStatus.CANCELED}),
    RunStatus.STARTING: frozenset(
        {RunStatus.RUNNING, RunStatus.QUEUED, RunStatus.CANCELING, RunStatus.SUCCEEDED, RunStatus.FAILED}
    ),
    RunStatus.RUNNING: frozenset({RunStatus.QUEUED, RunStatus.CANCELING, RunStatus.SUCCEEDED, RunStatus.FAILED}),
    RunStatus.CANCELING: frozenset({RunStatus.CANCELED}),
    RunStatus.SUCCEEDED: frozenset(),
    RunStatus.FAILED: frozenset({RunStatus.QUEUED}),
    RunStatus.CANCELED: frozenset({RunStatus.QUEUED}),
}
"""A lost attempt puts a run back to queued; `resume` takes up failed and canceled ones. Success is for good."""
OPEN: Final = frozenset({RunStatus.QUEUED, RunStatus.STARTING, RunStatus.RUNNING, RunStatus.CANCELING})
HELD: Final = frozenset({RunStatus.STARTING, RunStatus.RUNNING, RunStatus.CANCELING})
"""An attempt is open: somebody may be computing."""


def may_move(now: RunStatus, then: RunStatus) -> bool:
    return then in MOVES[now]


class OnSuccess(StrEnum):
    """register: the finished run becomes a version, a candidate. promote: and goes through the gate to champion."""

    REGISTER = "register"
    PROMOTE = "promote"


@dataclass(frozen=True)
class Dataset:
    """`puppets` (uri None), or a prepared set. manifest_sha256: exactly this version of it."""

    uri: str | None = None
    manifest_sha256: str | None = None


@dataclass(frozen=True)
class Scaling:
    """workers 0: a plain loop in one process; more: Ray Train workers."""

    workers: int = 0
    use_gpu: bool = False


@dataclass(frozen=True)
class RunSpec:
    """What to train. overrides: declared keys of the recipe only. resume_from: a run, or run/checkpoint. priority: 0 to
    100, higher first (farm.domain.line). preempt: it may have a run of lower priority stopped at a checkpoint."""

    recipe: str
    dataset: Dataset = field(default_factory=Dataset)
    overrides: Mapping[str, Value] = field(default_factory=dict)
    scaling: Scaling = field(default_factory=Scaling)
    on_success: OnSuccess = OnSuccess.REGISTER
    resume_from: str | None = None
    priority: int = PRIORITY
    preempt: bool = False


_RESUME_FROM: Final = re.compile(r"(run_[0-9a-f]{32})(?:/([a-z0-9_]+-\d+))?")


def resume_point(text: str) -> tuple[str, str | None] | None:
    """(run id, checkpoint name or None for its newest) of a resume_from; None where it is neither."""
    found = _RESUME_FROM.fullmatch(text)
    return (found[1], found[2]) if found else None


def submission_id(run_id: str, attempt: int) -> str:
    """The name that an attempt runs under wherever it runs: submitting it twice is refused."""
    return f"{run_id}-{attempt}"


class Outcome(StrEnum):
    """What became of an attempt. stopped: asked to make room, it left a checkpoint. lost: it ended without a word."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"
    CANCELED = "canceled"


@dataclass(frozen=True)
class Attempt:
    """The right to run a training run now. token: what its processes and its place of work show; a later attempt has
    another. host: the machine whose processes they are; None: a Ray cluster's."""

    run_id: str
    number: int
    token: str
    host: str | None
    started_at: datetime

    @property
    def submission_id(self) -> str:
        return submission_id(self.run_id, self.number)


@dataclass(frozen=True)
class AttemptView:
    number: int
    submission_id: str
    host: str | None
    outcome: Outcome
    reason: str | None
    stage: str | None
    step: int
    gpu_hours: float
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class RunError:
    code: str
    detail: str


@dataclass(frozen=True)
class Standing:
    """Where a run stands, by the trainer's own account. losses: the newest of each term; None is no finite number.

    gpu_hours: of all attempts so far. stage_number counts from 1. eta_s: to the end of the stage.
    """

    stage: str | None = None
    stage_number: int = 0
    stages: int = 0
    step: int = 0
    steps: int = 0
    samples_per_s: float | None = None
    eta_s: float | None = None
    losses: Mapping[str, float | None] = field(default_factory=dict)
    goodput: float | None = None
    gpu_hours: float = 0.0
    workers: int = 0

    @property
    def place(self) -> tuple[int, int]:
        return self.stage_number, self.step


@dataclass(frozen=True)
class RunView:
    """gpu_hours: over all attempts. yielding: makes room for rendering just now. alerts: kinds that were told of since
    the newest attempt began. waiting_reason: why a queued run does not start."""

    id: str
    spec: RunSpec
    status: RunStatus
    status_reason: str
    schedule: str | None
    fired_for: datetime | None
    standing: Standing
    attempts: tuple[AttemptView, ...]
    attempts_total: int
    gpu_hours: float
    yielding: bool
    waiting_reason: str | None
    alerts: tuple[str, ...]
    error: RunError | None
    version_id: str | None
    asked_by: str | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    progress_at: datetime | None
    finished_at: datetime | None


class RunEventKind(StrEnum):
    """What a run's event log tells."""

    CREATED = "run.created"
    STATUS = "run.status"
    STAGE = "run.stage"
    ALERT = "run.alert"
    YIELD = "run.yield"
    VERSION = "run.version"


@dataclass(frozen=True)
class RunEvent:
    """Ids increase in commit order inside a run."""

    id: int
    kind: RunEventKind
    run_id: str
    at: datetime
    data: Mapping[str, object]


@dataclass(frozen=True)
class Point:
    """A piece of the curves: means over the `steps` steps that end before `step`."""

    stage: str
    step: int
    steps: int
    losses: Mapping[str, float | None]
