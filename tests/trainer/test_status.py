"""status.json and the stop file of a run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from farm.storage.local import LocalStore
from trainer import status
from trainer.status import Door, Status, read_status


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "EVERY_S", 0.01)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("quick")
def test_what_is_shown_comes_to_be_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert read_status(store) is None
    door = Door(store, Status(stages=3))
    first = json.loads((tmp_path / "status.json").read_text())
    assert (first["state"], first["stages"], first["error"]) == ("running", 3, None)
    door.show(stage="lip", step=4, losses={"lip/sync_seen": 1.5})
    until(lambda: (read_status(store) or {})["step"] == 4)
    door.close(state="failed", error={"code": "nan", "detail": "why"})
    last = read_status(store) or {}
    assert (last["state"], last["step"], last["error"]["code"]) == ("failed", 4, "nan")
    assert last["started_at"] == first["started_at"] <= last["updated_at"]
    # Another run of the same folder is the same run, going on.
    again = Door(store, Status())
    assert again.status.started_at == first["started_at"]
    again.close(state="succeeded")


@pytest.mark.usefixtures("quick")
def test_a_stop_file_is_seen_obeyed_and_taken_away(tmp_path: Path) -> None:
    door = Door(LocalStore(tmp_path), Status())
    assert not door.stopping()
    (tmp_path / "stop").touch()
    until(door.stopping)
    door.close(state="stopped")
    assert not (tmp_path / "stop").exists()
