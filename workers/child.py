"""The engine, child side: reads works from the pipe, does one at a time, and goes when its parent goes."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

from farm.errors import Rejected, Transient
from workers.reasons import failure_of
from workers.work import Aborted, Perform

Studio: TypeAlias = Callable[[], Perform]
"""Builds, inside the child, what does the works; must be picklable (a module's function or a partial of one)."""


def main(pipe: Connection, studio: Studio) -> None:
    """The child process."""
    os.setsid()  # a group of its own: Ctrl-C in a terminal reaches the parent only, and a kill reaches everything below
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    lock = threading.Lock()

    def send(kind: str, value: Any) -> None:
        # A parent that is gone is noticed by the listening thread.
        with lock, suppress(OSError):
            pipe.send((kind, value))

    try:
        perform = studio()
    except BaseException as error:
        send("failed", failure_of(error))
        raise
    works: queue.SimpleQueue[Any] = queue.SimpleQueue()
    abort = threading.Event()
    threading.Thread(target=_listen, args=(pipe, works, abort), name="listen", daemon=True).start()

    def check() -> None:
        if abort.is_set():
            raise Aborted

    send("ready", getattr(perform, "info", {}))
    while True:
        work = works.get()
        try:
            answer = ("done", perform(work, lambda report: send("report", report), check))
        except Aborted:
            answer = ("aborted", None)
        except (Rejected, Transient) as error:
            answer = ("error", error)
        except Exception as error:
            answer = ("failed", failure_of(error))
        send(*answer)


def _listen(pipe: Connection, works: queue.SimpleQueue[Any], abort: threading.Event) -> None:
    while True:
        try:
            kind, value = pipe.recv()
        except (EOFError, OSError):
            os.killpg(os.getpgid(0), signal.SIGKILL)
            return
        if kind == "work":
            abort.clear()
            works.put(value)
        else:
            abort.set()
