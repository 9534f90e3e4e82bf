"""Live progress of a batch or a job: one bar a running job, from the farm's events."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, TaskID, TextColumn

from farm.cli.terminal import terminal
from farm.client import Batch, Client, Event, Job

MOST_BARS = 12


def batch(client: Client, batch_id: str, timeout_s: float | None, lines: bool = False) -> Batch:
    """Show the batch until it is over, and return it. Raises TimeoutError; the batch goes on then.

    lines: with --json, an event a line instead of nothing.
    """
    _show(timed(lambda: client.watch(batch_id), timeout_s, batch_id), lines)
    return client.batch(batch_id)


def job(client: Client, job_id: str, timeout_s: float | None, lines: bool = False) -> Job:
    _show(timed(lambda: client.watch_job(job_id), timeout_s, job_id), lines)
    return client.job(job_id)


@dataclass(frozen=True)
class _Over:
    error: BaseException | None


def timed(watch: Callable[[], Iterator[Event]], timeout_s: float | None, what: str) -> Iterator[Event]:
    """Events from a thread of their own, so that a silent stream neither outlasts the time-out nor holds up Ctrl-C."""
    events: queue.Queue[Event | _Over] = queue.Queue()

    def follow() -> None:
        try:
            for event in watch():
                events.put(event)
            events.put(_Over(None))
        except BaseException as error:
            events.put(_Over(error))

    threading.Thread(target=follow, name="watch", daemon=True).start()
    until = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        try:
            # Short waits: an endless get() does not notice signals everywhere.
            left = 0.5 if until is None else min(0.5, max(0.0, until - time.monotonic()))
            event = events.get(timeout=left)
        except queue.Empty:
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"{what} is not over after {timeout_s:g} s; it goes on without us") from None
            continue
        if isinstance(event, _Over):
            if event.error is not None:
                raise event.error
            return
        yield event


def _show(events: Iterator[Event], lines: bool) -> None:
    state = TextColumn("{task.fields[unit]} [dim]{task.fields[state]}[/dim]")
    with terminal.bars(MofNCompleteColumn(), state) as progress:
        bars = _Bars(progress)
        for event in events:
            if lines:
                terminal.answer({"event": event.type, "data": event.data})
            found = event.batch
            if found is not None:
                bars.batch(found)
            for one in event.jobs:
                bars.job(one)


class _Bars:
    """On a terminal: bars. Elsewhere: a line whenever a job ends."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._batch: TaskID | None = None
        self._jobs: dict[str, TaskID] = {}
        self._ended: set[str] = set()

    def batch(self, batch: Batch) -> None:
        if self._batch is None:
            self._batch = self._progress.add_task(escape(batch.name or batch.id), unit="jobs", state="")
        done = batch.counts.succeeded + batch.counts.failed + batch.counts.canceled
        self._progress.update(self._batch, completed=done, total=batch.counts.total, state=batch.status)

    def job(self, job: Job) -> None:
        if job.is_terminal:
            if job.id in self._jobs:
                self._progress.remove_task(self._jobs.pop(job.id))
            if job.id not in self._ended:
                self._ended.add(job.id)
                why = f": {job.error.detail}" if job.error else ""
                terminal.note(f"  {job.custom_id} {job.status}{why}")
            return
        self._ended.discard(job.id)  # a retry
        if job.id not in self._jobs:
            if len(self._jobs) >= MOST_BARS or job.status == "queued":
                return
            self._jobs[job.id] = self._progress.add_task(f"  {escape(job.custom_id)}", unit="frames", state="")
        self._progress.update(
            self._jobs[job.id],
            completed=job.progress.frames_done,
            total=job.progress.frames_total or None,
            state=job.phase or job.waiting_reason or job.status,
        )
