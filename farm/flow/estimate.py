"""How long a submission would take, from what the farm has seen."""

from __future__ import annotations

from dataclasses import dataclass

from farm.db import fleet, jobs
from farm.db.session import Session
from farm.domain.batch import BatchSpec


@dataclass(frozen=True)
class Estimate:
    """Seconds are None where the farm has no speed to go by yet; `basis` says what the numbers rest on.

    worker_s: device time of all jobs (the cost). wait_s: until a worker gets to them. finish_s: until the last is done.
    """

    jobs: int
    frames: int | None
    worker_s: float | None
    wait_s: float | None
    finish_s: float | None
    basis: str


def estimate(session: Session, spec: BatchSpec) -> Estimate:
    """A rough one: media are not opened before planning, so each job counts as the mean of those rendered last."""
    count = len(spec.items)
    usual = jobs.usual_frames(session)
    if usual is None:
        return Estimate(count, None, None, None, None, "this farm has finished no job yet")
    frames = round(usual * count)
    workers = max(1, sum(fleet.serving_by_queue(session).values()))
    speed = fleet.speed(session)
    basis = f"{usual:.0f} frames a job, the mean of the last jobs that succeeded"
    if speed <= 0:
        return Estimate(count, frames, None, None, None, f"{basis}; no worker has shown its speed yet")
    wait_s = jobs.frames_waiting(session) / speed
    render_s = frames / speed
    basis = f"{basis}; {speed:.1f} frames/s on {workers} worker{'s' if workers > 1 else ''}"
    return Estimate(count, frames, render_s * workers, wait_s, wait_s + render_s, basis)
