"""A lease kept alive while its work is done. A heartbeat that fails for any reason means that the authority is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from farm import log
from farm.domain.chunk import Lease
from farm.domain.order import Progress
from farm.errors import LeaseLost

logger = log.get(__name__)


class Heartbeat:
    """A thread that renews `lease` every `every_s` seconds with the newest progress; a context manager.

    abort: set when the lease is lost, and by whoever else wants the work to stop. Leaving the `with` ends the beats,
    so that none comes after the settling write.
    """

    def __init__(
        self, lease: Lease, renew: Callable[[Lease, Progress], Lease], every_s: float, progress: Progress
    ) -> None:
        self.lease = lease
        self.progress = progress
        self.abort = threading.Event()
        self.is_lost = False
        self.renewed_at = time.monotonic()
        self._renew = renew
        self._every_s = every_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def left_s(self) -> float:
        """Seconds until the lease may have run out, by this machine's own clock."""
        return self.lease.lease_s - (time.monotonic() - self.renewed_at)

    def check(self) -> None:
        """Raises LeaseLost once the lease is known to be lost."""
        if self.is_lost:
            raise LeaseLost

    def _run(self) -> None:
        while not self._done.wait(self._every_s):
            asked_at = time.monotonic()
            try:
                self.lease = self._renew(self.lease, self.progress)
                self.renewed_at = asked_at
            except LeaseLost:
                logger.info("lease lost")
                self._lose()
                return
            except Exception as error:
                logger.warning("heartbeat failed: the lease counts as lost", error=str(error))
                self._lose()
                return

    def _lose(self) -> None:
        self.is_lost = True
        self.abort.set()
