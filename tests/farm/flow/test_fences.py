"""Duplicated and late settles, and the look between two heartbeats."""

from __future__ import annotations

import pytest

from farm.domain.chunk import Lease, Reason, Work
from farm.domain.job import JobStatus, Phase
from farm.domain.order import Progress
from farm.errors import LeaseLost
from farm.flow import claim, control, settle, sweep
from tests.small_farm import Fleet


def wanted(fleet: Fleet, lease: Lease) -> bool:
    with fleet.database.transaction() as session:
        return claim.is_wanted(session, lease)


def settled(fleet: Fleet, lease: Lease) -> bool:
    with fleet.database.transaction() as session:
        return settle.is_settled(session, lease)


def test_a_repeated_success_is_known_and_changes_nothing(fleet: Fleet) -> None:
    batch = fleet.submit()
    fleet.plan()
    lease = fleet.lease(Work.RENDER)
    assert not settled(fleet, lease)
    fleet.settle(lease)
    before = fleet.jobs(batch.id)
    assert settled(fleet, lease)
    for _ in range(2):
        with pytest.raises(LeaseLost):
            fleet.settle(lease)
        with pytest.raises(LeaseLost):
            fleet.fail(lease, Reason.BUG)
    assert fleet.jobs(batch.id) == before
    fleet.audit()


def test_a_swept_lease_is_neither_wanted_nor_settled(fleet: Fleet) -> None:
    fleet.submit()
    fleet.plan()
    lease = fleet.lease(Work.RENDER)
    assert wanted(fleet, lease)
    fleet.run("update chunks set lease_expires_at = now() - interval '1 s' where id = :id", id=lease.chunk_id)
    assert wanted(fleet, lease)  # the token is the fence, not the clock
    with fleet.database.transaction() as session:
        assert sweep.sweep(session).leases_lost == 1
    assert not wanted(fleet, lease)
    with pytest.raises(LeaseLost):
        fleet.settle(lease)
    assert not settled(fleet, lease)
    fleet.work_off()
    fleet.audit()


@pytest.mark.parametrize("verb", [control.pause_batch, control.cancel_batch])
def test_what_was_paused_or_canceled_is_not_wanted(fleet: Fleet, verb: object) -> None:
    batch = fleet.submit()
    fleet.plan()
    lease = fleet.lease(Work.RENDER)
    with fleet.database.transaction() as session:
        verb(session, fleet.tenant, batch.id)  # type: ignore[operator]
    assert not wanted(fleet, lease)
    with pytest.raises(LeaseLost), fleet.database.transaction() as session:
        claim.heartbeat(session, lease, Progress(Phase.RENDERING))
    assert fleet.jobs(batch.id)[0].status in (JobStatus.PAUSED, JobStatus.CANCELED)
    fleet.audit()
