"""Tenants share by weight, caps hold, nobody starves, and warm workers keep warm: what a claim chooses."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from farm.domain.chunk import Work
from farm.flow import claim, keys, sweep, versions
from farm.flow.claim import Ask
from tests.farm.flow.hands import together
from tests.small_farm import Fleet


def tenant(fleet: Fleet, name: str, *, weight: float = 1.0, cap: int | None = None) -> Fleet:
    with fleet.database.transaction() as session:
        made = keys.ensure_tenant(session, name)
    fleet.run("update tenants set weight = :w, max_in_flight = :c where id = :id", w=weight, c=cap, id=made)
    return replace(fleet, tenant=made)


def handed_out(fleet: Fleet, count: int) -> Counter[str]:
    """By tenant, of the next `count` chunks."""
    return Counter(fleet.lease().tenant_id for _ in range(count))


def test_tenants_get_what_their_weights_say(fleet: Fleet) -> None:
    some = [tenant(fleet, f"t{weight}", weight=weight) for weight in (1, 2, 5)]
    for one in some:
        one.submit(60)
    had = handed_out(fleet, 80)
    assert [had[one.tenant] for one in some] == [pytest.approx(wanted, abs=1) for wanted in (10, 20, 50)]
    fleet.audit()


def test_cost_is_frames_not_chunks(fleet: Fleet) -> None:
    long, short = tenant(fleet, "long"), tenant(fleet, "short")
    long.submit()
    short.submit()
    for lease in [fleet.lease(Work.PLAN) for _ in range(2)]:
        frames = 400 if lease.tenant_id == long.tenant else 100
        fleet.settle(lease, frames=frames * 20, chunk_frames=frames)
    had = handed_out(fleet, 20)
    assert (had[long.tenant], had[short.tenant]) == (4, 16)


def test_idle_time_is_no_credit(fleet: Fleet) -> None:
    busy, late = tenant(fleet, "busy"), tenant(fleet, "late")
    late.submit()
    late.work_off()
    busy.submit(60)
    with fleet.database.transaction() as session:
        sweep.sweep(session)
    handed_out(fleet, 40)
    late.submit(20)
    had = handed_out(fleet, 10)
    assert abs(had[busy.tenant] - had[late.tenant]) <= 1


def test_a_cap_holds_and_is_no_credit_either(fleet: Fleet) -> None:
    capped, free = tenant(fleet, "capped", cap=2), tenant(fleet, "free")
    capped.submit(30)
    free.submit(60)
    leases = [fleet.lease() for _ in range(20)]
    had = Counter(lease.tenant_id for lease in leases)
    assert had[capped.tenant] == 2
    # Its cap is lifted: it does not catch up on what it could not take.
    fleet.run("update tenants set max_in_flight = null")
    had = handed_out(fleet, 10)
    assert had[capped.tenant] <= 6
    fleet.run("update tenants set max_in_flight = 0 where id = :id", id=free.tenant)
    assert fleet.lease().tenant_id == capped.tenant


def test_a_cap_holds_against_many_at_once(fleet: Fleet) -> None:
    capped = tenant(fleet, "capped", cap=3)
    capped.submit(40)

    def work(worker: str) -> None:
        for _ in range(12):
            order = fleet.claim(worker)
            ((held,),) = fleet.sql("select count(*) from chunks where status = 'leased'")
            assert isinstance(held, int)
            assert held <= 3
            if order is not None:
                fleet.settle(order.lease, chunk_frames=30)

    assert together(*[lambda k=k: work(f"w{k}") for k in range(6)]) == []
    fleet.audit()


def test_several_workers_are_answered_at_once(fleet: Fleet) -> None:
    one, other = tenant(fleet, "one"), tenant(fleet, "other", cap=1)
    one.submit(4)
    other.submit(4)
    asks = [Ask(f"w{k}", ("none", "render")) for k in range(7)]
    with fleet.database.transaction() as session:
        orders = claim.claim_many(session, asks, 60.0)
    tenants = [order.lease.tenant_id if order else None for order in orders]
    assert Counter(tenants) == {one.tenant: 4, other.tenant: 1, None: 2}
    assert len({order.lease.token for order in orders if order}) == 5
    fleet.audit()


@pytest.mark.parametrize("aged", [True, False])
def test_an_aged_chunk_of_low_priority_gets_through(fleet: Fleet, aged: bool) -> None:
    low = fleet.submit(priority=0)
    middle = fleet.submit(priority=10)
    for _ in range(40):
        fleet.submit(priority=90)
    if aged:
        fleet.run("update chunks set available_at = now() - interval '11 minutes' where priority < 90")
    batches = [fleet.lease().batch_id for _ in range(32)]
    assert (low.id in batches, middle.id in batches) == (aged, aged)


def test_a_warm_worker_keeps_its_version_within_bounds(fleet: Fleet) -> None:
    with fleet.database.transaction() as session:
        cold = versions.register(session, name="v2", bundle_key="b", bundle_sha256="e", manifest={"trained": True})
    first = fleet.submit(10)
    fleet.submit(30, model=cold.id)
    with fleet.database.transaction() as session:
        found = []
        for _ in range(16):
            order = claim.claim(session, "w1", ["render"], 60.0, cold.id)
            assert order is not None
            found.append(order.version_id)
    # The window holds the first job's ten chunks until they are gone: every eighth claim takes its head.
    assert found.count(cold.id) == 14
    assert [k for k, version in enumerate(found) if version != cold.id] == [7, 15]
    assert fleet.lease().batch_id == first.id, "a worker with nothing loaded takes the oldest"
    fleet.run("update chunks set priority = 90 where version_id = :v", v=fleet.version)
    order = fleet.claim()
    assert order is not None
    assert order.version_id == fleet.version, "warmth does not overtake priority"


def test_a_queue_is_a_class_of_devices(fleet: Fleet) -> None:
    with fleet.database.transaction() as session:
        large = versions.register(
            session, name="large", bundle_key="b", bundle_sha256="e", manifest={"trained": True, "queue": "large"}
        )
    batch = fleet.submit(model=large.id)
    (job,) = fleet.jobs(batch.id)
    assert job.waiting_reason == "no live worker listens to queue 'large'"
    assert fleet.claim() is None
    for _ in range(5):
        order = fleet.claim(queues=("render", "large"))
        assert order is not None
        fleet.settle(order.lease)
    assert fleet.batch(batch.id).counts.succeeded == 1
