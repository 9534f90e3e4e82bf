"""Training runs as real processes: killed trainers and killed launchers, strays, room for rendering."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from farm.db.session import Database
from farm.domain.limits import InputLimits
from farm.domain.run import OPEN, Attempt, Outcome, RunSpec, RunStatus, RunView
from farm.flow import launch, runs
from farm.storage.blobs import open_store
from workers.launcher import Launcher, Terms, farm_id
from workers.places import FARM, LocalPlace, Order

STAGES = ("readout", "appearance_motion", "lip", "eye", "pose", "expression_generator")
SHORT = {f"stages.{stage}.steps": 3 for stage in STAGES} | {"stages.readout.steps": 60, "corpus.clips": 8}
PATIENCE_S = 480.0


class Farm:
    def __init__(self, database: Database, url: str, folder: Path) -> None:
        self.database, self.url, self.folder = database, url, folder
        self.store_url = (folder / "blobs").as_uri()
        self.store = open_store(self.store_url)
        self.most_at_once = 0
        self.crowd: list[str] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._watching = threading.Event()

    def launcher(self) -> subprocess.Popen[bytes]:
        return self.start("-m", "tests.workers.launching", self.url, self.store_url, str(self.folder))

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """A process of Python, killed at the end."""
        with (self.folder / "launcher.log").open("ab") as log:
            started = subprocess.Popen(
                [sys.executable, *arguments], stdout=log, stderr=log, env={**os.environ, **environment}
            )
        self._processes.append(started)
        return started

    def run(self, spec: RunSpec) -> RunView:
        with self.database.transaction() as session:
            return runs.create(session, spec, InputLimits())

    def view(self, run_id: str) -> RunView:
        with self.database.transaction() as session:
            return runs.view(session, run_id)

    def until(self, run_id: str, met: Callable[[RunView], bool], what: str) -> RunView:
        deadline = time.monotonic() + PATIENCE_S
        while not met(view := self.view(run_id)):
            assert time.monotonic() < deadline, f"not {what}: {view}\n{(self.folder / 'launcher.log').read_text()}"
            assert view.status in OPEN or met(view), f"not {what}: {view}"
            time.sleep(0.05)
        return view

    def trainers(self) -> list[int]:
        """Pids of trainers of this farm, whoever started them."""
        found: dict[int, int] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                mine = f"{FARM}={farm_id(self.url)}".encode() in (folder / "environ").read_bytes()
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
            except OSError:
                continue
            # The launching step is the trainer itself, before its exec; a shell that waits for it is not.
            if mine and b"-m trainer run" in line and b"python" in line.split(b" ")[0]:
                found[int(folder.name)] = parent
        # What a trainer starts is the trainer's copy until its exec.
        return [pid for pid, parent in found.items() if parent not in found]

    def appear(self, count: int) -> None:
        """Wait for so many trainers: a process has no command line while it execs. Never are there more."""
        deadline = time.monotonic() + PATIENCE_S
        while len(now := self.trainers()) != count:
            assert len(now) < count, now
            assert time.monotonic() < deadline, f"{len(now)} trainers, not {count}"
            time.sleep(0.01)

    def watch(self) -> None:
        """Remember how many trainers there ever were at once."""

        def look() -> None:
            while not self._watching.wait(0.02):
                now = self.trainers()
                if len(now) > max(1, self.most_at_once):
                    self.crowd = [_told(pid) for pid in now]
                self.most_at_once = max(self.most_at_once, len(now))

        threading.Thread(target=look, daemon=True).start()

    def end(self) -> None:
        self._watching.set()
        for process in self._processes:
            process.kill()
            process.wait()
        deadline = time.monotonic() + 60
        while left := self.trainers():
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            assert time.monotonic() < deadline
            time.sleep(0.1)


def _told(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text() + Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return f"{pid} has gone"


@pytest.fixture
def farm(database: Database, database_url: str, tmp_path: Path) -> Iterator[Farm]:
    made = Farm(database, database_url, tmp_path)
    yield made
    made.end()


def test_a_run_outlives_its_trainer_and_its_launcher(farm: Farm) -> None:
    """SIGKILL of the trainer, then of the launcher: the run goes on from its checkpoint, nothing runs twice."""
    farm.watch()
    first = farm.launcher()
    run_id = farm.run(RunSpec("smoke", overrides={**SHORT, "checkpoint_every": 2})).id
    farm.until(run_id, lambda view: view.status is RunStatus.RUNNING and view.standing.step > 4, "training")
    (trainer,) = farm.trainers()
    os.kill(trainer, signal.SIGKILL)
    second = farm.until(run_id, lambda view: view.attempts_total == 2 and view.status is RunStatus.RUNNING, "resumed")
    assert second.attempts[0].outcome is Outcome.LOST
    first.kill()
    first.wait()
    farm.launcher()
    farm.until(run_id, lambda view: view.attempts_total == 3, "taken up by the next launcher")
    view = farm.until(run_id, lambda view: view.status not in OPEN, "finished")
    assert view.status is RunStatus.SUCCEEDED, view
    assert view.version_id is not None
    assert [attempt.outcome for attempt in view.attempts][-1] is Outcome.SUCCEEDED
    assert farm.most_at_once == 1
    assert farm.trainers() == []
    lines = farm.store.get_bytes(f"training/{run_id}/curves.jsonl").decode().splitlines()
    steps = [tuple(line.split(",")[:2]) for line in lines]
    assert len(steps) == len(set(steps)) == 60 + 3 * 5, "every step is there once, whatever was done again"


def test_what_no_row_wants_is_ended_and_cancel_leaves_a_checkpoint(farm: Farm) -> None:
    """Also a trainer that was started for an attempt which the rows have given up."""
    place = LocalPlace(farm_id(farm.url), farm.folder / "logs")
    launcher = Launcher(farm.database, farm.store, place, Terms(corpus=farm.folder / "corpus"))
    run_id = farm.run(RunSpec("smoke", overrides=SHORT)).id
    with farm.database.transaction() as session:
        found = launch.claim(session, place.host, 1)
    assert found is not None
    stale = Attempt(run_id, 7, "0" * 32, place.host, found.attempt.started_at)
    out = str(farm.folder / "elsewhere")
    corpus = str(farm.folder / "corpus")
    place.start(Order(stale, ["--recipe", "smoke", "--out", out, "--data", corpus]))
    farm.appear(1)
    launcher.turn()
    assert farm.trainers() == [], "the rows know another token"
    place.start(Order(found.attempt, launcher._arguments(run_id, found.spec, is_local=True)))
    place.start(Order(found.attempt, []))
    farm.appear(1)
    deadline = time.monotonic() + PATIENCE_S
    while farm.view(run_id).standing.step < 3:
        launcher.turn()
        assert time.monotonic() < deadline, farm.view(run_id)
        time.sleep(0.1)

    (pid,) = farm.trainers()
    place.halt(found.attempt, halted=True)
    assert state(pid) == "T"
    place.halt(found.attempt, halted=False)
    assert os.getpriority(os.PRIO_PROCESS, pid) >= 15, "the renderer goes first"

    with farm.database.transaction() as session:
        runs.cancel(session, run_id)
    while farm.view(run_id).status is not RunStatus.CANCELED:
        launcher.turn()
        assert time.monotonic() < deadline, farm.view(run_id)
        time.sleep(0.1)
    assert farm.trainers() == []
    with farm.database.transaction() as session:
        runs.resume(session, run_id)
    launcher.turn()
    assert farm.view(run_id).attempts_total == 2
    place.close()
    assert farm.trainers() == []


def test_a_run_that_cannot_be_started_says_why(farm: Farm) -> None:
    """No checkpoint to begin from: at once. A folder that cannot be written: after three tries."""
    place = LocalPlace(farm_id(farm.url), Path("/proc/no/such/folder"))
    launcher = Launcher(farm.database, farm.store, place, Terms(corpus=farm.folder / "corpus"))
    first = farm.run(RunSpec("smoke")).id
    for tries in range(1, 4):
        launcher.turn()
        view = farm.view(first)
        assert view.attempts_total == tries
    assert (view.status, view.error and view.error.code) == (RunStatus.FAILED, "os_error")
    second = farm.run(RunSpec("smoke", resume_from=first)).id
    launcher.turn()
    view = farm.view(second)
    assert (view.status, view.error and view.error.code) == (RunStatus.FAILED, "checkpoint_missing")
    assert view.attempts_total == 1


def state(pid: int) -> str:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        found = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if found == "T":
            return found
        time.sleep(0.02)
    return found
