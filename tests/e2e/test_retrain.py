"""Scheduled retraining, from the cron line to a registered version, on a whole farm."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from farm.cli.retrain import ray_workers
from farm.client import Client, TrainingRun
from farm.db.session import connect
from farm.embedded import address
from tests.e2e.command import Command

PATIENCE_S = 900.0
STAGES = ("readout", "lip", "eye", "pose", "expression_generator")
BODY: Mapping[str, Any] = {
    "recipe": "smoke",
    "cron": "0 3 * * 0",
    "timezone": "Europe/Berlin",
    "catch_up": "latest",
    "scaling": {"workers": 2},
    "overrides": {f"stages.{stage}.steps": 4 for stage in STAGES} | {"corpus.clips": 16, "checkpoint_every": 4},
}


def a_week_passes(data: Path, schedule: str) -> None:
    """The clock moved: the schedule has been seen to up to a week ago."""
    found = address.read(data)
    assert found is not None
    database = connect(found.database_url, pool_size=1)
    with database.transaction() as session:
        moved = "UPDATE training_schedules SET seen_to = now() - interval '7 days', next_at = now() WHERE name = :name"
        session.execute(sa.text(moved), {"name": schedule})
    database.close()


def until(client: Client, run_id: str, met: Callable[[TrainingRun], object], dubfarm: Command) -> TrainingRun:
    deadline = time.monotonic() + PATIENCE_S
    while not met(run := client.training.run(run_id)):
        told = (run, dubfarm.logs(), trainer_logs(dubfarm))
        assert time.monotonic() < deadline, told
        assert not run.is_over, told
        time.sleep(0.2)
    return run


def trainer_logs(dubfarm: Command) -> str:
    logs = sorted((dubfarm.data / "logs" / "training").glob("*.log"))
    return "\n".join(f"== {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)


@pytest.mark.slow
@pytest.mark.timeout(2000)
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_schedule_fires_and_its_run_survives_a_killed_worker(services: Mapping[str, str], tmp_path: Path) -> None:
    dubfarm = Command(tmp_path / "farm", services)
    with dubfarm.farm() as (process, told), Client(told["url"], told["key"]) as client:
        schedule = client.training.set_schedule("weekly", BODY)
        assert len(schedule.next) == 5
        assert next(client.training.runs(schedule="weekly"), None) is None
        a_week_passes(dubfarm.data, "weekly")
        deadline = time.monotonic() + 120
        while (run := next(client.training.runs(schedule="weekly"), None)) is None:
            assert time.monotonic() < deadline, dubfarm.logs()
            time.sleep(0.2)
        assert run.fired_for is not None
        (firing,) = client.training.schedule("weekly").firings
        assert (firing.outcome, firing.run_id) == ("started", run.id)

        until(client, run.id, lambda run: run.step > 0 and len(ray_workers(run.id)) == 2, dubfarm)
        os.kill(ray_workers(run.id)[0], signal.SIGKILL)
        done = until(client, run.id, lambda run: run.is_over, dubfarm)
        assert done.status == "succeeded", (done, trainer_logs(dubfarm))
        assert done.model_version is not None
        version = client.version(done.model_version)
        assert version.trained
        stages = {curve.stage for curve in client.training.curves(run.id)}
        assert stages == {"appearance_motion", *STAGES}
        assert client.training.checkpoints(run.id)
        process.send_signal(signal.SIGTERM)
        assert process.wait(180) == 0, dubfarm.logs()
    dubfarm.wait_until_gone()
