"""Heartbeats, reasons and the cutting into chunks."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from farm.db.session import Database
from farm.domain.chunk import Failure, Lease, Reason, Work
from farm.domain.job import Phase
from farm.domain.order import Progress
from farm.domain.span import Span
from farm.errors import LeaseLost, Rejected, Transient
from farm.flow import workers
from farm.flow.workers import WorkerFacts
from farm.media.mux import OutputCheckFailed
from farm.storage.blobs import Missing
from workers.finalize import delivery_uri
from workers.heartbeat import Heartbeat, clock
from workers.patience import patiently
from workers.plan import MOST_CHUNK_FRAMES, spans
from workers.reasons import Failed, exit_failure, failure_of
from workers.work import Aborted
from workers.worker import KEPT_OUT_REST_S, Terms, Worker
from workers.workshop import Workshop, interruptible

LEASE = Lease("chk", "job", "bat", "ten", Work.RENDER, Span(0, 8), 1, "token", 0.0, 60.0)


def beating(renew: Callable[[Lease, Progress], Lease], lease_s: float = 60.0, **options: Any) -> Heartbeat:
    lease = replace(LEASE, lease_s=lease_s)
    return Heartbeat(lease, renew, 0.01, Progress(Phase.RENDERING), **{"asked_at": clock(), **options})


def test_progress_goes_out_with_the_beats_and_none_follows_the_end() -> None:
    beats: list[Progress] = []
    told = threading.Event()

    def renew(lease: Lease, progress: Progress) -> Lease:
        beats.append(progress)
        if progress.frames_done == 3:
            told.set()
        return lease

    with beating(renew) as beat:
        beat.progress = Progress(Phase.RENDERING, 3, 8)
        assert told.wait(120)
    count = len(beats)
    assert beats[-1].frames_done == 3
    assert not threading.Event().wait(0.05)
    assert len(beats) == count
    assert not beat.is_lost


@pytest.mark.parametrize("error", [Transient("database_unavailable", "away"), OSError("odd")])
def test_a_failed_heartbeat_is_repeated_while_the_lease_lasts(error: Exception) -> None:
    well_again = threading.Event()
    tries: list[float] = []

    def renew(lease: Lease, progress: Progress) -> Lease:
        tries.append(clock())
        if len(tries) < 4:
            raise error
        well_again.set()
        return lease

    with beating(renew) as beat:
        assert well_again.wait(120)
        beat.check()
    assert not beat.is_lost


def test_authority_ends_when_the_lease_may_have_run_out() -> None:
    asked: list[float] = []

    def renew(lease: Lease, progress: Progress) -> Lease:
        asked.append(clock())
        if len(asked) > 3:
            raise Transient("database_unavailable", "away")
        return lease

    with beating(renew, lease_s=0.5) as beat:
        assert beat.abort.wait(120)
        ended = clock()
        with pytest.raises(LeaseLost):
            beat.check()
    # Counted from before the last request that succeeded, with a margin: never later than the database would say.
    assert ended - asked[2] >= 0.4
    assert beat.left_s <= 0


def test_a_beat_that_hangs_does_not_stretch_the_lease() -> None:
    release = threading.Event()

    def renew(lease: Lease, progress: Progress) -> Lease:
        release.wait()
        return lease

    with beating(renew, lease_s=0.3) as beat:
        assert beat.abort.wait(120)
        assert beat.is_lost
        release.set()


def test_a_claim_that_took_longer_than_its_lease_is_worth_nothing() -> None:
    with beating(lambda lease, progress: lease, asked_at=clock() - 60) as beat:
        assert beat.abort.wait(120)
        assert beat.is_lost


def test_an_ended_lease_is_lost_at_once() -> None:
    def renew(lease: Lease, progress: Progress) -> Lease:
        raise LeaseLost("gone")

    with beating(renew) as beat:
        assert beat.abort.wait(120)
        assert beat.left_s > 0


def test_a_chunk_that_nobody_wants_any_more_ends_before_its_next_beat() -> None:
    def renew(lease: Lease, progress: Progress) -> Lease:
        raise LeaseLost("canceled")

    looks = iter([True, True, False])
    beat = Heartbeat(
        LEASE, renew, 3600.0, Progress(Phase.RENDERING), asked_at=clock(), is_wanted=lambda lease: next(looks)
    )
    with beat:
        assert beat.abort.wait(120)


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


def test_the_store_is_asked_again_but_not_for_what_it_has_not() -> None:
    tries: list[int] = []

    def fails_twice() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise Transient("storage_unavailable", "503")
        return 7

    assert patiently(fails_twice) == 7
    with pytest.raises(Transient, match="storage_full"):
        patiently(lambda: _raise(Transient("storage_full", "")), patience_s=0.3)
    del tries[:]

    def missing() -> None:
        tries.append(1)
        raise Missing("jobs/x")

    with pytest.raises(Missing):
        patiently(missing)
    assert len(tries) == 1


def _raise(error: Exception) -> None:
    raise error


def test_a_destination_is_a_key_or_a_folder() -> None:
    assert delivery_uri("s3://out/a.mp4", "one", "mp4") == "s3://out/a.mp4"
    assert delivery_uri("s3://out/x/", "one", "mp4") == "s3://out/x/one.mp4"
    assert delivery_uri("s3://out/x/", "ep 1/ü", "mp4") == "s3://out/x/ep 1/ü.mp4"
    assert delivery_uri("s3://out/x/", "../a\\b//", "mp4") == "s3://out/x/_/a_b/_/_.mp4"


def test_a_worker_that_gets_nothing_holds_its_message(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is draining; an idle one gives it back at once and hears the next."""
    facts = WorkerFacts("w1", "here", "cpu", ["render"])
    worker = Worker(facts, database, shop(), Terms(["render"]), lambda queue, count: None)
    rests: list[float] = []
    monkeypatch.setattr(worker._stopping, "wait", rests.append)
    with database.transaction() as session:
        workers.register(session, facts)
    assert not worker.work()
    assert rests == []
    with database.transaction() as session:
        workers.drain(session, "w1")
    assert not worker.work()
    assert rests == [KEPT_OUT_REST_S]
