"""Whatever happens in whatever order, the books are in order after each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from farm.domain.chunk import Lease, Reason
from farm.domain.job import Phase
from farm.domain.order import Progress
from farm.domain.retry import BLAMED
from farm.errors import LeaseLost, Rejected
from farm.flow import claim, control, settle, sweep, workers
from farm.flow.claim import Ask
from farm.flow.workers import WorkerFacts
from tests.small_farm import Fleet

WORKERS = ("w1", "w2", "w3")
VERBS = (control.cancel_batch, control.pause_batch, control.resume_batch, control.retry_failed)
_fleet: list[Fleet] = []


class AnyOrder(RuleBasedStateMachine):
    """Two batches, three workers, a cap of four chunks in flight."""

    @initialize()
    def begin(self) -> None:
        self.fleet = _fleet[0]
        # Earlier examples' rows go: each starts with an empty farm of its own.
        self.fleet.run("truncate batches, workers, shares cascade")
        self.fleet.run("update tenants set max_in_flight = 4")
        with self.fleet.database.transaction() as session:
            for name in WORKERS:
                workers.register(session, WorkerFacts(name, "host", "cpu", ["render"]))
        self.batches = [self.fleet.submit(2, priority=priority).id for priority in (10, 60)]
        self.leases: list[Lease] = []

    @rule(count=st.integers(1, 3))
    def claims(self, count: int) -> None:
        with self.fleet.database.transaction() as session:
            orders = claim.claim_many(session, [Ask(name, ("render",)) for name in WORKERS[:count]], 60.0)
        self.leases += [order.lease for order in orders if order is not None]

    @rule(which=st.integers(0, 100), again=st.booleans())
    def settles(self, which: int, again: bool) -> None:
        self._with(which, again, self.fleet.settle)

    @rule(which=st.integers(0, 100), again=st.booleans(), reason=st.sampled_from([*sorted(BLAMED), Reason.OOM]))
    def fails(self, which: int, again: bool, reason: Reason) -> None:
        self._with(which, again, lambda lease: self.fleet.fail(lease, reason))

    @rule(which=st.integers(0, 100))
    def beats(self, which: int) -> None:
        def beat(lease: Lease) -> None:
            with self.fleet.database.transaction() as session:
                claim.heartbeat(session, lease, Progress(Phase.RENDERING, 1, 10, 2.0))

        self._with(which, True, beat)

    @rule(which=st.integers(0, 100))
    def gives_back(self, which: int) -> None:
        def back(lease: Lease) -> None:
            with self.fleet.database.transaction() as session:
                settle.give_back(session, lease)

        self._with(which, False, back)

    @rule(lose=st.booleans())
    def time_passes(self, lose: bool) -> None:
        self.fleet.run("update chunks set available_at = now() where status = 'waiting'")
        if lose:
            self.fleet.run("update chunks set lease_expires_at = now() - interval '1 s' where status = 'leased'")
        with self.fleet.database.transaction() as session:
            sweep.sweep(session)

    @rule(which=st.integers(0, 1), verb=st.sampled_from(VERBS))
    def somebody_asks(self, which: int, verb: Callable[..., object]) -> None:
        with suppress(Rejected), self.fleet.database.transaction() as session:
            verb(session, self.fleet.tenant, self.batches[which])

    def _with(self, which: int, again: bool, act: Callable[[Lease], object]) -> None:
        if not self.leases:
            return
        at = which % len(self.leases)
        lease = self.leases[at] if again else self.leases.pop(at)
        with suppress(LeaseLost):
            act(lease)

    @invariant()
    def books_are_in_order(self) -> None:
        if hasattr(self, "fleet"):
            self.fleet.audit()


@pytest.fixture
def the_fleet(fleet: Fleet) -> Iterator[None]:
    _fleet.append(fleet)
    yield
    _fleet.clear()


@pytest.mark.usefixtures("the_fleet")
def test_books_are_in_order_after_every_step() -> None:
    run_state_machine_as_test(
        AnyOrder,
        settings=settings(
            max_examples=12,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
