"""Scheduled retraining, from the cron line to the worker and back, on a whole farm: the demo's story, clock moved."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import sqlalchemy as sa

from farm.cli import retrain
from farm.cli.demo import MATERIAL
from farm.cli.terminal import terminal
from farm.client import Client
from farm.db.session import connect
from farm.embedded import address
from tests.e2e.command import Command

PATIENCE_S = 900.0
SUNDAYS = "0 3 * * 0"
ALSO = {"timezone": "Europe/Berlin", "catch_up": "latest"}


def a_week_passes(data: Path, schedule: str) -> None:
    """The clock moved: the schedule has been seen to up to a week ago."""
    found = address.read(data)
    assert found is not None
    database = connect(found.database_url, pool_size=1)
    with database.transaction() as session:
        moved = "UPDATE training_schedules SET seen_to = now() - interval '7 days', next_at = now() WHERE name = :name"
        assert session.execute(sa.text(moved), {"name": schedule}).rowcount == 1  # pyright: ignore[reportAttributeAccessIssue]
    database.close()


def apps(dubfarm: Command) -> set[str]:
    """API, control and render workers, by pid and command line."""
    return {line for line in dubfarm.processes() if re.search(r" -m (api|workers)( |$)", line)}


def trainer_logs(dubfarm: Command) -> str:
    logs = sorted((dubfarm.data / "logs" / "training").glob("*.log"))
    return "\n".join(f"== {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)


@pytest.mark.slow
@pytest.mark.timeout(2000)
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_schedule_fires_and_its_model_is_taken_up_and_back(services: Mapping[str, str], tmp_path: Path) -> None:
    dubfarm = Command(tmp_path / "farm", services)
    terminal.begin(False)
    with dubfarm.farm() as (process, told), Client(told["url"], told["key"]) as client:
        before = apps(dubfarm)

        def clock(schedule: str) -> None:
            assert len(client.training.schedule(schedule).next) == 5
            assert next(client.training.runs(schedule=schedule), None) is None
            a_week_passes(dubfarm.data, schedule)

        try:
            found = retrain.story(client, MATERIAL, PATIENCE_S, cron=SUNDAYS, clock=clock, also=ALSO)
        except Exception as error:
            error.add_note(f"{dubfarm.logs()}\n{trainer_logs(dubfarm)}")
            raise
        finally:
            (tmp_path / "training.log").write_text(trainer_logs(dubfarm))

        # One attempt, on two workers: Ray itself repaired the loss, and no step was done twice or left out.
        run = client.training.run(found.run.id)
        assert run.fired_for is not None
        assert (run.status, run.attempts) == ("succeeded", 1)
        assert found.killed is not None
        assert {curve.stage for curve in client.training.curves(run.id)} == set(retrain.STAGES)
        version = client.version(found.trained)
        assert version.trained
        assert version.lineage is not None
        assert (version.lineage.recipe, version.lineage.run) == ("smoke", run.id)

        dubs = {dub.custom_id: dub for dub in found.dubs}
        rendered = {name: dub.version for name, dub in dubs.items()}
        old, new = found.first, found.trained
        assert rendered == {"before": old, "held": old, "canary": new, "after": new, "rolled-back": old}
        assert all(dub.rendered_by == (dub.version_id,) for dub in found.dubs), "the chunks' own lines"
        assert len({dubs[name].sha256 for name in ("before", "held", "rolled-back")}) == 1
        assert len({dub.sha256 for dub in found.dubs}) == 2
        assert [dub.custom_id for dub in found.dubs if dub.cohort == "canary"] == ["canary"]

        worse = client.training.run(found.refused.run_id)
        assert any(reason.startswith("psnr: ") for reason in found.refused.reasons), found.refused
        assert found.refused.reasons[0] in worse.status_reason
        moves = [(move.kind, client.version(move.version).name, move.forced) for move in client.alias_moves("champion")]
        assert moves[:3] == [("rollback", old, False), ("promote", new, False), ("promote", old, True)]

        assert list(found.undisturbed) == [worker.id for worker in client.workers()]
        assert len(found.undisturbed) == 1
        assert apps(dubfarm) == before, "nothing was restarted"
        process.send_signal(signal.SIGTERM)
        assert process.wait(180) == 0, dubfarm.logs()
    dubfarm.wait_until_gone()
