"""The engine's child is a real spawned process: it answers, obeys, and is killed when it does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.domain.chunk import Reason
from farm.domain.order import Progress
from farm.errors import Rejected, Transient
from tests.workers import naughty
from workers.engine import Engine, Limits, resident_bytes
from workers.reasons import Failed
from workers.work import Aborted

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(naughty.studio, Limits(obey_s=0.5))
    yield engine
    engine.close()


def run(engine: Engine, name: str, value: Any = None, **options: Any) -> Any:
    return engine.run((name, value), **{"deadline_s": 60.0, **options})


def test_answers_reports_and_keeps_its_child(engine: Engine) -> None:
    reports: list[Any] = []
    assert run(engine, "count", 5, on_report=reports.append) == 5
    assert [report.frames_done for report in reports if isinstance(report, Progress)] == [1, 2, 3, 4, 5]
    pid = run(engine, "pid")
    assert pid == engine.pid != os.getpid()
    assert run(engine, "interrupt") == "unmoved"
    assert run(engine, "pid") == pid


def test_errors_cross_with_code_and_detail(engine: Engine) -> None:
    with pytest.raises(Rejected) as rejected:
        run(engine, "reject")
    assert (rejected.value.code, rejected.value.detail) == ("no_face", "nobody here")
    with pytest.raises(Transient) as transient:
        run(engine, "transient")
    assert transient.value.code == "storage_down"
    with pytest.raises(Failed) as bug:
        run(engine, "bug")
    assert bug.value.failure.reason is Reason.BUG
    assert "ZeroDivisionError: unlucky" in bug.value.failure.detail
    with pytest.raises(Failed) as memory:
        run(engine, "out_of_memory")
    assert memory.value.failure.reason is Reason.OOM
    assert run(engine, "echo", 7) == 7


def test_an_abort_is_obeyed_and_the_child_kept(engine: Engine) -> None:
    pid = run(engine, "pid")
    abort = threading.Event()
    with pytest.raises(Aborted):
        run(engine, "count", 10_000, abort=abort, on_report=lambda report: abort.set())
    assert run(engine, "pid") == pid


def test_a_child_that_does_not_obey_is_killed_and_replaced(engine: Engine) -> None:
    pid = run(engine, "pid")
    abort = threading.Event()
    with pytest.raises(Aborted):
        run(engine, "deaf", abort=abort, on_report=lambda report: abort.set())
    assert resident_bytes(pid) == 0
    assert run(engine, "pid") != pid


def test_limits() -> None:
    engine = Engine(naughty.studio, Limits(stall_s=1.0))
    try:
        with pytest.raises(Failed) as stalled:
            run(engine, "deaf")
        assert stalled.value.failure.reason is Reason.STALLED
        with pytest.raises(Failed) as timeout:
            run(engine, "chatty", deadline_s=0.5)
        assert timeout.value.failure.reason is Reason.TIMEOUT
    finally:
        engine.close()


def test_the_memory_limit() -> None:
    engine = Engine(naughty.studio, Limits(memory_bytes=400 * 2**20))
    try:
        with pytest.raises(Failed) as memory:
            run(engine, "grow", 800 * 2**20)
        assert memory.value.failure.reason is Reason.OOM
        assert run(engine, "echo", "well") == "well"
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("die", signal.SIGKILL, Reason.WORKER_LOST),
        ("die", signal.SIGSEGV, Reason.BUG),
        ("exit", 3, Reason.BUG),
    ],
)
def test_a_dead_child_is_reported_and_replaced(engine: Engine, name: str, value: int, reason: Reason) -> None:
    with pytest.raises(Failed) as failed:
        run(engine, name, int(value))
    assert failed.value.failure.reason is reason
    assert run(engine, "echo", 1) == 1


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group of 300 MiB; whose id is written into its cgroup.procs is in it."""
    groups = Path("/sys/fs/cgroup")
    folder, limit = groups / "memory" / f"dubfarm-test-{os.getpid()}", "memory.limit_in_bytes"
    if not (groups / "memory").is_dir():
        folder, limit = groups / folder.name, "memory.max"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"control groups cannot be made here: {error}")
    try:
        if not (folder / limit).exists():
            pytest.skip("this machine's control groups do not limit memory")
        (folder / limit).write_text(str(300 << 20))
        yield folder
    finally:
        folder.rmdir()


def test_the_kernel_kills_for_want_of_memory(engine: Engine, small_group: Path) -> None:
    """That is oom, which halves the batch; a person's SIGKILL (above) is a lost worker."""
    pid = run(engine, "pid")
    (small_group / "cgroup.procs").write_text(str(pid))
    with pytest.raises(Failed) as failed:
        run(engine, "grow", 600 << 20)
    assert (failed.value.failure.reason, failed.value.failure.code) == (Reason.OOM, "memory_killed")
    assert run(engine, "echo", 1) == 1
    with pytest.raises(Failed) as failed:
        run(engine, "die", int(signal.SIGKILL))
    assert failed.value.failure.reason is Reason.WORKER_LOST, "kills of earlier works do not count"


def test_a_child_that_cannot_start_says_why() -> None:
    engine = Engine(naughty.broken_studio)
    with pytest.raises(Failed, match="no device here"):
        run(engine, "echo")
    engine.close()


PARENT = """
import sys
from tests.workers import naughty
from workers.engine import Engine
if __name__ == "__main__":
    engine = Engine(naughty.studio)
    print(engine.run(("pid", None), deadline_s=60), flush=True)
    engine.run(("deaf", None), deadline_s=60)
"""


def test_the_child_goes_when_its_parent_is_killed(tmp_path: Any) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 60
    while resident_bytes(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert resident_bytes(pid) == 0
