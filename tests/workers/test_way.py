"""Runs of two priorities on one machine, as real processes: the lower one makes way at a checkpoint and goes on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from farm.db import runs as rows
from farm.db.session import Database
from farm.domain.limits import InputLimits
from farm.domain.run import OPEN, Outcome, RunSpec, RunStatus, RunView
from farm.flow import runs
from farm.storage.blobs import open_store
from tests.workers.test_launcher import PATIENCE_S, SHORT
from workers.launcher import Launcher, Terms, farm_id
from workers.places import LocalPlace


@pytest.mark.slow
def test_a_run_makes_way_at_a_checkpoint_and_goes_on(database: Database, database_url: str, tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    store = open_store((tmp_path / "blobs").as_uri())
    place = LocalPlace(farm_id(database_url), tmp_path / "logs")
    launcher = Launcher(database, store, place, Terms(corpus=tmp_path / "corpus"))

    def start(priority: int, **more: int) -> str:
        spec = RunSpec("smoke", overrides=SHORT | more, priority=priority, preempt=True)
        with database.transaction() as session:
            return runs.create(session, spec, InputLimits()).id

    def until(run_id: str, status: RunStatus, least_step: int = 0) -> RunView:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            launcher.turn()
            with database.transaction() as session:
                view = runs.view(session, run_id)
            if view.status is status and view.standing.step >= least_step:
                return view
            assert time.monotonic() < deadline, view
            assert view.status in OPEN, view
            time.sleep(0.1)

    try:
        low = start(20, **{"stages.readout.steps": 3000})
        until(low, RunStatus.RUNNING, 3)
        high = start(80)
        view = until(low, RunStatus.QUEUED)
        assert (view.attempts[0].outcome, view.attempts[0].reason) == (Outcome.STOPPED, "made room")
        until(high, RunStatus.RUNNING, 1)
        with database.transaction() as session:
            checkpoints = [stat.key for stat in store.list(f"training/{low}/checkpoints/") if "manifest" in stat.key]
            waits = runs.view(session, low).waiting_reason
            assert rows.count_held(session, place.host) == 1
            runs.cancel(session, high)
        assert waits == f"waits for a place: {high} (priority 80) is training"
        view = until(low, RunStatus.RUNNING, 3)
        assert view.attempts_total == 2
        assert view.attempts[1].outcome is Outcome.RUNNING
        stopped_at = max(int(key.split("/")[-2].rpartition("-")[2]) for key in checkpoints)
        assert view.standing.step >= stopped_at >= 3, "from where it stopped"
        with database.transaction() as session:
            assert runs.view(session, high).status is RunStatus.CANCELED
    finally:
        place.close()
