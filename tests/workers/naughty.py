"""Works for the engine's tests: each does one thing that a child may do. Imported by name inside the spawned child."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from farm.domain.job import Phase
from farm.domain.order import Progress
from farm.errors import Rejected, Transient
from workers.work import Check, Report


def studio() -> Any:
    return perform


def broken_studio() -> Any:
    raise RuntimeError("no device here")


def perform(work: tuple[str, Any], report: Report, check: Check) -> Any:
    name, value = work
    return globals()[f"do_{name}"](value, report, check)


def do_echo(value: Any, report: Report, check: Check) -> Any:
    return value


def do_pid(value: Any, report: Report, check: Check) -> int:
    return os.getpid()


def do_count(value: int, report: Report, check: Check) -> int:
    for done in range(1, value + 1):
        check()
        report(Progress(Phase.RENDERING, done, value))
        time.sleep(0.02)
    return value


def do_deaf(value: Any, report: Report, check: Check) -> None:
    report(Progress(Phase.RENDERING))
    while True:
        time.sleep(1)


def do_chatty(value: Any, report: Report, check: Check) -> None:
    while True:
        report(Progress(Phase.RENDERING))
        time.sleep(0.05)


def do_reject(value: Any, report: Report, check: Check) -> None:
    raise Rejected("no_face", "nobody here")


def do_transient(value: Any, report: Report, check: Check) -> None:
    raise Transient("storage_down", "try later")


def do_bug(value: Any, report: Report, check: Check) -> None:
    raise ZeroDivisionError("unlucky")


def do_out_of_memory(value: Any, report: Report, check: Check) -> None:
    raise MemoryError("too big")


def do_grow(value: int, report: Report, check: Check) -> None:
    kept = bytearray(os.urandom(1024)) * (value // 1024)
    time.sleep(60)
    del kept


def do_die(value: int, report: Report, check: Check) -> None:
    os.kill(os.getpid(), value)
    time.sleep(10)


def do_exit(value: int, report: Report, check: Check) -> None:
    os._exit(value)


def do_interrupt(value: Any, report: Report, check: Check) -> str:
    os.kill(os.getpid(), signal.SIGINT)
    return "unmoved"
