"""What people are told about work that is not done: the phase, why it waits, and when it should end. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from farm.domain.job import JobStatus, Phase


@dataclass(frozen=True)
class Live:
    """What the leased chunks of a job are doing now, summed; all zero when none is leased."""

    leased: int = 0
    phase: Phase | None = None
    frames_done: int = 0
    frames_per_s: float = 0.0
    preview_key: str | None = None


@dataclass(frozen=True)
class Wait:
    """What stands between a job and its next lease.

    workers: that may claim on its queue now; stopped: others that live, but are draining or in quarantine. is_busy: all
    workers hold a chunk. cap: of the tenant's chunks in flight on the queue, where it is reached. ahead: the tenant's
    own chunks that are claimed before it, None when not counted.
    """

    workers: int
    queue: str
    retry_in_s: float = 0.0
    last_failure: str | None = None
    ahead: int | None = None
    stopped: int = 0
    is_busy: bool = False
    cap: int | None = None


def phase(status: JobStatus, live: Live) -> Phase | None:
    """The phase that its worker reports, else what its status implies; None when nothing is being done."""
    if status is JobStatus.RUNNING:
        return Phase.RENDERING
    if live.phase is not None and status in (JobStatus.VALIDATING, JobStatus.FINALIZING, JobStatus.CANCELING):
        return live.phase
    if live.leased and status is JobStatus.VALIDATING:
        return Phase.PROBING
    return Phase.STITCHING if status is JobStatus.FINALIZING else None


def waiting_reason(status: JobStatus, leased: int, wait: Wait) -> str | None:
    """Why nothing is being done for a job that has not ended; None while a worker is on it."""
    if status.is_terminal or leased:
        return None
    if status is JobStatus.PAUSED:
        return "the batch is paused"
    if status is JobStatus.CANCELING:
        return "waiting for its last worker to stop"
    if not wait.workers and wait.stopped:
        return f"all live workers of queue {wait.queue!r} are draining or in quarantine"
    if not wait.workers:
        return f"no live worker listens to queue {wait.queue!r}"
    if wait.retry_in_s > 0:
        after = f" after {wait.last_failure}" if wait.last_failure else ""
        return f"trying again in {wait.retry_in_s:.0f} s{after}"
    if wait.cap is not None:
        return f"your cap of {wait.cap} chunks in flight is reached"
    if wait.ahead:
        return f"{wait.ahead} of your chunks are ahead of it"
    if wait.is_busy:
        return "all workers are busy" + ("; next of yours" if wait.ahead == 0 else "")
    return "next in line" if wait.ahead == 0 else "waiting for a worker"


def job_eta_s(
    status: JobStatus, frames_left: int, job_speed: float, fleet_speed: float, frames_ahead: int
) -> float | None:
    """Seconds until a job should be rendered, from speeds in frames a second; None when nothing is known to go by.

    job_speed: of the workers on this job now. frames_ahead: of others that are claimed before it. A finalizing job has
    no frames left and no speed of its own: a few seconds.
    """
    if status.is_terminal or status in (JobStatus.PAUSED, JobStatus.CANCELING, JobStatus.VALIDATING):
        return None
    if frames_left == 0:
        return 5.0
    if job_speed > 0:
        return frames_left / job_speed
    return (frames_ahead + frames_left) / fleet_speed if fleet_speed > 0 else None


def batch_progress(weights_done: float, weights: float, *, is_over: bool) -> float:
    """0..1; one is only said when the batch is over."""
    if is_over:
        return 1.0
    return min(0.99, weights_done / weights) if weights > 0 else 0.0
