"""Wake-ups after commits, sent by a thread of their own: a broker that is slow or down delays no request."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from farm.db.session import Database
from farm.errors import Transient
from farm.flow.release import release

log = structlog.get_logger("api")


class Waker:
    """Many calls of `wake` while a round runs become one more round. What is lost here the control worker's tick
    repairs."""

    def __init__(self, database: Database, send: Callable[[str, int], object]) -> None:
        self._database = database
        self._send = send
        self._asked = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="waker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._asked.set()

    def stop(self) -> None:
        self._ended = True
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            try:
                with self._database.transaction() as session:
                    wakeups = release(session)
                for wakeup in wakeups:
                    self._send(wakeup.queue, wakeup.count)
            except Transient as error:
                log.warning("no wake-ups sent", code=error.code, detail=error.detail)
            except Exception:
                log.exception("bug")
            if self._ended:
                return
