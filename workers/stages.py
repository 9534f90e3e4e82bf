"""An assembly line: stages in threads joined by short queues, so that memory is bounded."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

Stage: TypeAlias = tuple[str, Callable[[Iterator[Any]], Iterator[Any]]]
"""A name, and a generator function from what the stage before yields to what the stage after takes."""

POLL_S: Final = 0.1
NICER: Final = 2
"""By how much each stage is nicer than the one after it; threads that it starts are so too."""
_END: Final = object()


class _Stopped(BaseException):
    """Another stage failed, or the consumer went away: unwind quietly."""


class Line:
    """Run `stages` in order, each in its own thread; iterate to get what the last one yields.

    The first stage's iterator is empty. An exception in any stage stops all of them and is raised to the consumer.
    `seconds` is each stage's busy time, without waiting for its neighbours; `cpu_seconds` what its own thread computed
    (threads that it started, as codecs and torch do, are not in it).
    """

    def __init__(self, stages: Sequence[Stage], depth: int = 2) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        queues = [queue.Queue[Any](maxsize=depth) for _ in stages]
        for number, (name, generate) in enumerate(stages):
            source = queues[number - 1] if number else None
            thread = threading.Thread(
                target=self._work,
                args=(name, generate, source, queues[number], NICER * (len(stages) - 1 - number)),
                name=name,
                daemon=True,
            )
            self._threads.append(thread)
        self._last = queues[-1]

    def __iter__(self) -> Iterator[Any]:
        for thread in self._threads:
            thread.start()
        try:
            while (item := self._get(self._last)) is not _END:
                yield item
        except _Stopped:
            pass
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()
        if self._error is not None:
            raise self._error

    def _work(
        self,
        name: str,
        generate: Callable[[Iterator[Any]], Iterator[Any]],
        source: queue.Queue[Any] | None,
        sink: queue.Queue[Any],
        nicer: int,
    ) -> None:
        # What is nearest the end goes first where cores are short: it holds back all before it.
        if sys.platform == "linux":  # elsewhere threads have no priority of their own
            me = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, me, os.getpriority(os.PRIO_PROCESS, me) + nicer)
        waited = 0.0
        started = time.perf_counter()

        def inputs() -> Iterator[Any]:
            nonlocal waited
            while source is not None:
                at = time.perf_counter()
                item = self._get(source)
                waited += time.perf_counter() - at
                if item is _END:
                    return
                yield item

        outputs = generate(inputs())
        try:
            for item in outputs:
                at = time.perf_counter()
                self._put(sink, item)
                waited += time.perf_counter() - at
            self.seconds[name] = time.perf_counter() - started - waited
            self.cpu_seconds[name] = time.thread_time()
            self._put(sink, _END)
        except _Stopped:
            pass
        except BaseException as error:
            with self._lock:
                self._error = self._error or error
            self._stop.set()
        finally:
            close = getattr(outputs, "close", None)
            if close is not None:
                close()

    def _get(self, source: queue.Queue[Any]) -> Any:
        while True:
            try:
                return source.get(timeout=POLL_S)
            except queue.Empty:
                if self._stop.is_set():
                    raise _Stopped from None

    def _put(self, sink: queue.Queue[Any], item: Any) -> None:
        while not self._stop.is_set():
            try:
                sink.put(item, timeout=POLL_S)
                return
            except queue.Full:
                continue
        raise _Stopped
