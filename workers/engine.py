"""The engine, parent side: a spawned child that does one work at a time, watched and killed when it must be.

A thread cannot be killed and a fork cannot use CUDA, so the device lives in a child process of its own. The parent
holds no tensors. Messages over the pipe, child to parent: ("ready", what the device is), ("report", Progress or
Preview), ("done", result), ("error", Rejected or Transient), ("failed", Failure), ("aborted", None). Parent to child:
("work", work), ("abort", None).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from farm import machine, trace
from farm.domain.chunk import Failure, Reason
from farm.domain.order import Progress
from workers import child
from workers.reasons import Failed, exit_failure
from workers.work import Aborted, Preview

POLL_S = 0.1


@dataclass(frozen=True)
class Limits:
    """When the child is killed. stall_s: longest silence; memory_bytes: resident memory of the child; start_s: time to
    start and import; obey_s: time to stop after an abort."""

    stall_s: float = 300.0
    memory_bytes: int | None = None
    start_s: float = 180.0
    obey_s: float = 5.0


class Engine:
    """One child at a time; started at the first work, and again after it was killed or died."""

    def __init__(self, studio: child.Studio, limits: Limits | None = None) -> None:
        self._studio = studio
        self._limits = limits or Limits()
        self._process: SpawnProcess | None = None
        self.info: dict[str, Any] = {}
        self._pipe: Connection | None = None
        self._is_idle = True
        self._memory_kills = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.is_alive() else None

    def start(self, abort: threading.Event | None = None) -> dict[str, Any]:
        """Start the child now rather than at the first work; what its device is. Raises Failed, Aborted."""
        self._ready(abort or threading.Event())
        return self.info

    def run(
        self,
        work: object,
        *,
        deadline_s: float,
        on_report: Callable[[Progress | Preview], None] = lambda report: None,
        abort: threading.Event | None = None,
    ) -> Any:
        """Have the child do `work`; its answer.

        Raises Rejected and Transient as the child raised them, Failed for every other bad end, Aborted after `abort`
        was set. After a kill the next call starts a fresh child.
        """
        abort = abort or threading.Event()
        pipe = self._ready(abort)
        try:
            pipe.send(("work", work))
            with trace.span("stages") as span:
                done = self._watch(pipe, deadline_s, on_report, abort)
                if span is not None:
                    seconds = getattr(done, "seconds", {})
                    span.set_attributes({f"seconds.{stage}": value for stage, value in seconds.items()})
                return done
        except (EOFError, OSError):
            raise Failed(self._died()) from None
        except (Failed, Aborted):
            raise
        except BaseException:
            # on_report raised, or an answer could not be read: the child's state is unknown unless it answered.
            if not self._is_idle:
                self.kill()
            raise

    def _watch(
        self,
        pipe: Connection,
        deadline_s: float,
        on_report: Callable[[Progress | Preview], None],
        abort: threading.Event,
    ) -> Any:
        self._is_idle = False
        started = heard = time.monotonic()
        aborted_at: float | None = None
        while True:
            if pipe.poll(POLL_S):
                kind, value = pipe.recv()
                heard = time.monotonic()
                if kind != "report":
                    self._is_idle = True
                    return self._answer(kind, value)
                if aborted_at is None:
                    on_report(value)
            now = time.monotonic()
            if aborted_at is None and abort.is_set():
                aborted_at = now
                pipe.send(("abort", None))
            if aborted_at is not None and now - aborted_at > self._limits.obey_s:
                self.kill()
                raise Aborted("the engine did not stop in time and was killed")
            self._enforce(now - started, deadline_s, now - heard)

    def _answer(self, kind: str, value: Any) -> Any:
        if kind == "done":
            return value
        if kind == "error":
            raise value
        if kind == "aborted":
            raise Aborted("the engine stopped")
        raise Failed(value)

    def _enforce(self, ran_s: float, deadline_s: float, silent_s: float) -> None:
        memory = resident_bytes(self.pid)
        limit = self._limits.memory_bytes
        if limit is not None and memory > limit:
            self.kill()
            detail = f"the engine held {memory} bytes of memory; its limit is {limit}"
            raise Failed(Failure(Reason.OOM, "memory_limit", detail))
        if ran_s > deadline_s:
            self.kill()
            raise Failed(Failure(Reason.TIMEOUT, "deadline", f"not done after {deadline_s:g} s"))
        if silent_s > self._limits.stall_s:
            self.kill()
            raise Failed(Failure(Reason.STALLED, "stalled", f"no progress for {self._limits.stall_s:g} s"))

    def _ready(self, abort: threading.Event) -> Connection:
        self._memory_kills = machine.memory_kills()
        if self._pipe is not None and self._process is not None and self._process.is_alive():
            return self._pipe
        self.kill()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=True)
        process = context.Process(target=child.main, args=(theirs, self._studio), name="engine", daemon=True)
        process.start()
        theirs.close()
        self._process, self._pipe, self._is_idle = process, ours, True
        started = time.monotonic()
        try:
            while not ours.poll(POLL_S):
                if abort.is_set():
                    raise Aborted("the engine was starting")
                if time.monotonic() - started > self._limits.start_s:
                    self.kill()
                    detail = f"the engine did not start in {self._limits.start_s:g} s"
                    raise Failed(Failure(Reason.STALLED, "engine_start", detail))
            kind, value = ours.recv()
        except (EOFError, OSError):
            raise Failed(self._died()) from None
        if kind != "ready":
            self.kill()
            raise Failed(value)
        self.info = value
        return ours

    def _died(self) -> Failure:
        process = self._process
        if process is not None:
            process.join(5.0)
        code = process.exitcode if process is not None else None
        self.kill()
        return exit_failure(code, "", for_memory=machine.memory_kills() > self._memory_kills)

    def kill(self) -> None:
        """End the child and whatever it started, at once."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if process is not None:
            # The child leads its own process group, so that what it started dies with it.
            if process.is_alive() and process.pid is not None:
                with suppress(ProcessLookupError, PermissionError):
                    if os.getpgid(process.pid) == process.pid:
                        os.killpg(process.pid, signal.SIGKILL)
                process.kill()
            process.join(10.0)
            if not process.is_alive():
                process.close()
        if pipe is not None:
            pipe.close()

    close = kill


def resident_bytes(pid: int | None) -> int:
    """Resident memory of a process, 0 where the system does not say (not Linux, or the process is gone)."""
    if pid is None:
        return 0
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
