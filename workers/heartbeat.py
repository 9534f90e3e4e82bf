"""A lease kept alive while its work is done, and the moment when its authority is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from farm import log
from farm.domain.chunk import Lease
from farm.domain.order import Progress
from farm.errors import LeaseLost

logger = log.get(__name__)

LOOK_S: Final = 1.0
"""Between beats, how often the worker looks whether its chunk is still wanted: pause and cancel act within two."""
MARGIN: Final = 0.1
"""Share of a lease, at most `MOST_MARGIN_S`, by which its holder stops before it may have run out."""
MOST_MARGIN_S: Final = 2.0
LAST_BEAT_S: Final = 2.0
"""How long the end of the work waits for a beat that is under way. One that comes later finds no lease: harmless."""


def clock() -> float:
    """Seconds on a clock of this machine that nobody sets, and that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Heartbeat:
    """Renews `lease` every `every_s` seconds with the newest progress; a context manager.

    asked_at: `clock()` before the claim was asked for. A beat that fails is repeated while the lease lasts: whatever
    the reason, authority ends when the lease may have run out (less a margin), counted by `clock` from before the last
    request that succeeded, so that neither a wrong wall clock nor a call that hangs can stretch it.
    is_wanted: a cheap look between the beats; False brings the next beat forward, and that one ends the lease properly.
    abort: set when the lease is lost, and by whoever else wants the work to stop. Leaving the `with` ends the beats.
    """

    def __init__(
        self,
        lease: Lease,
        renew: Callable[[Lease, Progress], Lease],
        every_s: float,
        progress: Progress,
        *,
        asked_at: float,
        is_wanted: Callable[[Lease], bool] = lambda lease: True,
    ) -> None:
        self.lease = lease
        self.progress = progress
        self.abort = threading.Event()
        self.is_lost = False
        self._renewed_at = asked_at
        self._renew = renew
        self._is_wanted = is_wanted
        self._every_s = every_s
        self._done = threading.Event()
        self._beats = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._guard = threading.Thread(target=self._watch_the_clock, name="lease clock", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._beats.start()
        self._guard.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._guard.join()
        self._beats.join(LAST_BEAT_S)

    @property
    def left_s(self) -> float:
        """Seconds of authority that are left, by this machine's own clock."""
        lasts_s = self.lease.lease_s - min(MARGIN * self.lease.lease_s, MOST_MARGIN_S)
        return lasts_s - (clock() - self._renewed_at)

    def check(self) -> None:
        """Raises LeaseLost once the lease is lost."""
        if self.is_lost:
            raise LeaseLost

    def _run(self) -> None:
        beat_at = clock() + self._every_s
        while not self._done.wait(min(LOOK_S, self._every_s)):
            asked_at = clock()
            try:
                if asked_at < beat_at and self._is_wanted(self.lease):
                    continue
                self.lease = self._renew(self.lease, self.progress)
                self._renewed_at = asked_at
                beat_at = asked_at + self._every_s
            except LeaseLost:
                self._lose("it was ended")
                return
            except Exception as error:
                beat_at = asked_at
                logger.warning("heartbeat failed, trying again", left_s=round(self.left_s, 1), error=str(error))

    def _watch_the_clock(self) -> None:
        # In a thread of its own: a beat may hang in a network that is gone.
        while (left_s := self.left_s) > 0:
            if self._done.wait(left_s):
                return
        self._lose("it may have run out, and no beat got through")

    def _lose(self, why: str) -> None:
        if self._done.is_set() or self.is_lost:
            return
        logger.info("lease lost", why=why)
        self.is_lost = True
        self.abort.set()
