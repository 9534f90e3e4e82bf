"""What a worker is told with a lease, and what it reports back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from farm.domain.chunk import Lease
from farm.domain.document import LATER
from farm.domain.job import JobSpec, Phase
from farm.domain.media import MediaFacts
from farm.domain.span import Span


@dataclass(frozen=True)
class Blob:
    """Stored bytes: where, how many, and their SHA-256 (hex)."""

    key: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class PlanRecord:
    """What the plan of a job fixed, so that every chunk sees the same inputs.

    source, voice and drivers are the user's files as fetched once, content-addressed. `plan` holds the arrays (frame
    index, timeline, tracks, crops); `speech` is the voice as 16 kHz mono wav. drivers follow the order of
    `JobSpec.all_factors`, their items and drivers, each distinct media once.
    """

    source: Blob
    voice: Blob
    drivers: tuple[Blob, ...]
    plan: Blob
    speech: Blob
    source_facts: MediaFacts
    voice_facts: MediaFacts
    frames_total: int
    faces_found: int
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Segment:
    """The encoded output of a render chunk. `seconds` by stage of the engine; `scores` by name; `flags`: limits
    that the scores break (farm.domain.quality).

    preview_key: the newest picture of the chunk, as in Progress; a chunk may be done before its first heartbeat.
    """

    blob: Blob
    span: Span
    frames: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    preview_key: str | None = None
    flags: tuple[str, ...] = field(default=(), metadata=LATER)


def all_flags(segments: Sequence[Segment]) -> tuple[str, ...]:
    """Flags of a whole job: those of any segment, each once, sorted."""
    return tuple(sorted({name for segment in segments for name in segment.flags}))


def mean_scores(segments: Sequence[Segment]) -> dict[str, float]:
    """Scores of a whole job: each name's mean over the frames of the segments that have it."""
    sums: dict[str, float] = {}
    frames: dict[str, int] = {}
    for segment in segments:
        for name, score in segment.scores.items():
            sums[name] = sums.get(name, 0.0) + score * segment.frames
            frames[name] = frames.get(name, 0) + segment.frames
    return {name: total / frames[name] for name, total in sums.items()}


@dataclass(frozen=True)
class Output:
    """The finished file of a job. `uri` is where the user finds it (destination, or the farm's own store)."""

    blob: Blob
    uri: str
    frames: int
    duration_s: float


@dataclass(frozen=True)
class Order:
    """Everything a worker needs for one lease, read in the claiming transaction.

    assets: asset id -> stored bytes, for the assets that the spec names. bundle_key: folder of the pinned version.
    batch_frames: frames a batch, halved after oom; None lets the worker choose. plan is None for plan work; segments is
    empty but for finalize work (then in span order). speeds: for plan work, frames a second that workers measured of
    the version, by farm.domain.speed's size class. traceparent: the span that submitted the batch (farm.trace).
    """

    lease: Lease
    spec: JobSpec
    assets: Mapping[str, Blob]
    version_id: str
    bundle_key: str
    bundle_sha256: str
    batch_frames: int | None = None
    plan: PlanRecord | None = None
    segments: tuple[Segment, ...] = ()
    speeds: Mapping[str, float] = field(default_factory=dict)
    traceparent: str | None = None


@dataclass(frozen=True)
class Foreseen:
    """What a worker's next chunk probably needs: its job's files and the folder of its version. Nothing is leased."""

    job_id: str
    blobs: tuple[Blob, ...]
    bundle_key: str
    bundle_sha256: str


@dataclass(frozen=True)
class Progress:
    """A worker's sign of life: what it does, how far it is in this chunk, and how fast."""

    phase: Phase
    frames_done: int = 0
    frames_total: int = 0
    frames_per_s: float = 0.0
    preview_key: str | None = None
