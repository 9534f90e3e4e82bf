"""Keeps children running: starts them, starts the dead again with growing pauses, and ends them in order."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from farm.embedded import process
from farm.errors import Transient

STEADY_S = 60.0
"""A child that has run this long starts over with short pauses."""


def pause_s(deaths: int) -> float:
    """Seconds before a child is started again after so many deaths in short order: 0.5, 1, 2, … 30."""
    return min(30.0, 0.5 * 2 ** max(0, deaths - 1))


class Running(Protocol):
    """A process that runs, or ran."""

    @property
    def pid(self) -> int: ...

    def alive(self) -> bool: ...

    def stop(self, hasten: threading.Event | None = None) -> None:
        """End it, within bounds; return when it is gone. `hasten` set: at once."""
        ...


class App:
    """A Running of our own code, in a session of its own: whatever it left behind there goes with it."""

    def __init__(self, popen: subprocess.Popen[bytes], stop_steps: Sequence[tuple[int, float]]) -> None:
        self._popen = popen
        self._stop_steps = stop_steps

    @property
    def pid(self) -> int:
        return self._popen.pid

    def alive(self) -> bool:
        return self._popen.poll() is None

    def stop(self, hasten: threading.Event | None = None) -> None:
        process.end(self._popen, self._stop_steps, hasten)
        try:
            os.killpg(self._popen.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return


@dataclass
class Child:
    """`start` makes a new Running each time. Children of one `stage` end together, higher stages first."""

    name: str
    start: Callable[[], Running]
    stage: int
    running: Running | None = None
    deaths: int = 0
    started_at: float = 0.0
    start_again_at: float = 0.0


@dataclass
class Supervisor:
    """Owned by one thread that starts children; `watch` may run in another that outlives them (the death signal that
    ties a child to its farm follows the *thread* that started it)."""

    say: Callable[[str], None]
    children: list[Child] = field(default_factory=list)
    hasten: threading.Event = field(default_factory=threading.Event)
    _ending: threading.Event = field(default_factory=threading.Event)
    _change: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, start: Callable[[], Running], stage: int) -> Running:
        """Start a child and keep it running from now on."""
        child = Child(name, start, stage)
        running = start()
        child.running, child.started_at = running, time.monotonic()
        with self._change:
            self.children.append(child)
        return running

    def watch(self) -> None:
        """Start the dead again until `stop` is called."""
        while not self._ending.wait(0.2):
            with self._change:
                for child in self.children:
                    if not self._ending.is_set():
                        self._look_after(child)

    def _look_after(self, child: Child) -> None:
        now = time.monotonic()
        if child.running is not None and not child.running.alive():
            child.deaths = 1 if now - child.started_at > STEADY_S else child.deaths + 1
            child.running.stop()  # what it left behind
            child.running = None
            child.start_again_at = now + pause_s(child.deaths)
            self.say(f"{child.name} ended by itself; starting it again in {pause_s(child.deaths):g} s")
        if child.running is None and now >= child.start_again_at:
            try:
                child.running = child.start()
            except Transient as error:
                child.deaths += 1
                child.start_again_at = time.monotonic() + pause_s(child.deaths)
                self.say(f"{child.name}: {error.detail}")
            child.started_at = time.monotonic()

    def pids(self) -> dict[str, int]:
        """Of the children that run now, by name."""
        runnings = {child.name: child.running for child in self.children}
        return {name: running.pid for name, running in runnings.items() if running is not None and running.alive()}

    def renew(self, name: str) -> None:
        """End a child as `stop` would, and start it again at once. Raises Transient when it does not come up; it is
        then tried again as after a death."""
        with self._change:
            if self._ending.is_set():
                return
            (child,) = (child for child in self.children if child.name == name)
            if child.running is not None:
                child.running.stop(self.hasten)
            child.running, child.start_again_at = None, 0.0
            child.running = child.start()
            child.started_at = time.monotonic()

    def deaths(self, name: str) -> int:
        return sum(child.deaths for child in self.children if child.name == name)

    def stop(self) -> None:
        """End all children, stage by stage; within a stage all at once."""
        self._ending.set()
        with self._change:
            for stage in sorted({child.stage for child in self.children}, reverse=True):
                runnings = [child.running for child in self.children if child.stage == stage and child.running]
                if runnings:
                    with ThreadPoolExecutor(len(runnings)) as pool:
                        for ended in [pool.submit(running.stop, self.hasten) for running in runnings]:
                            ended.result()
            self.children.clear()
