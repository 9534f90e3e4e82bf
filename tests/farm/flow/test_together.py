"""Segments that settle in one round trip, alone or several at once: each counts or is lost for itself."""

from __future__ import annotations

import pytest

from farm.db.session import run
from farm.domain.chunk import Lease, Reason, Work
from farm.domain.job import JobStatus
from farm.errors import LeaseLost, Transient
from farm.flow import settle
from tests.small_farm import Fleet, output, segment


def renders(fleet: Fleet, count: int, worker: str = "w1") -> list[Lease]:
    return [fleet.lease(Work.RENDER, worker) for _ in range(count)]


def many(fleet: Fleet, leases: list[Lease]) -> list[JobStatus | LeaseLost]:
    done = [(lease, output() if lease.work is Work.FINALIZE else segment(lease)) for lease in leases]
    return settle.succeed_many(fleet.database, done)


def test_several_settle_at_once_with_their_jobs_last_one(fleet: Fleet) -> None:
    batch = fleet.submit(2)
    for lease in [fleet.lease(Work.PLAN), fleet.lease(Work.PLAN)]:
        fleet.settle(lease)
    leases = renders(fleet, 6)
    assert len({lease.job_id for lease in leases}) == 2
    assert many(fleet, leases[::-1]).count(JobStatus.FINALIZING) == 2
    assert all(isinstance(answer, LeaseLost) for answer in many(fleet, leases)), "a second time"
    assert many(fleet, [fleet.lease(Work.FINALIZE), fleet.lease(Work.FINALIZE)]) == [JobStatus.SUCCEEDED] * 2
    assert fleet.batch(batch.id).counts.succeeded == 2
    fleet.audit()


def test_one_lost_lease_costs_the_others_nothing(fleet: Fleet) -> None:
    fleet.submit()
    fleet.plan()
    first, second, third = renders(fleet, 3)
    fleet.fail(second, Reason.TRANSIENT)
    answers = many(fleet, [first, second, third])
    assert [isinstance(answer, LeaseLost) for answer in answers] == [False, True, False]
    assert fleet.job(first.job_id).chunks_done == 2
    fleet.audit()


def test_what_others_failed_counts_against_them_all_the_same(fleet: Fleet) -> None:
    """A chunk that somebody failed, and a worker on trial, take the way that looks at workers."""
    fleet.submit()
    fleet.plan()
    lease = fleet.lease(Work.RENDER, "w1")
    fleet.fail(lease, Reason.BUG)
    with fleet.database.transaction() as session:
        run(session, "update chunks set available_at = now()", {})
    again = fleet.lease(Work.RENDER, "w2")
    assert again.chunk_id == lease.chunk_id
    seen: list[str] = []
    proved = settle.quarantine.proved
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settle.quarantine, "proved", lambda *rest: (seen.append(rest[1]), proved(*rest)))
        assert settle.succeed_alone(fleet.database, again, segment(again)) is JobStatus.RUNNING
    assert seen == ["w2"]
    fleet.audit()


def test_a_stopped_job_is_told(fleet: Fleet) -> None:
    batch = fleet.submit()
    fleet.plan()
    lease = fleet.lease(Work.RENDER)
    with fleet.database.transaction() as session:
        run(session, "update jobs set status = 'canceling'", {})
        run(session, "update batches set jobs_running = 1, jobs_queued = 0 where id = %(id)s", {"id": batch.id})
    with pytest.raises(LeaseLost):
        settle.succeed_alone(fleet.database, lease, segment(lease))
    assert fleet.job(lease.job_id).chunks_done == 0


def test_a_connection_that_dies_is_replaced(fleet: Fleet) -> None:
    kill = "select pg_terminate_backend(pg_backend_pid())"
    with pytest.raises(Transient, match="database_unavailable"):
        fleet.database.alone(kill, {})
    with pytest.raises(Transient, match="database_unavailable"), fleet.database.transaction() as session:
        run(session, kill, {})
    for _ in range(3):
        assert [tuple(row) for row in fleet.database.alone("select 1", {})] == [(1,)]
    with fleet.database.transaction() as session:
        assert run(session, "select %(n)s::int as n", {"n": 2})[0].n == 2
