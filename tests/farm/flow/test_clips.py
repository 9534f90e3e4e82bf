"""A growing set starts a schedule by its clips, not by its files."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from farm.db.session import Database
from farm.domain.cron import Cron
from farm.domain.limits import InputLimits
from farm.domain.run import Dataset, RunSpec
from farm.domain.schedule import FiringOutcome, Schedule
from farm.errors import Rejected
from farm.flow import clips, schedules
from farm.storage.blobs import BlobStore, open_store
from workers.launcher import Launcher


def manifest(folder: Path, *shards: list[str]) -> str:
    """A prepared set's, of shards of clips `person/video/clip@first_s`."""
    told = [
        {
            "sha256": str(k),
            "clips": [
                dict(zip(("identity", "video", "clip"), clip.partition("@")[0].split("/"), strict=True))
                | {"first_s": float(clip.partition("@")[2]), "is_true": False}
                for clip in shard
            ],
        }
        for k, shard in enumerate(shards)
    ]
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "shards": told}))
    return folder.as_uri()


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    (tmp_path / "blobs").mkdir()
    return open_store((tmp_path / "blobs").as_uri())


def test_clips_are_counted_however_they_lie_in_shards(store: BlobStore, tmp_path: Path) -> None:
    data = tmp_path / "set"
    uri = manifest(data, ["a/v/1@0.0", "a/v/1@1.6"], ["b/v/1@0.0"])
    first = clips.count(store, "s", uri, None)
    assert first.new == 3
    assert clips.count(store, "s", uri, first.clips).new == 0
    manifest(data, ["a/v/1@0.0"], ["a/v/1@1.6", "b/v/1@0.0"])
    assert clips.count(store, "s", uri, first.clips).new == 0, "other shards of the same clips"
    manifest(data, ["a/v/1@0.0", "a/v/2@0.0"], ["b/v/1@3.2"])
    assert clips.count(store, "s", uri, first.clips).new == 2, "another file, and another piece of one"


def test_what_is_no_set_says_so(store: BlobStore, tmp_path: Path) -> None:
    data = tmp_path / "set"
    data.mkdir()
    (data / "clip.mp4").touch()
    with pytest.raises(Rejected, match="dataset_missing"):
        clips.count(store, "s", data.as_uri(), None)
    for text in ("{", "[]", "{}", '{"shards": [{"clips": [{}]}]}', "[" * 100_000):
        (data / "manifest.json").write_text(text)
        with pytest.raises(Rejected, match="dataset_invalid"):
            clips.count(store, "s", data.as_uri(), None)


def test_a_schedule_waits_for_clips(database: Database, store: BlobStore, tmp_path: Path) -> None:
    """The launcher's own look at them: too few, enough, then none that are new."""
    uri = manifest(tmp_path / "set", ["a/v/1@0.0"])
    limits = InputLimits(schemes=("file",), file_roots=(tmp_path,))
    spec = RunSpec("paper", Dataset(uri))
    with database.transaction() as session:
        schedules.put(session, Schedule("growing", Cron("0 3 * * *"), spec, min_new_clips=3), limits)
    launcher = Launcher(database, store, None)
    at = (datetime.now(UTC) + timedelta(days=1)).replace(hour=3, minute=0, second=5)
    told: list[tuple[FiringOutcome, str]] = []
    for day, shards in enumerate((["a/v/1@0.0"], ["a/v/1@0.0", "b/v/1@0.0", "b/v/2@0.0"], ["a/v/1@0.0"], None)):
        if shards is None:
            (tmp_path / "set" / "manifest.json").unlink()
        else:
            manifest(tmp_path / "set", shards)
        launcher.fire(at + timedelta(days=day))
        with database.transaction() as session:
            newest = schedules.view(session, "growing").firings[0]
            if newest.run_id is not None:
                schedules.run_verbs.cancel(session, newest.run_id)
        told.append((newest.outcome, newest.reason))
    skipped = FiringOutcome.SKIPPED
    assert told[:3] == [
        (skipped, "1 new clips since the last run, 3 are wanted"),
        (FiringOutcome.STARTED, "on time, 3 new clips"),
        (skipped, "0 new clips since the last run, 3 are wanted"),
    ]
    assert told[3][1].startswith("its clips could not be counted: there is no prepared set at file://")
