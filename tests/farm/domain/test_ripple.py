"""What a change of chunks means for their job, and of jobs for their batch."""

from __future__ import annotations

import pytest

from farm.domain.job import BatchStatus, JobStatus, Phase
from farm.domain.outlook import Live, Wait, batch_progress, job_eta_s, phase, waiting_reason
from farm.domain.ripple import BUCKETS, Bucket, JobFacts, batch_status, working_status


def test_every_status_has_a_bucket() -> None:
    assert set(BUCKETS) == set(JobStatus)
    for status, bucket in BUCKETS.items():
        assert status.is_terminal == (bucket not in (Bucket.QUEUED, Bucket.RUNNING))


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        (JobFacts(False, False, 0, 0), JobStatus.VALIDATING),
        (JobFacts(True, False, 3, 0), JobStatus.QUEUED),
        (JobFacts(True, True, 3, 0), JobStatus.RUNNING),
        (JobFacts(True, True, 3, 2), JobStatus.RUNNING),
        (JobFacts(True, True, 3, 3), JobStatus.FINALIZING),
    ],
)
def test_working_status(facts: JobFacts, status: JobStatus) -> None:
    assert working_status(facts) is status


@pytest.mark.parametrize(
    ("queued", "running", "canceled", "paused", "asked", "status"),
    [
        (1, 0, 0, False, False, BatchStatus.RUNNING),
        (0, 1, 0, True, False, BatchStatus.PAUSED),
        (0, 1, 3, True, True, BatchStatus.CANCELING),
        (0, 0, 3, False, True, BatchStatus.CANCELED),
        (0, 0, 0, False, True, BatchStatus.COMPLETED),
        (0, 0, 3, False, False, BatchStatus.COMPLETED),
        (0, 0, 0, True, False, BatchStatus.COMPLETED),
    ],
)
def test_batch_status(queued: int, running: int, canceled: int, paused: bool, asked: bool, status: BatchStatus) -> None:
    counts = dict.fromkeys(Bucket, 0) | {Bucket.QUEUED: queued, Bucket.RUNNING: running, Bucket.CANCELED: canceled}
    assert batch_status(counts, paused=paused, cancel_asked=asked) is status


@pytest.mark.parametrize(
    ("status", "leased", "wait", "reason"),
    [
        (JobStatus.RUNNING, 1, Wait(0, "render"), None),
        (JobStatus.SUCCEEDED, 0, Wait(0, "render"), None),
        (JobStatus.PAUSED, 0, Wait(1, "render"), "the batch is paused"),
        (JobStatus.CANCELING, 0, Wait(1, "render"), "waiting for its last worker to stop"),
        (JobStatus.QUEUED, 0, Wait(0, "render"), "no live worker listens to queue 'render'"),
        (JobStatus.QUEUED, 0, Wait(1, "render", 7.6, "oom (cuda)"), "trying again in 8 s after oom (cuda)"),
        (JobStatus.QUEUED, 0, Wait(1, "render", ahead=12), "12 of your chunks are ahead of it"),
        (JobStatus.QUEUED, 0, Wait(1, "render", ahead=0, is_busy=True), "all workers are busy; next of yours"),
        (JobStatus.QUEUED, 0, Wait(1, "render", is_busy=True), "all workers are busy"),
        (JobStatus.QUEUED, 0, Wait(1, "render", ahead=3, cap=2), "your cap of 2 chunks in flight is reached"),
        (
            JobStatus.QUEUED,
            0,
            Wait(0, "render", stopped=2),
            "all live workers of queue 'render' are draining or in quarantine",
        ),
        (JobStatus.QUEUED, 0, Wait(1, "render", ahead=0), "next in line"),
        (JobStatus.QUEUED, 0, Wait(1, "render"), "waiting for a worker"),
    ],
)
def test_waiting_reason(status: JobStatus, leased: int, wait: Wait, reason: str | None) -> None:
    assert waiting_reason(status, leased, wait) == reason


def test_phase_is_what_the_worker_says_or_the_status_implies() -> None:
    assert phase(JobStatus.VALIDATING, Live()) is None
    assert phase(JobStatus.VALIDATING, Live(leased=1)) is Phase.PROBING
    assert phase(JobStatus.VALIDATING, Live(leased=1, phase=Phase.TRACKING)) is Phase.TRACKING
    assert phase(JobStatus.RUNNING, Live()) is Phase.RENDERING
    assert phase(JobStatus.FINALIZING, Live(leased=1, phase=Phase.UPLOADING)) is Phase.UPLOADING
    assert phase(JobStatus.SUCCEEDED, Live()) is None


def test_eta_and_progress() -> None:
    assert job_eta_s(JobStatus.RUNNING, 100, 20.0, 50.0, 0) == 5.0
    assert job_eta_s(JobStatus.QUEUED, 100, 0.0, 50.0, 400) == 10.0
    assert job_eta_s(JobStatus.QUEUED, 100, 0.0, 0.0, 0) is None
    assert job_eta_s(JobStatus.VALIDATING, 0, 0.0, 50.0, 0) is None
    assert batch_progress(50, 100, is_over=False) == 0.5
    assert batch_progress(100, 100, is_over=False) == 0.99
    assert batch_progress(0, 0, is_over=False) == 0.0
    assert batch_progress(3, 100, is_over=True) == 1.0
