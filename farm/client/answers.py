"""What the API answers, as frozen dataclasses. Fields that a newer server adds are ignored."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, get_args, get_origin

T = TypeVar("T")


@dataclass(frozen=True)
class FieldError:
    """One thing wrong with what was sent; `pointer` is a JSON pointer into the body."""

    pointer: str
    code: str
    detail: str


@dataclass(frozen=True)
class Counts:
    """Jobs of a batch. queued holds waiting and paused ones, running those being finished or canceled, failed the
    expired ones; the five add up to total."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int


@dataclass(frozen=True)
class Batch:
    id: str
    status: str
    name: str | None
    priority: int
    model: str
    model_version: str | None
    metadata: Mapping[str, str]
    asked_by: str | None
    deadline: datetime | None
    counts: Counts
    progress: float
    eta: datetime | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None

    @property
    def is_terminal(self) -> bool:
        return self.status in ("completed", "canceled")


@dataclass(frozen=True)
class JobProgress:
    frames_done: int
    frames_total: int


@dataclass(frozen=True)
class JobError:
    code: str
    detail: str


@dataclass(frozen=True)
class Rights:
    """What the submitter said gives the right to make a face speak. basis: consent, licence, own or other."""

    basis: str
    statement: str
    reference: str | None = None


@dataclass(frozen=True)
class JobOutput:
    """A finished file. `uri` names it in the farm's store or at the asked destination; download it with the client.
    expired_at: since when the farm's copy is erased."""

    uri: str
    sha256: str
    size_bytes: int
    frames: int
    duration_s: float
    expired_at: datetime | None = None


@dataclass(frozen=True)
class Job:
    id: str
    batch_id: str
    custom_id: str
    kind: str
    status: str
    phase: str | None
    priority: int
    progress: JobProgress
    eta: datetime | None
    waiting_reason: str | None
    model_version: str | None
    cohort: str | None
    media: Mapping[str, Any] | None
    scores: Mapping[str, float]
    error: JobError | None
    output: JobOutput | None
    rights: Rights | None
    deleted_at: datetime | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    flags: tuple[str, ...] = ()

    @property
    def is_terminal(self) -> bool:
        return self.status in ("succeeded", "failed", "canceled", "expired")


@dataclass(frozen=True)
class Attempt:
    """One worker's try at a chunk. outcome: running, succeeded, failed or returned. `seconds` by stage."""

    number: int
    worker_id: str
    outcome: str
    reason: str | None
    code: str | None
    detail: str | None
    seconds: Mapping[str, float]
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class Chunk:
    """Frames [start, stop) of a job's output; plan and finalize chunks have none."""

    id: str
    job_id: str
    work: str
    status: str
    start: int
    stop: int
    worker_id: str | None
    frames_done: int
    frames_per_s: float
    available_at: datetime
    lease_expires_at: datetime | None
    attempts: tuple[Attempt, ...]
    scores: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """A line of results.jsonl."""

    job_id: str
    custom_id: str
    status: str
    output: JobOutput | None
    error: JobError | None
    model_version: str | None
    scores: Mapping[str, float]
    seconds: float | None
    flags: tuple[str, ...] = ()
    rights: Rights | None = None
    asked_by: str | None = None


@dataclass(frozen=True)
class Estimate:
    """The answer to a dry run, for the fleet as it is now; None where the farm has no speed to go by yet.

    worker_s: device time of all jobs (the cost). wait_s: until a worker gets to them. finish_s: until the last is done.
    """

    items: int
    frames: int | None
    worker_s: float | None
    wait_s: float | None
    finish_s: float | None
    eta: datetime | None
    basis: str


@dataclass(frozen=True)
class UploadTo:
    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asset:
    id: str
    status: str
    filename: str | None
    size_bytes: int | None
    sha256: str | None
    created_at: datetime
    upload: UploadTo | None = None


@dataclass(frozen=True)
class Lineage:
    """Where weights came from, as far as it is known. parent: a version's id."""

    recipe: str | None
    code_version: str | None
    dataset_version: str | None
    parent: str | None
    run: str | None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    checkpoints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What a rule of the gate said. needed: the worst value that would have passed."""

    metric: str
    value: float | None
    champion: float | None
    needed: float | None
    passed: bool
    reason: str


@dataclass(frozen=True)
class GateDecision:
    """reasons: why not; empty when it passed. champion: the version that it was compared with."""

    passed: bool
    champion: str | None
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class ReportFile:
    url: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Version:
    """report: files of its evaluation and plots, by name. unusable: why no worker can render with it."""

    id: str
    model: str
    name: str
    trained: bool
    licence: str
    bundle_sha256: str
    manifest: Mapping[str, Any]
    aliases: tuple[str, ...]
    lineage: Lineage | None
    evaluation: Mapping[str, Any] | None
    gate: GateDecision | None
    created_at: datetime
    report: Mapping[str, Any] = field(default_factory=dict)
    unusable: str | None = None


@dataclass(frozen=True)
class Staged:
    """Where an alias is on its way to: it moves when all these workers have the files, or at `until`."""

    version: str
    canary_share: float | None
    since: datetime
    until: datetime
    workers: int
    ready: int


@dataclass(frozen=True)
class Alias:
    """version None: new, and still on its way. revision grows with every change."""

    model: str
    alias: str
    version: str | None
    previous: str | None
    canary_share: float | None
    staged: Staged | None
    since: datetime | None
    updated_at: datetime | None
    revision: int = 0


@dataclass(frozen=True)
class AliasMove:
    """kind: promote, rollback, share (only that changed) or stop (of a canary that was worse)."""

    kind: str
    version: str
    previous: str | None
    canary_share: float | None
    forced: bool
    reasons: tuple[str, ...]
    actor: str
    at: datetime


@dataclass(frozen=True)
class GateRule:
    """margin: how much worse than the champion (negative: how much better); bound: the worst value that passes."""

    metric: str
    direction: str
    margin: float | None
    bound: float | None


@dataclass(frozen=True)
class ModelGate:
    """metrics: what rules may name; `name.*` is whatever is below name."""

    model: str
    is_default: bool
    rules: tuple[GateRule, ...]
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class WatchedScore:
    """tolerance: how much worse than the champion's it may be; direction: which way it is better."""

    score: str
    direction: str
    tolerance: float


@dataclass(frozen=True)
class CanaryRules:
    """share: of a new canary that is given none. fewest_jobs: of each version, before it is judged. stops: a worse
    canary's share becomes 0."""

    watched: tuple[WatchedScore, ...]
    share: float
    fewest_jobs: int
    confidence: float
    stops: bool


@dataclass(frozen=True)
class ModelCanary:
    """scores: what may be watched, and which way each is better."""

    model: str
    is_default: bool
    rules: CanaryRules
    scores: Mapping[str, str]


@dataclass(frozen=True)
class Mean:
    """Over chunks; low and high: the 95% interval, over jobs."""

    mean: float
    low: float | None
    high: float | None
    jobs: int
    chunks: int


@dataclass(frozen=True)
class ScoreBeside:
    score: str
    champion: Mean | None
    canary: Mean | None
    difference: float | None
    worse: bool
    reason: str


@dataclass(frozen=True)
class Comparison:
    """Two versions' scores; since: of jobs that were shared out between them from then on, None: of all."""

    champion: str
    canary: str
    since: datetime | None
    canary_share: float | None
    scores: tuple[ScoreBeside, ...]


@dataclass(frozen=True)
class Worker:
    """`status`: busy, idle, draining, quarantined or lost."""

    id: str
    status: str
    host: str
    device: str
    queues: tuple[str, ...]
    model_version: str | None
    chunk_id: str | None
    job_id: str | None
    frames_per_s: float
    quarantined_until: datetime | None
    quarantine_reason: str | None
    info: Mapping[str, Any]
    started_at: datetime
    heartbeat_at: datetime
    bundles: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Queue:
    """waiting: could start now. delayed: waits for a retry's time. held: of paused batches."""

    name: str
    waiting: int
    delayed: int
    held: int
    leased: int
    workers: int
    oldest_waiting_s: float | None


@dataclass(frozen=True)
class Rate:
    """Requests a second on average, and how many may come at once."""

    per_s: float
    burst: int


@dataclass(frozen=True)
class Key:
    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    rate: Rate | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True)
class Quotas:
    """None: no limit."""

    jobs_open: int | None
    frames_month: int | None
    storage_bytes: int | None


@dataclass(frozen=True)
class Used:
    jobs_open: int
    frames_month: int
    storage_bytes: int


@dataclass(frozen=True)
class Usage:
    """What a tenant has used of its quotas; `month` is when the month began."""

    tenant_id: str
    month: datetime
    used: Used
    quotas: Quotas


@dataclass(frozen=True)
class Tenant:
    """rate None: the farm's own. retention: days by class of media where they are not the farm's."""

    id: str
    name: str
    is_operator: bool
    weight: float
    max_in_flight: int | None
    rate: Rate | None
    quotas: Quotas
    retention: Mapping[str, float | None]
    created_at: datetime


@dataclass(frozen=True)
class NewKey:
    """`secret` is the whole key, shown this once."""

    key: Key
    secret: str


@dataclass(frozen=True)
class Actor:
    """A key of your tenant, or the farm itself or another tenant (key_id is None)."""

    name: str
    key_id: str | None


@dataclass(frozen=True)
class AuditEntry:
    """Who did what. `subject`: the id of what was acted on, or model/alias."""

    id: int
    at: datetime
    actor: Actor
    action: str
    subject: str
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class WebhookEndpoint:
    """`events`: empty for all. `disabled_reason`: why it is not enabled."""

    id: str
    url: str
    description: str | None
    events: tuple[str, ...]
    enabled: bool
    disabled_reason: str | None
    disabled_at: datetime | None
    old_secret_until: datetime | None
    last_success_at: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class NewWebhook:
    """`secret` (whsec_…) verifies signatures; shown this once."""

    endpoint: WebhookEndpoint
    secret: str


@dataclass(frozen=True)
class WebhookTry:
    """status None: no answer, and `error` says why. answer: the first bytes of its body."""

    number: int
    at: datetime
    status: int | None
    error: str | None
    seconds: float
    answer: str


@dataclass(frozen=True)
class WebhookDelivery:
    """One event for one endpoint; `id` is its webhook-id. status: pending, delivered, failed or skipped. tries, body:
    only of a delivery asked for by itself."""

    id: str
    event_id: str
    event: str
    status: str
    attempts: int
    next_attempt_at: datetime | None
    last_status: int | None
    last_error: str | None
    created_at: datetime
    finished_at: datetime | None
    tries: tuple[WebhookTry, ...] = ()
    body: str | None = None


@dataclass(frozen=True)
class RunAttempt:
    """outcome: running, succeeded, failed, stopped, lost or canceled. host None: a Ray cluster's."""

    number: int
    submission_id: str
    host: str | None
    outcome: str
    reason: str | None
    stage: str | None
    step: int
    gpu_hours: float
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class RunFailure:
    code: str
    detail: str


@dataclass(frozen=True)
class TrainingRun:
    """steps, eta_s: of the stage. dataset: "puppets", or {uri, manifest_sha256}. history: of a run asked for alone."""

    id: str
    status: str
    status_reason: str
    recipe: str
    dataset: Any
    overrides: Mapping[str, Any]
    resume_from: str | None
    scaling: Mapping[str, Any]
    on_success: str
    priority: int
    preempt: bool
    schedule: str | None
    fired_for: datetime | None
    stage: str | None
    stage_number: int
    stages: int
    step: int
    steps: int
    samples_per_s: float | None
    eta_s: float | None
    losses: Mapping[str, float | None]
    goodput: float | None
    gpu_hours: float
    yielding: bool
    waiting_reason: str | None
    alerts: tuple[str, ...]
    attempts: int
    attempt: RunAttempt | None
    error: RunFailure | None
    model_version: str | None
    asked_by: str | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    progress_at: datetime | None
    finished_at: datetime | None
    history: tuple[RunAttempt, ...] = ()

    @property
    def is_over(self) -> bool:
        return self.status in ("succeeded", "failed", "canceled")


@dataclass(frozen=True)
class TrainingConsent:
    """That a job's source video may be trained on. asked_by, withdrawn_by: ids of keys."""

    job_id: str
    statement: str
    reference: str | None
    asked_by: str | None
    given_at: datetime
    withdrawn_at: datetime | None
    withdrawn_by: str | None


@dataclass(frozen=True)
class ClipSource:
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class ConsentedClip:
    """The source video of a finished dub that may be trained on. rights: what gave the right to the dub itself."""

    job_id: str
    tenant_id: str
    statement: str
    reference: str | None
    rights: Rights | None
    asked_by: str | None
    given_at: datetime
    source: ClipSource


@dataclass(frozen=True)
class Curve:
    """Means of the losses up to each step."""

    stage: str
    step: tuple[int, ...]
    losses: Mapping[str, list[float | None]]


@dataclass(frozen=True)
class Checkpoint:
    name: str
    stage: str
    step: int
    size_bytes: int
    uri: str


@dataclass(frozen=True)
class Firing:
    """outcome: started, queued, skipped or missed; count: times that it stands for."""

    at: datetime
    outcome: str
    reason: str
    run_id: str | None
    count: int
    decided_at: datetime


@dataclass(frozen=True)
class TrainingSchedule:
    """next: its next five fire times. firings: newest first."""

    name: str
    revision: int
    cron: str
    timezone: str
    recipe: str
    dataset: Any
    overrides: Mapping[str, Any]
    resume_from: str | None
    scaling: Mapping[str, Any]
    on_success: str
    priority: int
    preempt: bool
    overlap: str
    catch_up: str
    catch_up_most: int
    min_new_clips: int
    paused: bool
    next: tuple[datetime, ...]
    firings: tuple[Firing, ...]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Event:
    """Something that changed. `type` is a kind of the log (job.status, batch.paused, ...: `data` has job_id, at, data),
    or `progress` (how things stand: batch, and the jobs that changed), or `end` (as progress, and the last one)."""

    id: str
    type: str
    data: Mapping[str, Any]

    @property
    def batch(self) -> Batch | None:
        """Of progress and end, where a batch is watched."""
        return build(Batch, self.data["batch"]) if "batch" in self.data else None

    @property
    def run(self) -> TrainingRun | None:
        """Of progress and end, where a training run is watched."""
        return build(TrainingRun, self.data["run"]) if "run" in self.data else None

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Of progress and end: the jobs that changed, or the watched one."""
        if "job" in self.data:
            return (build(Job, self.data["job"]),)
        return tuple(build(Job, job) for job in self.data.get("jobs", ()))


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def build(cls: type[T], data: Mapping[str, Any]) -> T:
    """`data` as a `cls`. What may be None may be missing. Raises ValueError where the shape is another."""
    hints = _hints(cls)
    values: dict[str, Any] = {}
    for f in fields(cls):  # type: ignore[arg-type]
        if f.name in data:
            values[f.name] = _value(hints[f.name], data[f.name])
        elif f.default is MISSING and type(None) in get_args(hints[f.name]):
            values[f.name] = None
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"not a {cls.__name__}: {error}") from error


def _value(hint: Any, value: Any) -> Any:
    origin = get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _value(next(arg for arg in get_args(hint) if arg is not type(None)), value)
    if origin is tuple:
        return tuple(_value(get_args(hint)[0], part) for part in value)
    if hint is datetime:
        return datetime.fromisoformat(value)
    if is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value)
    return value
