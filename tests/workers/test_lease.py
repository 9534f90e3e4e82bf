"""Heartbeats, reasons and the cutting into chunks."""

from __future__ import annotations

import errno
import threading
from typing import Any

import pytest

from farm.domain.chunk import Failure, Lease, Reason, Work
from farm.domain.job import Phase
from farm.domain.order import Progress
from farm.domain.span import Span
from farm.errors import LeaseLost, Rejected, Transient
from farm.media.mux import OutputCheckFailed
from workers.finalize import delivery_uri
from workers.heartbeat import Heartbeat
from workers.plan import MOST_CHUNK_FRAMES, spans
from workers.reasons import Failed, exit_failure, failure_of
from workers.work import Aborted
from workers.workshop import Workshop, interruptible

LEASE = Lease("chk", "job", "bat", "ten", Work.RENDER, Span(0, 8), 1, "token", 0.0, 60.0)


def test_progress_goes_out_with_the_beats_and_none_follows_the_end() -> None:
    beats: list[Progress] = []
    twice = threading.Event()

    def renew(lease: Lease, progress: Progress) -> Lease:
        beats.append(progress)
        if len(beats) == 2:
            twice.set()
        return lease

    with Heartbeat(LEASE, renew, 0.01, Progress(Phase.RENDERING)) as beat:
        beat.progress = Progress(Phase.RENDERING, 3, 8)
        assert twice.wait(120)
    count = len(beats)
    assert beats[-1].frames_done == 3
    assert not threading.Event().wait(0.05)
    assert len(beats) == count
    assert not beat.is_lost


@pytest.mark.parametrize("error", [LeaseLost("gone"), Transient("database_unavailable", "away"), OSError("odd")])
def test_any_failed_heartbeat_is_lost_authority(error: Exception) -> None:
    def renew(lease: Lease, progress: Progress) -> Lease:
        raise error

    with Heartbeat(LEASE, renew, 0.01, Progress(Phase.RENDERING)) as beat:
        assert beat.abort.wait(120)
        with pytest.raises(LeaseLost):
            beat.check()


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [
        (Rejected("no_face", "nobody"), Reason.BAD_INPUT, "no_face"),
        (Transient("uri_unavailable", "503"), Reason.TRANSIENT, "uri_unavailable"),
        (MemoryError(), Reason.OOM, "out_of_memory"),
        (OutOfMemoryError("CUDA"), Reason.OOM, "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), Reason.OOM, "out_of_memory"),
        (OutputCheckFailed("7 frames"), Reason.OUTPUT_CHECK_FAILED, "output_check_failed"),
        (OSError(errno.ENOSPC, "full"), Reason.TRANSIENT, "disk_full"),
        (Failed(Failure(Reason.STALLED, "stalled", "")), Reason.STALLED, "stalled"),
        (ValueError("?"), Reason.BUG, "bug"),
    ],
)
def test_reasons(error: Exception, reason: Reason, code: str) -> None:
    failure = failure_of(error)
    assert (failure.reason, failure.code) == (reason, code)


@pytest.mark.parametrize(
    ("code", "reason"), [(-9, Reason.WORKER_LOST), (-15, Reason.WORKER_LOST), (-11, Reason.BUG), (1, Reason.BUG)]
)
def test_ends_of_the_engine(code: int, reason: Reason) -> None:
    assert exit_failure(code, "").reason is reason


def shop(**values: Any) -> Workshop:
    return Workshop(None, None, None, None, **values)  # type: ignore[arg-type]


def test_chunks_are_of_the_fixed_length_or_of_the_aimed_work_in_whole_batches() -> None:
    assert spans(100, 8, shop(chunk_frames=50), 3.0) == (Span(0, 50), Span(50, 100))
    assert spans(100, 8, shop(chunk_s=10), 4.1) == (Span(0, 48), Span(48, 96), Span(96, 100))
    assert spans(10, 8, shop(chunk_s=10), 0.01) == (Span(0, 8), Span(8, 10))
    assert len(spans(10**5, 8, shop(chunk_s=10**6), 100.0)[0]) == MOST_CHUNK_FRAMES


def test_a_transfer_is_left_behind_when_the_work_is_called_off() -> None:
    abort, release = threading.Event(), threading.Event()
    assert interruptible(lambda: 7, abort) == 7
    with pytest.raises(Transient):
        interruptible(lambda: _raise(Transient("storage_down", "")), abort)
    abort.set()
    with pytest.raises(Aborted):
        interruptible(release.wait, abort)
    release.set()


def _raise(error: Exception) -> None:
    raise error


def test_a_destination_is_a_key_or_a_folder() -> None:
    assert delivery_uri("s3://out/a.mp4", "one", "mp4") == "s3://out/a.mp4"
    assert delivery_uri("s3://out/x/", "one", "mp4") == "s3://out/x/one.mp4"
    assert delivery_uri("s3://out/x/", "ep 1/ü", "mp4") == "s3://out/x/ep 1/ü.mp4"
    assert delivery_uri("s3://out/x/", "../a\\b//", "mp4") == "s3://out/x/_/a_b/_/_.mp4"
