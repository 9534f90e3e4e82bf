"""Many hands at once on real Postgres: no chunk is shared, no counter drifts, nobody waits for ever."""

from __future__ import annotations

import contextlib
import random
from collections import Counter

import pytest

from farm.domain.chunk import Lease, Reason, Work
from farm.domain.job import BatchStatus, Phase
from farm.domain.order import Progress
from farm.errors import LeaseLost, Rejected
from farm.flow import claim, control, idempotency, settle, sweep
from farm.flow.idempotency import Answer
from tests.farm.flow.hands import together
from tests.small_farm import Fleet


def test_concurrent_claimers_never_share_a_chunk(fleet: Fleet) -> None:
    fleet.submit(40)
    taken: list[str] = []

    def take(worker: str) -> None:
        while order := fleet.claim(worker):
            taken.append(order.lease.chunk_id)

    assert together(*[lambda k=k: take(f"w{k}") for k in range(6)]) == []
    assert len(taken) == 40
    assert max(Counter(taken).values()) == 1
    fleet.audit()


def test_concurrent_settles_of_one_job_insert_one_finalize(fleet: Fleet) -> None:
    fleet.submit()
    fleet.settle(fleet.lease(Work.PLAN), chunk_frames=5)
    leases = [fleet.lease(Work.RENDER) for _ in range(6)]
    # Each lease is settled by two: the second comes too late.
    raised = together(*[lambda lease=lease: fleet.settle(lease) for lease in leases * 2])
    assert [type(error) for error in raised] == [LeaseLost] * 6
    assert fleet.work_off() == 1
    fleet.audit()


def test_cancel_and_pause_against_claims_and_settles(fleet: Fleet) -> None:
    batch = fleet.submit(6)

    def work(worker: str) -> None:
        while order := fleet.claim(worker):
            try:
                with fleet.database.transaction() as session:
                    claim.heartbeat(session, order.lease, Progress(Phase.RENDERING, 1, 10, 3.0))
                fleet.settle(order.lease)
            except LeaseLost:
                continue

    def flip() -> None:
        for _ in range(4):
            with fleet.database.transaction() as session:
                control.pause_batch(session, fleet.tenant, batch.id)
            with fleet.database.transaction() as session:
                control.resume_batch(session, fleet.tenant, batch.id)

    def prioritise() -> None:
        for priority in range(8):
            with fleet.database.transaction() as session:
                control.set_batch_priority(session, fleet.tenant, batch.id, priority)

    raised = together(lambda: work("w1"), lambda: work("w2"), lambda: work("w3"), flip, prioritise)
    assert all(isinstance(error, Rejected) and error.code == "batch_ended" for error in raised)
    fleet.work_off()
    assert fleet.batch(batch.id).counts.succeeded == 6
    fleet.audit()
    other = fleet.submit(6)

    def cancel() -> None:
        with fleet.database.transaction() as session:
            control.cancel_batch(session, fleet.tenant, other.id)

    assert together(lambda: work("w1"), lambda: work("w2"), lambda: work("w3"), cancel) == []
    fleet.work_off()
    assert fleet.batch(other.id).status in (BatchStatus.CANCELED, BatchStatus.COMPLETED)
    fleet.audit()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_counters_equal_row_sums_after_any_verbs(fleet: Fleet, seed: int) -> None:
    dice = random.Random(seed)
    batches = [fleet.submit(dice.randint(1, 3), priority=dice.randint(0, 100)).id for _ in range(3)]
    leases: list[Lease] = []

    def one() -> None:
        batch_id = dice.choice(batches)
        verb = dice.choice(
            ["claim"] * 6 + ["settle"] * 5 + ["fail", "back", "beat", "lose", "stop", "hold", "go", "again"]
        )
        if verb == "claim":
            order = fleet.claim()
            leases.extend([order.lease] if order else [])
            return
        if verb in ("settle", "fail", "back", "beat", "lose"):
            if not leases:
                return
            lease = leases.pop(dice.randrange(len(leases)))
            if dice.random() < 0.2:
                leases.append(lease)  # comes again, late
            if verb == "settle":
                fleet.settle(lease)
            elif verb == "fail":
                fleet.fail(lease, dice.choice([r for r in Reason if r is not Reason.CANCELED]))
            elif verb == "lose":
                fleet.run(
                    "update chunks set lease_expires_at = now() - interval '1 s' where id = :id and status = 'leased'",
                    id=lease.chunk_id,
                )
                with fleet.database.transaction() as session:
                    sweep.sweep(session)
            else:
                with fleet.database.transaction() as session:
                    if verb == "back":
                        settle.give_back(session, lease)
                    else:
                        leases.append(claim.heartbeat(session, lease, Progress(Phase.RENDERING, 3, 10, 2.0)))
            return
        rare = dice.random() < 0.3
        with fleet.database.transaction() as session:
            if verb == "stop" and rare:
                control.cancel_batch(session, fleet.tenant, batch_id)
            elif verb == "hold" and rare:
                control.pause_batch(session, fleet.tenant, batch_id)
            elif verb == "go":
                control.resume_batch(session, fleet.tenant, batch_id)
            elif verb == "again":
                control.retry_failed(session, fleet.tenant, batch_id)

    for _ in range(120):
        with contextlib.suppress(LeaseLost, Rejected):
            one()
        fleet.run("update chunks set available_at = now() where available_at > now()")
        fleet.audit()


def test_idempotency_key_answers_once(fleet: Fleet) -> None:
    request = idempotency.request_sha256("post", "/v1/batches", b"{}")
    with fleet.database.transaction() as session:
        assert idempotency.begin(session, fleet.tenant, "k", request) is None
        with (
            pytest.raises(Rejected, match="idempotency_in_flight"),
            fleet.database.transaction() as other,
        ):
            idempotency.begin(other, fleet.tenant, "k", request)
        idempotency.finish(session, fleet.tenant, "k", request, Answer(202, {"id": "bat_1"}, {"Location": "/x"}))
    with fleet.database.transaction() as session:
        assert idempotency.begin(session, fleet.tenant, "k", request) == Answer(
            202, {"id": "bat_1"}, {"Location": "/x"}
        )
        other_request = idempotency.request_sha256("post", "/v1/batches", b"{1}")
        with pytest.raises(Rejected, match="idempotency_mismatch"):
            idempotency.begin(session, fleet.tenant, "k", other_request)


def test_idempotency_key_races(fleet: Fleet) -> None:
    """Of several requests at once one creates; nothing is left in flight by one that fails."""
    created: list[str] = []

    def post() -> None:
        with fleet.database.transaction() as session:
            answer = idempotency.begin(session, fleet.tenant, "k", "same")
            if answer is None:
                created.append("x")
                idempotency.finish(session, fleet.tenant, "k", "same", Answer(202, {}))

    def crash() -> None:
        with fleet.database.transaction() as session:
            idempotency.begin(session, fleet.tenant, "k", "same")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        crash()
    raised = together(*[post] * 6)
    assert all(isinstance(error, Rejected) and error.code == "idempotency_in_flight" for error in raised)
    assert len(created) == 1
