"""How many wake-ups the waiting work needs. The backlog stays in Postgres: a message only says that there is work."""

from __future__ import annotations

from dataclasses import dataclass

from farm.db.session import Session


@dataclass(frozen=True)
class Wakeup:
    """At least `count` messages should be pending on `queue` (`farm.queue.send_work` tops up to it)."""

    queue: str
    count: int


def release(session: Session, buffer: int = 2) -> list[Wakeup]:
    """Wake-ups for queues with claimable chunks: free slots of live workers and a small buffer, not the backlog."""
    raise NotImplementedError
