"""A job: one source, one voice track, and what is asked of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from farm.domain.document import LATER
from farm.domain.factor import Factors, FactorSegment, Media


class Kind(StrEnum):
    DUB = "dub"  # video + audio, the new face pasted back into the source picture
    ANIMATE = "animate"  # image + audio, the paper's one-shot use


class SyncMode(StrEnum):
    """What happens when the voice and the video have different lengths (docs/api.md says it for users)."""

    CUT_OFF = "cut_off"  # stop with the shorter one
    SILENCE = "silence"  # nothing is cut: silence after a short voice, the last frame held after a short video
    LOOP = "loop"  # the video starts over until the voice ends
    BOUNCE = "bounce"  # the video runs forward and backward until the voice ends
    REMAP = "remap"  # the video's time is stretched to the voice's length


class JobStatus(StrEnum):
    VALIDATING = "validating"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    FINALIZING = "finalizing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELING = "canceling"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED, JobStatus.EXPIRED)


class Phase(StrEnum):
    """What a running job is doing, for people to read."""

    PROBING = "probing"
    TRACKING = "tracking"
    RENDERING = "rendering"
    STITCHING = "stitching"
    UPLOADING = "uploading"


class FaceChoice(StrEnum):
    AUTO = "auto"
    POINT = "point"
    REFERENCE = "reference"


@dataclass(frozen=True)
class FaceSetting:
    """Which face of the source: the most present one, the one at a point of a frame (pixels), or one like a picture."""

    choice: FaceChoice = FaceChoice.AUTO
    frame: int = 0
    point: tuple[float, float] = (0.0, 0.0)
    reference: Media | None = None


@dataclass(frozen=True)
class OutputSetting:
    container: str = "mp4"
    video_codec: str = "h264"
    crf: int = 18
    destination: str | None = None


@dataclass(frozen=True)
class JobSpec:
    """Everything a user asked of one item of a batch, validated. segments: in any order, none over another."""

    custom_id: str
    kind: Kind
    source: Media
    voice: Media
    sync_mode: SyncMode = SyncMode.CUT_OFF
    factors: Factors = field(default_factory=Factors)
    face: FaceSetting = field(default_factory=FaceSetting)
    output: OutputSetting = field(default_factory=OutputSetting)
    segments: tuple[FactorSegment, ...] = field(default=(), metadata=LATER)

    @property
    def all_factors(self) -> tuple[Factors, ...]:
        """The job's own settings, then those of each segment."""
        return (self.factors, *(segment.factors for segment in self.segments))


class BatchStatus(StrEnum):
    """A batch is completed when all its jobs are terminal; it may hold failed jobs."""

    RUNNING = "running"
    PAUSED = "paused"
    CANCELING = "canceling"
    COMPLETED = "completed"
    CANCELED = "canceled"
