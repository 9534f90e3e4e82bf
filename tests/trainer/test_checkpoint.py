"""Checkpoints: there once their manifest is, whole or passed over, in a folder and in S3; the last few are kept."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from farm.errors import Transient
from farm.storage.blobs import BlobStore, Missing, open_store
from farm.storage.local import LocalStore
from trainer import out as out_module
from trainer.checkpoint import KEEP, Checkpoints, Manifest, OtherRecipe, Place, begin_with
from trainer.out import Out, open_out, patiently


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "folder":
        return LocalStore(tmp_path)
    from farm.storage.s3 import S3Store, connect

    client = connect(request.getfixturevalue("own_s3_url"))
    if "runs" not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket="runs")
    return S3Store(client, "runs", tmp_path.name)


def at(stage: int, step: int, *, ended: bool = False, part: bool = False, recipe: str = "r") -> Manifest:
    place = Place(stage + 1, 0) if ended else Place(stage, step)
    return Manifest(recipe, f"stage{stage}", step, place, part=part, ended=ended)


def save(checkpoints: Checkpoints, manifest: Manifest, value: float = 0.0) -> None:
    checkpoints.save(manifest, {"cast": {"x": torch.tensor([value])}, "phase": {"0/step": torch.tensor(value)}})
    checkpoints.wait()


def test_the_furthest_is_the_newest_and_old_ones_go_but_ends_of_stages(store: BlobStore) -> None:
    checkpoints = Checkpoints(store, "r")
    assert checkpoints.newest() is None
    for step in (2, 4):
        save(checkpoints, at(0, step))
    save(checkpoints, at(0, 5, ended=True))
    for step in (2, 4, 6, 8, 10):
        save(checkpoints, at(1, step), step)
    newest = checkpoints.newest()
    assert newest is not None
    assert (newest.name, newest.place) == ("stage1-10", Place(1, 10))
    assert checkpoints.load(newest)["cast"]["x"].tolist() == [10]
    assert {m.name for m in checkpoints.all()} == {"stage0-5", *(f"stage1-{10 - 2 * i}" for i in range(KEEP))}
    kept = {stat.key.split("/")[1] for stat in store.list("checkpoints/")}
    assert kept == {m.name for m in checkpoints.all()}
    checkpoints.close()


def test_parts_of_a_stage_are_apart_from_the_rest(store: BlobStore) -> None:
    checkpoints = Checkpoints(store, "r")
    save(checkpoints, at(0, 5, ended=True))
    save(checkpoints, at(2, 3, part=True))
    assert (checkpoints.newest() or at(9, 9)).name == "stage0-5"
    assert (checkpoints.newest("stage2") or at(9, 9)).step == 3
    assert checkpoints.newest("stage1") is None
    checkpoints.close()


def test_without_a_manifest_there_is_none_and_a_damaged_one_is_passed_over(store: BlobStore) -> None:
    checkpoints = Checkpoints(store, "r")
    save(checkpoints, at(0, 2), 2)
    save(checkpoints, at(0, 4), 4)
    save(checkpoints, at(0, 6), 6)
    store.delete("checkpoints/stage0-6/manifest.json")
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.step == 4
    # A late writer of the same step brings files of its own: it cannot spoil what is vouched for.
    store.put_bytes(b"else", "checkpoints/stage0-4/cast-00000000.safetensors")
    assert checkpoints.newest() == newest
    store.put_bytes(b"broken", f"checkpoints/stage0-4/{newest.files['cast']['file']}")
    assert (checkpoints.newest() or newest).step == 2
    with pytest.raises(ValueError, match="not what its manifest says"):
        checkpoints.load(newest)
    checkpoints.close()


def test_a_run_begins_with_given_networks_once(tmp_path: Path) -> None:
    store, network = LocalStore(tmp_path), torch.nn.Linear(1, 1)
    begin_with(store, "r", network)
    checkpoints = Checkpoints(store, "r")
    begun = checkpoints.newest()
    assert begun is not None
    assert begun.place == Place(0, 0)
    assert torch.equal(checkpoints.load(begun)["cast"]["weight"], network.weight)
    save(checkpoints, at(0, 2))
    begin_with(store, "r", torch.nn.Linear(1, 1))
    assert (checkpoints.newest() or begun).place == Place(0, 2)
    checkpoints.close()


def test_another_recipes_is_refused(tmp_path: Path) -> None:
    save(Checkpoints(LocalStore(tmp_path), "r"), at(0, 2))
    with pytest.raises(OtherRecipe):
        Checkpoints(LocalStore(tmp_path), "another").newest()


def test_files_come_before_the_manifest_and_what_goes_with_them(tmp_path: Path) -> None:
    checkpoints, there = Checkpoints(LocalStore(tmp_path), "r"), []
    checkpoints.save(
        at(0, 2), {"cast": {"x": torch.zeros(1)}}, lambda: there.extend((tmp_path / "checkpoints").rglob("*.*"))
    )
    checkpoints.wait()
    assert [path.suffix for path in there] == [".safetensors"]
    manifest = json.loads((tmp_path / "checkpoints" / "stage0-2" / "manifest.json").read_text())
    assert manifest["files"]["cast"]["size_bytes"] == there[0].stat().st_size
    checkpoints.close()


def test_an_error_of_the_writer_comes_out(tmp_path: Path) -> None:
    checkpoints = Checkpoints(LocalStore(tmp_path), "r")

    def fails() -> None:
        raise RuntimeError("no curve")

    checkpoints.save(at(0, 2), {"cast": {"x": torch.zeros(1)}}, fails)
    with pytest.raises(RuntimeError, match="no curve"):
        checkpoints.save(at(0, 4), {"cast": {"x": torch.zeros(1)}})
    assert checkpoints.newest() is None
    checkpoints.close()


def test_a_store_that_does_not_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out_module, "FIRST_WAIT_S", 0.001)
    asked = []

    def answers_third_time() -> str:
        asked.append(1)
        if len(asked) < 3:
            raise Transient("storage_unavailable", "x")
        return "here"

    assert patiently(answers_third_time) == "here"
    with pytest.raises(Transient):
        patiently(lambda: (_ for _ in ()).throw(Transient("storage_unavailable", "x")))
    asked.clear()
    with pytest.raises(Missing):
        patiently(lambda: asked.append(1) or (_ for _ in ()).throw(Missing("x")))
    assert len(asked) == 1


def test_a_run_in_s3_is_kept_there(own_s3_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", own_s3_url)
    from farm.storage.s3 import connect

    connect(own_s3_url).create_bucket(Bucket="outs")
    place = open_out("s3://outs/run")
    assert place.remote
    (place.folder / "bundle").mkdir()
    (place.folder / "bundle" / "a.json").write_text("{}")
    place.publish("bundle")
    assert open_store("s3://outs/run", own_s3_url).get_bytes("bundle/a.json") == b"{}"
    assert open_out("s3://outs/run").fetch("bundle/a.json").name == "a.json"
    assert not place.fetch("nothing.json").exists()
    local = open_out(tmp_path)
    assert local == Out(tmp_path, local.store)
    assert not local.remote
    assert dataclasses.is_dataclass(local)
