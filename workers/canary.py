"""A process whose consumer has gone deaf ends itself, and whoever keeps it running starts it again.

Celery on Redis has lost its consumer after reconnects time and again (celery #8091, kombu #2007, celery #10205): the
process lives, the broker answers, and no message is ever taken. The backlog itself is the canary: a process that has
nothing to do takes a waiting message within milliseconds, so one that waits on and on was not asked for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from farm import log
from farm.errors import Transient

logger = log.get(__name__)

LOOKS: Final = 5
"""Looks in the time of one patience."""


class Canary:
    """Calls `end` once messages have waited for `patience_s` on the queues of a process that was idle all that time.

    waiting: messages that nobody has taken, raises Transient when the broker does not answer (then nobody is blamed).
    is_busy: a task runs, so that no message is due. expects_messages: they come all the time (ticks), so that silence
    alone is a sign too. `heard` is to be called at each message.
    """

    def __init__(
        self,
        waiting: Callable[[], int],
        is_busy: Callable[[], bool],
        patience_s: float,
        end: Callable[[], None],
        *,
        expects_messages: bool = False,
    ) -> None:
        self._waiting, self._is_busy, self._patience_s, self._end = waiting, is_busy, patience_s, end
        self._expects_messages = expects_messages
        self._well_at = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="canary", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def heard(self) -> None:
        """A message was taken: all is well."""
        self._well_at = time.monotonic()

    def _run(self) -> None:
        self._well_at = time.monotonic()
        while not self._stopped.wait(self._patience_s / LOOKS):
            if self._is_well():
                self._well_at = time.monotonic()
            elif time.monotonic() - self._well_at > self._patience_s and not self._is_busy():
                logger.error("messages wait, the broker answers, and this process takes none: it ends itself")
                self._end()
                return

    def _is_well(self) -> bool:
        if self._is_busy():
            return True
        try:
            waiting = self._waiting()
        except Transient:
            return True
        return waiting == 0 and not self._expects_messages
