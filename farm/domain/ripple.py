"""How a change of one chunk shows in its job, and a change of jobs in their batch: pure decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from farm.domain.job import BatchStatus, JobStatus


class Bucket(StrEnum):
    """What a batch counts its jobs by."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


BUCKETS: Final[Mapping[JobStatus, Bucket]] = {
    JobStatus.VALIDATING: Bucket.QUEUED,
    JobStatus.QUEUED: Bucket.QUEUED,
    JobStatus.PAUSED: Bucket.QUEUED,
    JobStatus.RUNNING: Bucket.RUNNING,
    JobStatus.FINALIZING: Bucket.RUNNING,
    JobStatus.CANCELING: Bucket.RUNNING,
    JobStatus.SUCCEEDED: Bucket.SUCCEEDED,
    JobStatus.FAILED: Bucket.FAILED,
    JobStatus.EXPIRED: Bucket.FAILED,
    JobStatus.CANCELED: Bucket.CANCELED,
}

WORKING: Final = frozenset({JobStatus.VALIDATING, JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.FINALIZING})
"""Statuses in which a job's chunks may be claimed and their leases go on."""


@dataclass(frozen=True)
class JobFacts:
    """What decides the status of a job that goes on. started: a render chunk is leased or done."""

    planned: bool
    started: bool
    chunks_total: int
    chunks_done: int


def working_status(facts: JobFacts) -> JobStatus:
    """Where a job stands that is neither paused nor canceled nor ended (after resume, after retry, after a settle)."""
    if not facts.planned:
        return JobStatus.VALIDATING
    if facts.chunks_done == facts.chunks_total:
        return JobStatus.FINALIZING
    return JobStatus.RUNNING if facts.started else JobStatus.QUEUED


def batch_status(counts: Mapping[Bucket, int], *, paused: bool, cancel_asked: bool) -> BatchStatus:
    """A batch is over when no job is queued or running; a cancel too late to stop any job leaves it completed."""
    if counts[Bucket.QUEUED] + counts[Bucket.RUNNING] == 0:
        return BatchStatus.CANCELED if cancel_asked and counts[Bucket.CANCELED] else BatchStatus.COMPLETED
    if cancel_asked:
        return BatchStatus.CANCELING
    return BatchStatus.PAUSED if paused else BatchStatus.RUNNING
