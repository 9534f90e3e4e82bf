"""A worker that fails what others finish: kept from the chunk, counted, put in quarantine, tried again with one."""

from __future__ import annotations

import pytest

from farm.db import audit as audit_rows
from farm.db import workers as worker_rows
from farm.domain.chunk import Failure, Reason, Work
from farm.domain.job import JobStatus
from farm.domain.retry import LOST_CAP, RETRIES, GiveUp, RetryAfter, Try, forgive_s, next_try
from farm.domain.views import WorkerView
from farm.flow import workers
from farm.flow.workers import WorkerFacts
from tests.small_farm import Fleet

BUG = Failure(Reason.BUG, "broken", "as the test wants")


def tries(*workers_and_reasons: str) -> tuple[Try, ...]:
    return tuple(
        Try(Reason(one.partition(":")[2] or "bug"), one.partition(":")[0].rstrip("?"), "?" in one)
        for one in workers_and_reasons
    )


@pytest.mark.parametrize(
    ("failed", "others", "gives_up"),
    [
        (tries("a", "a", "a", "a"), False, True),
        (tries("a", "a", "a", "a"), True, False),
        (tries("a", "b", "c", "a"), True, False),
        (tries("a", "b", "c", "d"), True, True),
        (tries("a?", "b", "c", "d"), True, False),
        (tries("a?", "b", "c", "d"), False, True),
        (tries("a:oom", "a:oom", "a:oom", "a:oom"), False, True),
        (tries("a:oom", "a:oom", "a:oom", "a:oom"), True, False),
        (tries("a:oom", "a:oom", "b:oom", "b:oom", "c:oom", "d:oom"), True, True),
        (tries(*["a:worker_lost"] * LOST_CAP), True, False),
        (tries(*["a:worker_lost"] * (LOST_CAP + 1)), True, True),
        (tries(*["a"] * (LOST_CAP + 1)), True, False),
        (tries(*["a"] * (LOST_CAP + 2)), True, True),
    ],
)
def test_what_counts_against_a_job(failed: tuple[Try, ...], others: bool, gives_up: bool) -> None:
    failure = Failure(failed[-1].reason, "x", "y")
    assert isinstance(next_try(failure, failed, 0.0, others=others), GiveUp) == gives_up


def test_delays_and_forgiving_grow() -> None:
    delays = [next_try(BUG, tries(*["a"] * count), 1.0) for count in range(1, RETRIES)]
    assert delays == [RetryAfter(1.0), RetryAfter(2.0), RetryAfter(4.0)]
    assert [forgive_s(k) for k in (0, 1, 2, 40)] == [120.0, 240.0, 480.0, 14_400.0]


@pytest.fixture
def pair(fleet: Fleet) -> Fleet:
    """Two live workers, w1 and w2."""
    register(fleet, "w1", "w2")
    return fleet


def register(fleet: Fleet, *names: str) -> None:
    with fleet.database.transaction() as session:
        for name in names:
            workers.register(session, WorkerFacts(name, "host", "cpu", ["render"]))


def now(fleet: Fleet) -> None:
    fleet.run("update chunks set available_at = now() where available_at > now()")


def fail_and_finish(fleet: Fleet, bad: str, good: str) -> None:
    """The bad worker fails a plan chunk, the good one finishes it."""
    fleet.submit()
    fleet.fail(fleet.lease(Work.PLAN, bad), Reason.BUG)
    now(fleet)
    finish(fleet, good)


def finish(fleet: Fleet, worker: str) -> None:
    while order := fleet.claim(worker):
        fleet.settle(order.lease, chunk_frames=30)


def view(fleet: Fleet, worker: str) -> WorkerView:
    with fleet.database.transaction() as session:
        found = worker_rows.get(session, worker)
    assert found is not None
    return found


def test_a_failed_chunk_goes_to_another_worker_where_there_is_one(pair: Fleet) -> None:
    pair.submit()
    lease = pair.lease(Work.PLAN, "w1")
    pair.fail(lease, Reason.OUTPUT_CHECK_FAILED)
    now(pair)
    assert pair.claim("w1") is None
    pair.run("update workers set draining = true where id = 'w2'")
    assert pair.lease(Work.PLAN, "w1").chunk_id == lease.chunk_id, "nobody else could"
    pair.run("update workers set draining = false")


def test_a_worker_waits_for_another_only_so_long(pair: Fleet) -> None:
    pair.submit()
    pair.fail(pair.lease(Work.PLAN, "w1"), Reason.BUG)
    pair.run("update chunks set available_at = now() - interval '119 seconds'")
    assert pair.claim("w1") is None
    pair.run("update chunks set available_at = now() - interval '121 seconds'")
    assert pair.claim("w1") is not None


def test_a_bad_worker_cannot_fail_a_job_while_a_good_one_exists(pair: Fleet) -> None:
    batch = pair.submit()
    for _ in range(3 * RETRIES):
        pair.run("update chunks set available_at = now() - interval '3 minutes'")
        assert isinstance(pair.fail(pair.lease(Work.PLAN, "w1"), Reason.BUG), RetryAfter)
    now(pair)
    finish(pair, "w2")
    assert pair.batch(batch.id).counts.succeeded == 1
    # Without a good one it is the job that fails.
    pair.run("update workers set left_at = now() where id = 'w2'")
    batch = pair.submit()
    for _ in range(RETRIES):
        now(pair)
        pair.fail(pair.lease(Work.PLAN, "w1"), Reason.BUG)
    assert pair.jobs(batch.id)[0].status is JobStatus.FAILED
    pair.audit()


def test_a_worker_with_too_little_memory_cannot_fail_a_job_while_one_with_enough_exists(pair: Fleet) -> None:
    """The first time it tries itself with half the batch; the second time the chunk, and the half, go to another."""
    for count in range(3):
        assert view(pair, "w1").quarantined_until is None, count
        batch = pair.submit()
        pair.settle(pair.lease(Work.PLAN, "w1"), chunk_frames=30)
        pair.fail(pair.lease(Work.RENDER, "w1"), Reason.OOM, batch_frames=8)
        order = pair.claim("w1")
        assert order is not None
        assert order.batch_frames == 4
        pair.fail(order.lease, Reason.OOM, batch_frames=4)
        assert pair.claim("w1") is None
        order = pair.claim("w2")
        assert order is not None
        assert order.batch_frames == 2
        pair.settle(order.lease)
        finish(pair, "w2")
        assert pair.batch(batch.id).counts.succeeded == 1
    assert view(pair, "w1").quarantine_reason == "it failed 3 chunks within the hour that other workers then finished"
    pair.audit()


def test_quarantine_trial_and_return(pair: Fleet) -> None:
    for _ in range(2):
        fail_and_finish(pair, "w1", "w2")
        assert view(pair, "w1").quarantined_until is None
    fail_and_finish(pair, "w1", "w2")
    found = view(pair, "w1")
    assert found.quarantined_until is not None
    assert found.quarantine_reason == "it failed 3 chunks within the hour that other workers then finished"
    ((seconds,),) = pair.sql("select extract(epoch from quarantined_until - now()) from workers where id = 'w1'")
    assert 100 < float(str(seconds)) <= 120
    with pair.database.transaction() as session:
        entry = audit_rows.page(session, pair.tenant, shared=True, action="worker.quarantined").items[0]
    assert (entry.action, entry.subject, entry.actor.name) == ("worker.quarantined", "w1", "farm")
    pair.submit(3)
    assert pair.claim("w1") is None
    # Its time is over: one chunk at a time, and failing it renews the quarantine for longer.
    pair.run("update workers set quarantined_until = now()")
    lease = pair.lease(Work.PLAN, "w1")
    assert pair.claim("w1") is None
    pair.fail(lease, Reason.BUG)
    assert pair.claim("w1") is None
    ((seconds,),) = pair.sql("select extract(epoch from quarantined_until - now()) from workers where id = 'w1'")
    assert 200 < float(str(seconds)) <= 240
    # The next trial succeeds.
    pair.run("update workers set quarantined_until = now()")
    pair.settle(pair.lease(Work.PLAN, "w1"))
    assert view(pair, "w1").quarantined_until is None
    assert pair.claim("w1") is not None
    pair.audit()


def test_a_render_chunk_ends_a_trial_too(pair: Fleet) -> None:
    pair.submit()
    pair.plan()
    pair.run("update workers set quarantined_until = now(), quarantine_reason = 'x' where id = 'w2'")
    pair.settle(pair.lease(Work.RENDER, "w2"))
    assert view(pair, "w2").quarantined_until is None


def test_a_fault_that_all_meet_puts_nobody_in_quarantine(pair: Fleet) -> None:
    for _ in range(4):
        fail_and_finish(pair, "w1", "w2")
        fail_and_finish(pair, "w2", "w1")
    assert [view(pair, name).quarantined_until for name in ("w1", "w2")] == [None, None]


def test_resume_by_hand_forgives(pair: Fleet) -> None:
    for _ in range(3):
        fail_and_finish(pair, "w1", "w2")
    with pair.database.transaction() as session:
        workers.resume(session, "w1")
    assert view(pair, "w1").quarantined_until is None
    fail_and_finish(pair, "w1", "w2")
    assert view(pair, "w1").quarantined_until is None, "what was forgiven does not count again"


@pytest.mark.parametrize("reason", [Reason.WORKER_LOST, Reason.PREEMPTED, Reason.OOM])
def test_what_is_not_the_workers_doing_keeps_it_from_nothing(pair: Fleet, reason: Reason) -> None:
    pair.submit()
    lease = pair.lease(Work.PLAN, "w1")
    pair.fail(lease, reason)
    assert pair.lease(Work.PLAN, "w1").chunk_id == lease.chunk_id
