"""A finished run's folder becomes a version: what is kept of it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farm.db import versions as rows
from farm.db.session import Database
from farm.domain.version import Lineage
from farm.embedded.first_start import SHIPPED
from farm.errors import Rejected
from farm.flow.register import Registered, register
from farm.storage import keys
from farm.storage.blobs import BlobStore, open_store
from tests.farm.flow.run_folder import run_folder


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return open_store(f"file://{tmp_path / 'store'}")


def taken(database: Database, store: BlobStore, out: Path, name: str = "first", **known: str) -> Registered:
    return register(database, store, f"file://{out}", name=name, lineage=Lineage(**known))


def test_a_run_becomes_a_version_with_its_lineage_and_report(database: Database, store: BlobStore, tmp_path: Path):
    out = run_folder(tmp_path / "out", evaluation={"psnr": 20.5, "odd": float("nan")})
    made = taken(database, store, out, run="run_1", code_version="abc", parent="ver_0")
    assert made.decision.passed
    with database.transaction() as session:
        version = rows.get(session, made.version.id)
    assert version == made.version
    assert version.lineage == Lineage(
        recipe="tiny", code_version="abc", dataset_version="54f1765a96d6", seeds=(1,), parent="ver_0", run="run_1",
        checkpoints=("stage3-100",),
    )  # fmt: skip
    assert version.evaluation is not None
    assert version.evaluation["psnr"] == 20.5
    assert version.evaluation["odd"] is None
    assert set(version.reports) == {"evaluation.json", "grids/stage3.png", "recipe.json", "report.html"}
    assert store.get_bytes(version.reports["report.html"].key) == b"<h1>how good it is</h1>"
    for path in (out / "bundle").iterdir():
        assert store.get_bytes(keys.bundle_file(version.bundle_key, path.name)) == path.read_bytes()
    assert taken(database, store, out).version.id == version.id


def test_every_file_is_checked_and_everything_wrong_is_said_at_once(
    database: Database, store: BlobStore, tmp_path: Path
):
    out = run_folder(tmp_path / "out")
    (out / "bundle" / "audio.safetensors").write_bytes(b"flipped")
    (out / "bundle" / "generator.safetensors").unlink()
    (out / "evaluation.json").write_text("[1]")
    with pytest.raises(Rejected) as caught:
        taken(database, store, out)
    assert {problem.code for problem in caught.value.problems} == {
        "bundle_corrupt",
        "bundle_incomplete",
        "evaluation_invalid",
    }
    assert list(store.list("bundles/")) == []
    with database.transaction() as session:
        assert rows.listed(session) == ()


def test_only_a_run_that_succeeded_is_registered(database: Database, store: BlobStore, tmp_path: Path):
    out = run_folder(tmp_path / "out")
    (out / "status.json").write_text(json.dumps({"state": "running"}))
    with pytest.raises(Rejected, match="run_unfinished"):
        taken(database, store, out)
    with pytest.raises(Rejected, match="bundle_invalid"):
        taken(database, store, tmp_path / "empty")


def test_the_bundle_that_ships_is_registered_from_its_own_folder(database: Database, store: BlobStore):
    (shipped,) = (manifest.parent for manifest in SHIPPED.glob("*/manifest.json"))
    before = sorted(shipped.iterdir())
    version = taken(database, store, shipped, name="shipped").version
    assert version.trained
    assert version.evaluation == json.loads((shipped / "evaluation.json").read_text())
    assert {"evaluation.json", "recipe.json"} <= set(version.reports)
    assert version.lineage.recipe == json.loads((shipped / "recipe.json").read_text())["name"]
    assert sorted(shipped.iterdir()) == before, "what is only read stays as it was"
