"""How long a submission would take, from what the farm has seen."""

from __future__ import annotations

from dataclasses import dataclass

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
    raise NotImplementedError
