"""The relay: takes due webhook messages, sends them, records what came of it. Any number may run side by side."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from farm import log, trace
from farm.db.session import Database
from farm.domain.limits import InputLimits
from farm.domain.webhook import Message, headers
from farm.errors import Transient
from farm.flow import notify
from farm.storage.post import Posted, post

logger = log.get(__name__)

FORGET_EVERY_S: Final = 600.0
AWAY_S: Final = 2.0
"""Pause while the database is away."""


class Relay:
    """A thread that looks for due messages and some that send them; `start`, `stop`.

    limits: where messages may go. lease_s: well above timeout_s, as a message whose result is not recorded by then is
    sent again.
    """

    def __init__(
        self,
        database: Database,
        limits: InputLimits,
        *,
        timeout_s: float = 15.0,
        lease_s: float = 60.0,
        poll_s: float = 0.5,
        senders: int = 16,
    ) -> None:
        self._database, self._limits = database, limits
        self._timeout_s, self._lease_s, self._poll_s = timeout_s, lease_s, poll_s
        self._stopping = threading.Event()
        self._senders = senders
        self._flying = 0
        self._count = threading.Lock()
        self._pool = ThreadPoolExecutor(senders, thread_name_prefix="webhook")
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._forgot_at = -FORGET_EVERY_S

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take nothing more; what is on its way is waited for, and ends within the time-out."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                pause = 0.0 if self._turn() else self._poll_s
            except Transient as error:
                logger.warning("no webhooks sent", error=str(error))
                pause = AWAY_S
            except Exception:
                logger.exception("bug")
                pause = AWAY_S
            self._stopping.wait(pause)

    def _turn(self) -> int:
        """Take as many messages as there are free senders; how many there were."""
        if time.monotonic() - self._forgot_at > FORGET_EVERY_S:
            self._forget()
        free = self._senders - self._flying
        if not free:
            return 0
        with self._database.transaction() as session:
            messages = notify.take(session, free, self._lease_s)
        for message in messages:
            with self._count:
                self._flying += 1
            self._pool.submit(self._see_through, message).add_done_callback(self._landed)
        return len(messages)

    def _landed(self, _done: Future[None]) -> None:
        with self._count:
            self._flying -= 1

    def _see_through(self, message: Message) -> None:
        if self._stopping.is_set():
            return  # its lease runs out, and another relay sends it
        with trace.span("webhook", parent=message.traceparent, delivery=message.id, attempt=message.number) as span:
            carried = {"traceparent": ours} if (ours := trace.traceparent()) else {}
            sent = {**headers(message), **carried}
            posted = post(message.url, message.body.encode(), sent, self._limits, self._timeout_s)
            if span is not None:
                span.set_attribute("http.response.status_code", posted.status or 0)
        try:
            self._record(message, posted)
        except Exception as error:
            # The message falls due again: it may arrive twice, with the same id.
            logger.warning("a webhook's result was not recorded", delivery=message.id, error=str(error))

    def _record(self, message: Message, posted: Posted) -> None:
        with self._database.transaction() as session:
            became = notify.record(
                session,
                message,
                status=posted.status,
                error=posted.error,
                seconds=posted.seconds,
                answer=posted.answer,
                retry_after_s=posted.retry_after_s,
                dice=random.random(),
            )
        logger.info(
            "webhook sent",
            delivery=message.id,
            endpoint=message.endpoint_id,
            attempt=message.number,
            status=posted.status,
            error=posted.error,
            seconds=round(posted.seconds, 3),
            became=became or "another relay's",
        )

    def _forget(self) -> None:
        self._forgot_at = time.monotonic()
        dropped = 1000
        while dropped >= 1000 and not self._stopping.is_set():
            with self._database.transaction() as session:
                dropped = notify.forget(session)
