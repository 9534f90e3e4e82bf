"""What the API answers: one class a resource, made from the domain's views. farm.client.answers mirrors them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from farm.domain import public
from farm.domain.asset import Asset
from farm.domain.batch import Rights
from farm.domain.document import to_document
from farm.domain.version import Version
from farm.domain.views import BatchView, ChunkView, JobView, QueueView, ResultLine, WorkerView
from farm.flow.estimate import Estimate

T = TypeVar("T")


class Answer(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="null")

    def json_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


class PageAnswer(Answer, Generic[T]):
    """A page of a list. `next_cursor` is null at the end."""

    data: list[T]
    next_cursor: str | None


class DeltaPageAnswer(PageAnswer[T], Generic[T]):
    """A page of a list that can be followed: pass the first page's `as_of` as `updated_since` next time."""

    as_of: datetime = Field(description="Whatever this list does not show yet changed at or after this time.")


class ErrorItem(Answer):
    pointer: str = Field(description="JSON pointer into the body; `/query/…`, `/path/…`, `/header/…` for the rest.")
    code: str
    detail: str


class ProblemAnswer(Answer):
    """RFC 9457 problem details."""

    type: str = Field(examples=["urn:dubfarm:error:not_found"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["no job job_0192f3a1b2c37d4e8f00112233445566"])
    instance: str = Field(examples=["/v1/jobs/job_0192f3a1b2c37d4e8f00112233445566"])
    code: str = Field(examples=["not_found"])
    retryable: bool = Field(examples=[False])
    request_id: str = Field(examples=["req_0192f3a1b2c37d4e8f00112233445566"])
    errors: list[ErrorItem]


# --- batches and jobs --------------------------------------------------------------------------------------------


class CountsAnswer(Answer):
    """Jobs by where they are; the five add up to `total`. `queued` holds validating and paused jobs, `running` those
    being finished or canceled, `failed` the expired ones."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int


class BatchAnswer(Answer):
    id: str
    status: str = Field(description="running, paused, canceling, completed or canceled; completed may hold failed jobs")
    name: str | None
    priority: int
    model: str = Field(description="As asked.")
    model_version: str = Field(description="What it meant when the batch was accepted.")
    metadata: Mapping[str, str]
    asked_by: str | None = Field(description="Id of the key that submitted it.")
    deadline: datetime | None
    counts: CountsAnswer
    progress: float = Field(description="0 to 1, over frames.")
    eta: datetime | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @staticmethod
    def of(view: BatchView) -> BatchAnswer:
        return BatchAnswer.model_validate(public.batch(view))


class ProgressAnswer(Answer):
    frames_done: int
    frames_total: int = Field(description="0 until the source is probed.")


class JobErrorAnswer(Answer):
    code: str
    detail: str


class RightsAnswer(Answer):
    """What the submitter said gives the right to make this face speak."""

    basis: str = Field(description="consent, licence, own or other")
    statement: str
    reference: str | None

    @staticmethod
    def of(rights: Rights | None) -> RightsAnswer | None:
        if rights is None:
            return None
        return RightsAnswer(basis=rights.basis, statement=rights.statement, reference=rights.reference)


class OutputAnswer(Answer):
    uri: str
    sha256: str
    size_bytes: int
    frames: int
    duration_s: float
    expired_at: datetime | None = Field(description="Since when the farm's copy is erased: its download answers 410.")


class VideoAnswer(Answer):
    codec: str
    width: int
    height: int
    rotation: int
    sample_aspect: str
    frame_rate: str = Field(description="Average, as a fraction.", examples=["24000/1001"])
    frames: int
    duration_s: float
    is_vfr: bool
    pixel_format: str
    bit_depth: int
    full_range: bool
    color_space: str


class AudioAnswer(Answer):
    codec: str
    sample_rate_hz: int
    channels: int
    layout: str
    duration_s: float


class FileAnswer(Answer):
    container: str
    size_bytes: int
    video: VideoAnswer | None
    audio: AudioAnswer | None


class MediaAnswer(Answer):
    """What the farm found in the job's files."""

    source: FileAnswer
    voice: FileAnswer
    faces_found: int = Field(description="Frames of the source that show the chosen face.")


class JobAnswer(Answer):
    id: str
    batch_id: str
    custom_id: str
    kind: str
    status: str = Field(
        description="validating, queued, running, paused, finalizing, succeeded, failed, canceling, canceled or expired"
    )
    status_reason: str
    phase: str | None = Field(description="probing, tracking, rendering, stitching or uploading")
    priority: int
    sync_mode: str
    progress: ProgressAnswer
    eta: datetime | None
    waiting_reason: str | None
    model_version: str
    cohort: str | None = Field(
        description="canary or champion: which of the two it got while a canary had a share of such jobs"
    )
    media: MediaAnswer | None
    scores: Mapping[str, float] = Field(description="By name, means over the chunks (docs/quality.md)")
    flags: list[str] = Field(description="Limits of quality that some chunk breaks (docs/quality.md)")
    error: JobErrorAnswer | None
    output: OutputAnswer | None
    rights: RightsAnswer | None
    deleted_at: datetime | None = Field(description="When its media were erased by request.")
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @staticmethod
    def of(view: JobView) -> JobAnswer:
        return JobAnswer.model_validate(public.job(view))


class AttemptAnswer(Answer):
    """One worker's try. outcome: running, succeeded, failed or returned."""

    number: int
    worker_id: str
    outcome: str
    reason: str | None
    code: str | None
    detail: str | None
    seconds: Mapping[str, float]
    started_at: datetime
    finished_at: datetime | None


class ChunkAnswer(Answer):
    """Frames [start, stop) of the output; plan and finalize chunks have an empty span."""

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
    attempts: list[AttemptAnswer]
    scores: Mapping[str, float]
    flags: list[str]
    updated_at: datetime

    @staticmethod
    def of(view: ChunkView) -> ChunkAnswer:
        return ChunkAnswer(
            id=view.id,
            job_id=view.job_id,
            work=view.work,
            status=view.status,
            start=view.span.start,
            stop=view.span.stop,
            worker_id=view.worker_id,
            frames_done=view.frames_done,
            frames_per_s=view.frames_per_s,
            available_at=view.available_at,
            lease_expires_at=view.lease_expires_at,
            attempts=[
                AttemptAnswer(
                    number=a.number,
                    worker_id=a.worker_id,
                    outcome=a.outcome,
                    reason=a.reason,
                    code=a.code,
                    detail=a.detail,
                    seconds=a.seconds,
                    started_at=a.started_at,
                    finished_at=a.finished_at,
                )
                for a in view.attempts
            ],
            scores=view.scores,
            flags=list(view.flags),
            updated_at=view.updated_at,
        )


class ResultAnswer(Answer):
    """A line of results.jsonl."""

    job_id: str
    custom_id: str
    status: str
    output: OutputAnswer | None
    error: JobErrorAnswer | None
    model_version: str
    scores: Mapping[str, float] = Field(description="By name, means over the chunks (docs/quality.md)")
    flags: list[str] = Field(description="Limits of quality that some chunk breaks (docs/quality.md)")
    seconds: float | None
    rights: RightsAnswer | None
    asked_by: str | None = Field(description="Id of the key that submitted the batch.")

    @staticmethod
    def of(line: ResultLine) -> ResultAnswer:
        output, error = (
            public.output(line.output, line.output_erased_at),
            public.error(line.error_code, line.error_detail),
        )
        return ResultAnswer(
            job_id=line.job_id,
            custom_id=line.custom_id,
            status=line.status,
            output=OutputAnswer.model_validate(output) if output else None,
            error=JobErrorAnswer.model_validate(error) if error else None,
            model_version=line.version_id,
            scores=line.scores,
            flags=list(line.flags),
            seconds=line.seconds,
            rights=RightsAnswer.of(line.rights),
            asked_by=line.asked_by,
        )


class EstimateAnswer(Answer):
    """The answer to a dry run, for the fleet as it is now; null where the farm has no speed to go by yet."""

    dry_run: bool = True
    items: int
    frames: int | None
    worker_s: float | None = Field(description="Device seconds of all jobs: the cost.")
    wait_s: float | None = Field(description="Until a worker gets to them.")
    finish_s: float | None = Field(description="Until the last one is done.")
    eta: datetime | None
    basis: str = Field(description="What the numbers rest on.")

    @staticmethod
    def of(estimate: Estimate, eta: datetime | None) -> EstimateAnswer:
        return EstimateAnswer(
            items=estimate.jobs,
            frames=estimate.frames,
            worker_s=estimate.worker_s,
            wait_s=estimate.wait_s,
            finish_s=estimate.finish_s,
            eta=eta,
            basis=estimate.basis,
        )


# --- assets, models, fleet, keys ---------------------------------------------------------------------------------


class UploadAnswer(Answer):
    """The one request that hands in the bytes. Where `url` is the API's own, send your key along."""

    method: str
    url: str
    headers: Mapping[str, str]


class AssetAnswer(Answer):
    id: str
    asset_id: str = Field(description="The same as `id`.")
    status: str = Field(description="pending, ready, or expired: its bytes have been erased")
    filename: str | None
    content_type: str | None
    size_bytes: int | None
    sha256: str | None
    created_at: datetime
    upload: UploadAnswer | None = Field(description="Null where there is nothing to send.")

    @staticmethod
    def of(asset: Asset, upload: UploadAnswer | None = None) -> AssetAnswer:
        return AssetAnswer(
            id=asset.id,
            asset_id=asset.id,
            status=asset.status,
            filename=asset.filename,
            content_type=asset.content_type,
            size_bytes=asset.blob.size_bytes if asset.blob else None,
            sha256=asset.blob.sha256 if asset.blob else None,
            created_at=asset.created_at,
            upload=upload,
        )


class LineageAnswer(Answer):
    """Where weights came from, as far as it is known."""

    recipe: str | None
    overrides: Mapping[str, Any]
    code_version: str | None
    dataset_version: str | None = Field(description="Content address of what was trained on")
    seeds: list[int]
    parent: str | None = Field(description="The version that training went on from")
    run: str | None
    checkpoints: list[str]


class FindingAnswer(Answer):
    metric: str
    value: float | None
    champion: float | None
    needed: float | None = Field(description="The worst value that would have passed")
    passed: bool
    reason: str


class DecisionAnswer(Answer):
    """What the gate last said of a version. champion: the version that it was compared with."""

    passed: bool
    champion: str | None
    reasons: list[str]
    findings: list[FindingAnswer]


class ReportFileAnswer(Answer):
    url: str
    size_bytes: int
    sha256: str


class VersionAnswer(Answer):
    """Registered weights. trained: false for a bundle that only moves bytes through the farm (tests, benchmarks)."""

    id: str
    model: str
    name: str
    trained: bool
    licence: str
    bundle_sha256: str = Field(description="Of manifest.json, which lists every weight file's.")
    manifest: Mapping[str, Any]
    aliases: list[str]
    lineage: LineageAnswer
    evaluation: Mapping[str, Any] | None = Field(description="What the gate reads; null: never evaluated")
    gate: DecisionAnswer | None
    report: Mapping[str, ReportFileAnswer] = Field(description="Files of the evaluation report and its plots, by name")
    unusable: str | None = Field(description="Why no worker can render with these weights, once one has tried")
    created_at: datetime

    @staticmethod
    def of(version: Version, aliases: list[str]) -> VersionAnswer:
        at = f"/v1/models/{version.model}/versions/{version.id}/report/"
        return VersionAnswer(
            id=version.id,
            model=version.model,
            name=version.name,
            trained=version.trained,
            licence=version.licence,
            bundle_sha256=version.bundle_sha256,
            manifest=version.manifest,
            aliases=aliases,
            lineage=LineageAnswer.model_validate(to_document(version.lineage)),
            evaluation=version.evaluation,
            gate=None if version.gate is None else DecisionAnswer.model_validate(to_document(version.gate)),
            report={
                name: ReportFileAnswer(url=at + name, size_bytes=file.size_bytes, sha256=file.sha256)
                for name, file in version.reports.items()
            },
            unusable=version.unusable,
            created_at=_made_at(version.id),
        )


class StagedAnswer(Answer):
    """Where an alias is on its way to: it moves when all these workers have the files, or at `until`."""

    version: str
    canary_share: float | None
    since: datetime
    until: datetime
    workers: int
    ready: int


class AliasAnswer(Answer):
    model: str
    alias: str
    version: str | None = Field(description="null: new, and still on its way")
    previous: str | None = Field(description="Where the newest move came from.")
    canary_share: float | None = Field(description="Of the jobs that ask for champion; of the canary only")
    revision: int = Field(description="Grows with every change: send it as If-Match")
    staged: StagedAnswer | None
    since: datetime | None = Field(description="When it came to its version")
    updated_at: datetime | None


class MoveAnswer(Answer):
    """kind: promote, rollback, share (only that changed) or stop (of a canary that was worse)."""

    kind: str
    version: str
    previous: str | None
    canary_share: float | None
    forced: bool
    reasons: list[str]
    actor: str
    at: datetime


class MeanAnswer(Answer):
    """Mean over chunks, with its 95% interval (over jobs; null below three)."""

    mean: float
    low: float | None
    high: float | None
    jobs: int
    chunks: int


class BesideAnswer(Answer):
    score: str
    champion: MeanAnswer | None
    canary: MeanAnswer | None
    difference: float | None
    worse: bool
    reason: str


class ComparisonAnswer(Answer):
    """since: of jobs submitted from then on that were shared out between the two; null: of all jobs of either."""

    champion: str
    canary: str
    since: datetime | None
    canary_share: float | None
    scores: list[BesideAnswer]


class BundleNoteAnswer(Answer):
    state: str = Field(description="fetching, ready, failed or unusable")
    detail: str


class WorkerAnswer(Answer):
    """A render worker. chunk_id and job_id are shown where the job is yours."""

    id: str
    status: str = Field(description="busy, idle, draining, quarantined or lost")
    host: str
    device: str
    queues: list[str]
    model_version: str | None
    chunk_id: str | None
    job_id: str | None
    frames_per_s: float
    quarantined_until: datetime | None
    quarantine_reason: str | None
    info: Mapping[str, Any]
    bundles: Mapping[str, BundleNoteAnswer] = Field(
        description="By version: how it stands with files that it was told to fetch, or found damaged"
    )
    started_at: datetime
    heartbeat_at: datetime

    @staticmethod
    def of(view: WorkerView, now: datetime, *, is_own: bool) -> WorkerAnswer:
        if not view.alive:
            status = "lost"
        elif view.quarantined_until is not None and view.quarantined_until > now:
            status = "quarantined"
        elif view.draining:
            status = "draining"
        else:
            status = "busy" if view.chunk_id else "idle"
        return WorkerAnswer(
            id=view.id,
            status=status,
            host=view.host,
            device=view.device,
            queues=list(view.queues),
            model_version=view.version_id,
            chunk_id=view.chunk_id if is_own else None,
            job_id=view.job_id if is_own else None,
            frames_per_s=view.frames_per_s,
            quarantined_until=view.quarantined_until,
            quarantine_reason=view.quarantine_reason,
            info=view.info,
            bundles={key: BundleNoteAnswer(state=n.state, detail=n.detail) for key, n in view.bundles.items()},
            started_at=view.started_at,
            heartbeat_at=view.heartbeat_at,
        )


class QueueAnswer(Answer):
    """waiting: could start now. delayed: waits for a retry's time. held: of paused batches."""

    name: str
    waiting: int
    delayed: int
    held: int
    leased: int
    workers: int
    oldest_waiting_s: float | None

    @staticmethod
    def of(view: QueueView) -> QueueAnswer:
        return QueueAnswer(
            name=view.queue,
            waiting=view.waiting,
            delayed=view.delayed,
            held=view.held,
            leased=view.leased,
            workers=view.workers,
            oldest_waiting_s=view.oldest_waiting_s,
        )


def _made_at(id: str) -> datetime:
    """The time in a time-ordered id (farm.domain.ids)."""
    millis = int(id.partition("_")[2][:12], 16)
    return datetime.fromtimestamp(millis / 1000, UTC)
