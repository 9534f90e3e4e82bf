"""Workers of a fleet that render nothing: they ask, hold their lease for as long as the frames would take, and settle.

The claims and settles are the farm's own. Workers of one process ask through a few threads; those that ask or settle
while all threads are busy are answered together, as a host with many devices would do it.
"""

from __future__ import annotations

import heapq
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from farm.db.session import Database
from farm.domain.chunk import Lease, Work
from farm.domain.order import Blob, Order, Output, Segment
from farm.domain.placement import RENDER_QUEUE
from farm.errors import LeaseLost
from farm.flow.claim import Ask, claim_many
from farm.flow.settle import succeed_many

LEASE_S = 60.0
MOST_ASKS = 16
IDLE_S = 0.25
"""How long a worker waits that was given nothing, as if for the next wake-up."""
PARTS: Final = (0.25, 0.5, 1.0, 1.25, 2.0)
"""The time that devices of each kind take for a chunk, slow to fast one to eight; there are as many of each."""

# What a fleet does: warming up, then counted, first as fast as the farm can hand out and then at a steady pace.
RUSH, RUSH_COUNTED, PACE, PACE_COUNTED, STOP = range(5)
COUNTED: Final = (RUSH_COUNTED, PACE_COUNTED)


@dataclass
class Tally:
    """What a desk did while it was counted. Latencies in seconds, from the moment that a worker wanted it."""

    claims: list[float] = field(default_factory=list)
    settles: list[float] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    empty: int = 0
    farm_s: float = 0.0
    """Processor time of the farm's own code: the rest of a desk's is the simulation's."""

    def add(self, other: Tally) -> None:
        self.claims += other.claims
        self.settles += other.settles
        self.groups += other.groups
        self.empty += other.empty
        self.farm_s += other.farm_s


class Desk:
    """So many workers of mixed speed. phase, mean_s: shared values; what is done, and the mean time that a chunk of 200
    frames takes."""

    def __init__(self, database: Database, workers: Sequence[str], seed: int, phase: Any, mean_s: Any) -> None:
        dice = random.Random(seed)
        self._database, self._phase, self._mean_s = database, phase, mean_s
        self._frame_parts = {worker: PARTS[number % len(PARTS)] / 200 for number, worker in enumerate(workers)}
        self._loaded: dict[str, str | None] = dict.fromkeys(workers)
        self._asking: deque[tuple[float, str]] = deque()
        self._due: list[tuple[float, str, Order | None]] = []
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        for worker in workers:
            heapq.heappush(self._due, (self._begun + dice.random(), worker, None))
        self.tallies = {phase: Tally() for phase in COUNTED}
        self.errors: list[BaseException] = []

    def run(self, threads: int) -> None:
        """Until STOP, and then until nothing is held any more."""
        hands = [threading.Thread(target=self._work) for _ in range(threads)]
        for hand in hands:
            hand.start()
        for hand in hands:
            hand.join()
        if self.errors:
            raise self.errors[0]

    def _work(self) -> None:
        try:
            while not self.errors:
                phase = self._phase.value
                settles, asks = self._next(phase == STOP)
                if settles:
                    self._settle(settles, self.tallies.get(phase))
                elif asks:
                    self._claim(asks, self.tallies.get(phase))
                elif phase == STOP and not self._due:
                    return
                else:
                    time.sleep(0.002)
        except BaseException as error:
            self.errors.append(error)

    def _next(self, stopping: bool) -> tuple[list[tuple[float, str, Order]], list[tuple[float, str]]]:
        """Chunks that are due, or those who ask."""
        now = time.monotonic()
        with self._lock:
            settles: list[tuple[float, str, Order]] = []
            while self._due and len(settles) < MOST_ASKS and (stopping or self._due[0][0] <= now):
                due, worker, order = heapq.heappop(self._due)
                if order is not None:
                    settles.append((min(due, now), worker, order))
                elif not stopping:
                    self._asking.append((due, worker))
            if stopping:
                self._asking.clear()
            if settles:
                return settles, []
            return [], [self._asking.popleft() for _ in range(min(len(self._asking), MOST_ASKS))]

    def _claim(self, asks: list[tuple[float, str]], tally: Tally | None) -> None:
        wanted = [Ask(worker, (RENDER_QUEUE,), self._loaded[worker]) for _, worker in asks]
        started = time.thread_time()
        with self._database.transaction() as session:
            orders = claim_many(session, wanted, LEASE_S)
        spent = time.thread_time() - started
        now, mean_s = time.monotonic(), self._mean_s.value
        with self._lock:
            for (asked, worker), order in zip(asks, orders, strict=True):
                if order is None:
                    if tally is not None:
                        tally.empty += 1
                    heapq.heappush(self._due, (now if any(orders) else now + IDLE_S, worker, None))
                    continue
                self._loaded[worker] = order.version_id
                frames = len(order.lease.span)
                heapq.heappush(self._due, (now + frames * self._frame_parts[worker] * mean_s, worker, order))
                if tally is not None:
                    tally.claims.append(now - asked)
            if tally is not None:
                tally.groups.append(len(asks))
                tally.farm_s += spent

    def _settle(self, settles: list[tuple[float, str, Order]], tally: Tally | None) -> None:
        started = time.thread_time()
        answers = succeed_many(self._database, [(order.lease, result(order.lease)) for _, _, order in settles])
        spent = time.thread_time() - started
        lost = [answer for answer in answers if isinstance(answer, LeaseLost)]
        if lost:
            raise lost[0]
        now = time.monotonic()
        with self._lock:
            for due, worker, _ in settles:
                self._asking.append((now, worker))
                if tally is not None:
                    tally.settles.append(now - due)
            if tally is not None:
                tally.farm_s += spent


def result(lease: Lease) -> Segment | Output:
    if lease.work is Work.FINALIZE:
        return Output(Blob("o", 7, "cc"), "file:///o", 1, 1.0)
    seconds = {"decode": 1.0, "generate": 2.0, "encode": 1.0}
    return Segment(Blob(f"s/{lease.token}", 5, "bb"), lease.span, len(lease.span), seconds, {"sync": 0.25})
