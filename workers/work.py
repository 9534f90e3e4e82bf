"""What the engine's child is asked to do, and what it answers: plain values, paths on this machine only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from farm.domain.job import JobSpec
from farm.domain.limits import MediaLimits
from farm.domain.media import MediaFacts
from farm.domain.order import Progress
from farm.domain.quality import QualityLimits
from farm.domain.span import Span


@dataclass(frozen=True)
class BundleFolder:
    """A version's files on this machine; `sha256` is that of manifest.json."""

    folder: Path
    sha256: str


@dataclass(frozen=True)
class PlanWork:
    """Probe and track the inputs; write the plan file and the voice as 16 kHz mono wav.

    drivers: one file for each of `farm.domain.factor` drivers, in order, each distinct media once. reference: the
    picture that says which face, where the job has one. limits: what reading refuses (settings' InputSettings).
    tracks: a folder for the source and one for each driver, with the tracks made of it before, each under its
    `workers.tracks.name`.npz; a track that is made now is put there.
    batch_frames, deterministic: as `workers.plan_file.PlanFile` keeps them for all chunks; None for the batch that
    the engine found.
    """

    spec: JobSpec
    source: Path
    voice: Path
    drivers: tuple[Path, ...]
    reference: Path | None
    batch_frames: int | None
    limits: MediaLimits
    plan: Path
    speech: Path
    tracks: tuple[Path, ...]
    deterministic: bool = False


@dataclass(frozen=True)
class Planned:
    """What planning found. `seconds` by phase. tracks: the tracks that were made and not found.
    batch_frames: the plan's."""

    source_facts: MediaFacts
    voice_facts: MediaFacts
    frames_total: int
    faces_found: int
    batch_frames: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    tracks: tuple[Path, ...] = ()


@dataclass(frozen=True)
class RenderWork:
    """Render output frames `span` of a planned job into one segment at `dest`.

    job_key names what the appearance depends on (plan and version), so that the child encodes it once a job.
    batch_frames: smaller than the plan's after oom; None for the plan's.
    preview: a JPEG rewritten every `preview_s` seconds. frame_hashes: a file to write "index SHA-256" of each output
    frame's raw planes to, for tests. may_rerender: a score beyond its limit may give up this attempt.
    """

    spec: JobSpec
    job_key: str
    source_facts: MediaFacts
    bundle: BundleFolder
    plan: Path
    source: Path
    drivers: tuple[Path, ...]
    speech: Path
    span: Span
    batch_frames: int | None
    dest: Path
    preview: Path | None = None
    preview_s: float = 3.0
    frame_hashes: Path | None = None
    quality: QualityLimits = field(default_factory=QualityLimits)
    may_rerender: bool = True


@dataclass(frozen=True)
class Rendered:
    """A finished segment: frames written, seconds, scores by name, names of the limits they break.

    seconds: how long each stage was busy, under its name; what its own thread computed, as `<stage>_cpu`; what the
    whole process computed, with the threads of codecs and networks, as `cpu`; how long it all took, as `line`.
    """

    frames: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class FinalizeWork:
    """Join segments (in span order) and the voice into the output file at `dest`."""

    spec: JobSpec
    plan: Path
    segments: tuple[Path, ...]
    voice: Path
    dest: Path


@dataclass(frozen=True)
class Assembled:
    """The output file's facts."""

    frames: int
    duration_s: float


@dataclass(frozen=True)
class Preview:
    """A sign that `RenderWork.preview` holds a newer picture, of output frame `frame`."""

    path: Path
    frame: int


Report: TypeAlias = Callable[[Progress | Preview], None]
Check: TypeAlias = Callable[[], None]
"""Raises `Aborted` when the work is no longer wanted; called between batches."""
Perform: TypeAlias = Callable[[Any, Report, Check], Any]


class Aborted(Exception):
    """The work was called off: its lease is gone, its job is canceled or paused, or the worker is shutting down."""
