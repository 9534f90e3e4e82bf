"""Children start again after they die, and end in order, with whatever they left behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from farm.embedded import process
from farm.embedded.supervisor import App, Supervisor, pause_s

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: print("no", flush=True))
print("up", flush=True)
while True: time.sleep(1)
"""


def python(code: str, log: Path) -> App:
    return App(process.spawn([sys.executable, "-c", code], log), ((signal.SIGTERM, 20.0),))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("deaths", "seconds"), [(1, 0.5), (2, 1), (3, 2), (6, 16), (7, 30), (99, 30)])
def test_pauses_grow_up_to_half_a_minute(deaths: int, seconds: float) -> None:
    assert pause_s(deaths) == seconds


def test_a_dead_child_is_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = Supervisor(said.append)
    first = supervisor.add("sleeper", lambda: python("import time; time.sleep(600)", tmp_path / "log"), 0)
    watch = threading.Thread(target=supervisor.watch, daemon=True)
    watch.start()
    try:
        os.kill(first.pid, signal.SIGKILL)
        wait_for(lambda: (child := supervisor.children[0].running) is not None and child.pid != first.pid)
        second = supervisor.children[0].running
        assert second is not None
        assert second.alive()
        assert "sleeper ended by itself" in said[0]
        assert supervisor.deaths("sleeper") == 1
    finally:
        supervisor.stop()
        watch.join()
    assert not second.alive()


def test_stages_end_from_the_top_and_grandchildren_with_them(tmp_path: Path) -> None:
    supervisor = Supervisor(print)
    ended: list[str] = []

    class Noted(App):
        def stop(self, hasten: threading.Event | None = None) -> None:
            super().stop(hasten)
            ended.append(self.name)

        name = ""

    def start(name: str) -> Noted:
        popen = process.spawn([sys.executable, "-c", PARENT], tmp_path / name)
        made = Noted(popen, ((signal.SIGTERM, 20.0),))
        made.name = name
        return made

    for stage, name in enumerate(("database", "api", "worker")):
        supervisor.add(name, lambda name=name: start(name), stage)
    logs = [tmp_path / name for name in ("database", "api", "worker")]
    wait_for(lambda: all(log.read_text().endswith("\n") for log in logs))
    supervisor.stop()
    assert ended == ["worker", "api", "database"]
    for log in logs:
        wait_for(lambda log=log: not process.command_line(int(log.read_text())))


def test_hasten_cuts_the_patience_short(tmp_path: Path) -> None:
    supervisor = Supervisor(print)

    def start() -> App:
        return App(process.spawn([sys.executable, "-c", STUBBORN], tmp_path / "log"), ((signal.SIGTERM, 600.0),))

    app = supervisor.add("stubborn", start, 0)
    wait_for(lambda: "up" in (tmp_path / "log").read_text())
    stopping = threading.Thread(target=supervisor.stop, daemon=True)
    stopping.start()
    wait_for(lambda: "no" in (tmp_path / "log").read_text())
    assert app.alive()
    supervisor.hasten.set()
    stopping.join()
    assert not app.alive()


def test_a_leftover_is_ended_only_if_it_is_what_it_was(tmp_path: Path) -> None:
    app = python("import time; time.sleep(600)", tmp_path / "log")
    wait_for(lambda: "time.sleep(600)" in process.command_line(app.pid))
    process.end_leftover(app.pid, ("postgres", "somewhere"), ((signal.SIGTERM, 1.0),))
    assert app.alive()
    process.end_leftover(app.pid, ("time.sleep(600)",), ())
    wait_for(lambda: not app.alive())
    app.stop()
