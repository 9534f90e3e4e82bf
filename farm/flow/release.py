"""How many wake-ups the waiting work needs. The backlog stays in Postgres: a message only says that there is work."""

from __future__ import annotations

from dataclasses import dataclass

from farm.db import fleet, leases
from farm.db.session import Session
from farm.domain.placement import QUEUES


@dataclass(frozen=True)
class Wakeup:
    """At least `count` messages should be pending on `queue` (`farm.queue.send_work` tops up to it)."""

    queue: str
    count: int


def release(session: Session, buffer: int = 2) -> list[Wakeup]:
    """Wake-ups for queues with claimable chunks: free slots of live workers and a small buffer, not the backlog.

    Workers that are draining or in quarantine take messages too, and hold each for a while: so many more are wanted,
    or the others' would be eaten up, for minutes where both keep time.
    """
    serving, stopped = fleet.by_queue(session)
    leased = leases.leased_by_queue(session)
    wakeups = []
    for queue in leases.queues_in_use(session, QUEUES):
        slots = max(0, serving.get(queue, 0) - leased.get(queue, 0)) + buffer
        count = leases.count_claimable(session, queue, slots)
        if count:
            wakeups.append(Wakeup(queue, count + stopped.get(queue, 0)))
    return wakeups
