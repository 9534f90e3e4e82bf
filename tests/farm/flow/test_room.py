"""Rendering in the line of training runs: when it is asked for room, and which runs give it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from farm.domain.run import RunSpec
from farm.storage.blobs import open_store
from tests.small_farm import Fleet
from workers.launcher import Launcher, Terms


def yields(fleet: Fleet, tmp_path: Path, priority: int, **terms: object) -> bool:
    launcher = Launcher(fleet.database, open_store(tmp_path.as_uri()), None, Terms(shares_with=("render",), **terms))  # pyright: ignore[reportArgumentType]
    launcher._look_at_rendering()
    return launcher._yields(RunSpec("smoke", priority=priority))


def test_a_waiting_chunk_goes_before_runs_of_lower_priority(fleet: Fleet, tmp_path: Path) -> None:
    assert not yields(fleet, tmp_path, 0), "nothing waits"
    fleet.submit(3)
    assert yields(fleet, tmp_path, 99)
    assert not yields(fleet, tmp_path, 100)
    assert yields(fleet, tmp_path, 100, render_priority=101)
    assert not yields(fleet, tmp_path, 30, render_priority=30)
    assert not yields(fleet, tmp_path, 0, yield_after=timedelta(minutes=1)), "it has not waited for long"
    fleet.run("update chunks set available_at = now() - interval '61 s'")
    assert yields(fleet, tmp_path, 0, yield_after=timedelta(minutes=1))
