"""A chunk: the unit of work that one lease covers, and its attempts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from farm.domain.span import Span


class Work(StrEnum):
    """What the holder of a chunk's lease does. Plan and finalize chunks have an empty span."""

    PLAN = "plan"  # fetch, probe, find and follow the face, cut into render chunks
    RENDER = "render"  # frames of the span -> one encoded segment
    FINALIZE = "finalize"  # segments + voice -> the output file


class ChunkStatus(StrEnum):
    WAITING = "waiting"
    LEASED = "leased"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_terminal(self) -> bool:
        return self in (ChunkStatus.SUCCEEDED, ChunkStatus.FAILED, ChunkStatus.CANCELED)


class Reason(StrEnum):
    """Why an attempt ended without an output (FARM.md, States)."""

    WORKER_LOST = "worker_lost"
    PREEMPTED = "preempted"
    OOM = "oom"
    TIMEOUT = "timeout"
    STALLED = "stalled"
    BAD_INPUT = "bad_input"
    OUTPUT_CHECK_FAILED = "output_check_failed"
    TRANSIENT = "transient"
    CANCELED = "canceled"
    BUG = "bug"
    BAD_BUNDLE = "bad_bundle"  # the version's weights: intact, and of no use


@dataclass(frozen=True)
class Failure:
    """What a worker reports when an attempt ends badly; `farm.domain.retry` decides what follows.

    batch_frames: after oom, the batch that did not fit; the next attempt gets half of it.
    """

    reason: Reason
    code: str
    detail: str
    batch_frames: int | None = None


@dataclass(frozen=True)
class Lease:
    """The right to work on one chunk until `expires_at` (database time, unix seconds). `token` fences late writers."""

    chunk_id: str
    job_id: str
    batch_id: str
    tenant_id: str
    work: Work
    span: Span
    attempt: int
    token: str
    expires_at: float
    lease_s: float
