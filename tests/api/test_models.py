"""Versions and aliases over HTTP."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from farm.client import ApiError, Client
from farm.db import versions as rows
from farm.storage import keys
from tests.api.conftest import OPERATORS, Api, admin_of
from tests.api.test_batches import items

WEIGHTS = {"generator.safetensors": b"g" * 5000, "audio.safetensors": b"a" * 100}


def folder_of(tmp_path: Path, name: str, **changes: Any) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    files = {path: hashlib.sha256(data).hexdigest() for path, data in WEIGHTS.items()}
    manifest = {"name": name, "trained": False, "licence": "Apache-2.0", "files": files} | changes
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for path, data in WEIGHTS.items():
        (folder / path).write_bytes(data)
    return folder


@pytest.fixture
def key(api: Api) -> Iterator[str]:
    """Models are changed by the tenant that runs the farm."""
    with admin_of(api, OPERATORS) as key:
        yield key


@pytest.fixture
def champion_kept(client: Client) -> Iterator[str]:
    """The other tests submit to champion: put it back."""
    before = next(alias.version for alias in client.aliases() if alias.alias == "champion")
    yield before
    client.set_alias("champion", before)


def test_a_bundle_is_registered_from_its_files(client: Client, api: Api, tmp_path: Path):
    folder = folder_of(tmp_path, "first")
    done: list[tuple[int, int]] = []
    version = client.register_version(folder, name="first", progress=lambda *p: done.append(p))
    assert (version.name, version.trained, version.licence, version.aliases) == ("first", False, "Apache-2.0", ())
    assert version.bundle_sha256 == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    assert done[-1][0] == done[-1][1] == sum(path.stat().st_size for path in folder.iterdir())
    with api.database.transaction() as session:
        row = rows.get(session, version.id)
    assert row is not None
    for path in folder.iterdir():
        assert api.store.get_bytes(keys.bundle_file(row.bundle_key, path.name)) == path.read_bytes()
    assert client.version("first") == client.version(version.id) == version
    assert version.id in {found.id for found in client.versions()}
    assert client.register_version(folder, name="first").id == version.id


def test_other_weights_under_a_name_are_refused(client: Client, tmp_path: Path):
    client.register_version(folder_of(tmp_path, "taken"), name="taken")
    other = folder_of(tmp_path, "other", licence="MIT")
    with pytest.raises(ApiError, match="409 version_name_taken"):
        client.register_version(other, name="taken")


def test_what_does_not_fit_its_manifest(client: Client, http: httpx.Client, tmp_path: Path):
    def refused(folder: Path) -> list[tuple[str, str]]:
        with pytest.raises(ApiError) as caught:
            client.register_version(folder, name="bad")
        assert caught.value.status == 422
        return [(error.pointer, error.code) for error in caught.value.errors] or [("", caught.value.code)]

    changed = folder_of(tmp_path, "changed")
    (changed / "audio.safetensors").write_bytes(b"other")
    (changed / "extra.txt").write_bytes(b"x")
    (changed / "generator.safetensors").unlink()
    assert refused(changed) == [
        ("/files", "bundle_incomplete"),
        ("/files/0/asset_id", "bundle_corrupt"),
        ("/files/1/path", "path_not_in_manifest"),
    ]
    bare = folder_of(tmp_path, "bare")
    (bare / "manifest.json").unlink()
    assert refused(bare) == [("/files", "manifest_missing")]
    for n, text in enumerate(("{", "[]", '{"files": {}}', '{"files": {"a": 1}, "trained": true, "licence": "x"}')):
        broken = folder_of(tmp_path, f"broken{n}")
        (broken / "manifest.json").write_text(text)
        assert refused(broken) == [("", "manifest_invalid")]
    asset = client.upload(bare / "audio.safetensors")
    files = [{"path": path, "asset_id": asset.id} for path in ("../up", "/etc/x", "a", "a")]
    answer = http.post("/v1/models/pdfgc/versions", json={"name": "bad", "files": files})
    assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [
        ("/files/0/path", "path_refused"),
        ("/files/1/path", "path_refused"),
        ("/files/3/path", "path_repeated"),
    ]
    for name in ("", "a b", "-x", "x" * 101):
        assert http.post("/v1/models/pdfgc/versions", json={"name": name, "files": files}).status_code == 422


@pytest.mark.usefixtures("champion_kept")
def test_aliases_move_and_go_back(client: Client, champion_kept: str, tmp_path: Path):
    new = client.register_version(folder_of(tmp_path, "new"), name="new")
    before = client.submit(items())
    moved = client.set_alias("champion", "new")
    assert (moved.alias, moved.version, moved.previous) == ("champion", new.id, champion_kept)
    assert client.version("champion").id == new.id
    assert "champion" in client.version("new").aliases
    after = client.submit(items())
    assert client.batch(before.id).model_version == champion_kept
    assert after.model_version == new.id
    back = client.rollback("champion")
    assert (back.version, back.previous) == (champion_kept, new.id)
    assert client.batch(after.id).model_version == new.id
    assert client.submit(items(), model=new.id).model_version == new.id
    assert client.submit(items(), model="new").model_version == new.id


def test_what_is_not_there(client: Client, http: httpx.Client):
    with pytest.raises(ApiError, match="404 not_found"):
        client.version("nothing")
    with pytest.raises(ApiError) as caught:
        client.set_alias("champion", "nothing")
    assert [(e.pointer, e.code) for e in caught.value.errors] == [("/version", "version_not_found")]
    with pytest.raises(ApiError, match="404 not_found"):
        client.rollback("no-such-alias")
    assert http.put("/v1/models/pdfgc/aliases/a%20b", json={"version": "x"}).json()["code"] == "alias_invalid"


def test_an_alias_with_one_version_has_no_way_back(client: Client, champion_kept: str):
    client.set_alias("only-once", champion_kept)
    with pytest.raises(ApiError, match="409 nothing_to_roll_back"):
        client.rollback("only-once")
