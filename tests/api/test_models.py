"""Versions and aliases over HTTP."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

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


@pytest.fixture(autouse=True)
def _nobody_works(api: Api) -> None:
    """Aliases wait for workers that serve; other tests' would never fetch a thing."""
    with api.database.transaction() as session:
        session.execute(sa.text("update workers set left_at = now()"))


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


EVALUATION = {"evaluation_set": "a", "psnr": 20.0, "leak": {"largest": 0.1}}


@pytest.fixture
def champion(client: Client, champion_kept: str, tmp_path: Path) -> Iterator[str]:
    """A trained and evaluated version is champion, behind a gate of the test's own."""
    client.set_gate([{"metric": "psnr", "direction": "up", "margin": 0.5}])
    good = evaluated(client, tmp_path, f"good-{tmp_path.name}")
    client.set_alias("champion", good.id)
    yield good.id
    client.set_gate(None)
    client.set_alias("champion", champion_kept, force=True)


def evaluated(client: Client, tmp_path: Path, name: str, **numbers: Any) -> Any:
    """A run's folder, registered."""
    out = tmp_path / f"run-{name}"
    out.mkdir()
    folder_of(out, "bundle", trained=True, source="puppets (corpus 0123456789ab)", seed=7)
    (out / "evaluation.json").write_text(json.dumps(EVALUATION | numbers))
    (out / "report.html").write_text("<h1>good</h1>")
    (out / "recipe.json").write_text(json.dumps({"name": "smoke"}))
    (out / "grids").mkdir()
    (out / "grids" / "last.png").write_bytes(b"\x89PNG")
    return client.register_version(out, name=name)


def test_a_run_is_shown_with_lineage_gate_and_report(client: Client, http: httpx.Client, champion: str, tmp_path: Path):
    worse = evaluated(client, tmp_path, f"worse-{tmp_path.name}", psnr=19.0)
    assert worse.lineage is not None
    assert (worse.lineage.recipe, worse.lineage.dataset_version, worse.lineage.seeds) == ("smoke", "0123456789ab", (7,))
    assert worse.evaluation == EVALUATION | {"psnr": 19.0}
    assert worse.gate is not None
    assert (worse.gate.passed, worse.gate.champion) == (False, champion)
    assert worse.gate.reasons[0].startswith("psnr: 19; needed at least 19.5")
    assert set(worse.report) == {"evaluation.json", "grids/last.png", "recipe.json", "report.html"}
    page = http.get(worse.report["report.html"]["url"])
    assert (page.text, page.headers["content-type"].split(";")[0]) == ("<h1>good</h1>", "text/html")
    assert page.headers["content-security-policy"].startswith("sandbox")
    assert http.get(worse.report["grids/last.png"]["url"]).content == b"\x89PNG"
    assert http.get(f"/v1/models/pdfgc/versions/{worse.id}/report/bundle/manifest.json").status_code == 404


def test_the_gate_over_http(client: Client, http: httpx.Client, champion: str, tmp_path: Path):
    worse = evaluated(client, tmp_path, f"worse-{tmp_path.name}", psnr=19.0)
    with pytest.raises(ApiError) as caught:
        client.set_alias("champion", worse.id)
    assert (caught.value.status, caught.value.code) == (409, "gate_refused")
    assert [(e.pointer, e.code) for e in caught.value.errors] == [("/version", "below_the_gate")]
    assert client.version("champion").id == champion
    assert client.gate().rules[0].metric == "psnr"
    wrong = http.put("/v1/models/pdfgc/gate", json={"rules": [{"metric": "a..b", "direction": "up"}]}).json()
    assert [(e["pointer"], e["code"]) for e in wrong["errors"]] == [
        ("/rules/0/metric", "metric_invalid"),
        ("/rules/0", "rule_empty"),
    ]
    moved = client.set_alias("champion", worse.id, force=True)
    newest = next(client.alias_moves("champion"))
    assert (moved.version, newest.forced, newest.kind) == (worse.id, True, "promote")
    assert newest.reasons[0].startswith("psnr: 19")
    assert client.rollback("champion").version == champion
    assert client.set_gate(None).is_default


def test_a_canary_over_http(client: Client, http: httpx.Client, champion: str, tmp_path: Path):
    new = evaluated(client, tmp_path, f"new-{tmp_path.name}")
    moved = client.set_alias("canary", new.id, canary_share=1.0)
    assert (moved.version, moved.canary_share, moved.staged) == (new.id, 1.0, None)
    batch = client.submit(items())
    (job,) = client.jobs(batch.id)
    assert (batch.model_version, job.model_version, job.cohort) == (champion, new.id, "canary")
    found = client.compare()
    assert (found.champion, found.canary, found.canary_share, found.scores) == (champion, new.id, 1.0, ())
    refused = http.put("/v1/models/pdfgc/aliases/champion", json={"version": new.id, "canary_share": 0.5}).json()
    assert refused["code"] == "share_refused"
    assert client.set_alias("canary", new.id, canary_share=0.0).canary_share == 0.0
    assert [move.kind for move in client.alias_moves("canary")][:2] == ["share", "promote"]


def test_whoever_comes_too_late_gets_a_412(client: Client, http: httpx.Client, champion: str):
    seen = client.alias("champion").revision
    url = "/v1/models/pdfgc/aliases/champion"
    late = http.put(url, json={"version": champion}, headers={"If-Match": f'"{seen - 1}"'})
    assert (late.status_code, late.json()["code"]) == (412, "alias_moved")
    assert http.put(url, json={"version": champion}, headers={"If-Match": str(seen)}).status_code == 200
    assert http.post(f"{url}/rollback", headers={"If-Match": "x"}).json()["code"] == "if_match_invalid"
    assert http.post(f"{url}/rollback", headers={"If-Match": f'"{seen - 1}"'}).status_code == 412
    again = {"Idempotency-Key": f"back-{seen}"}
    first = http.post(f"{url}/rollback", headers=again)
    second = http.post(f"{url}/rollback", headers=again)
    assert first.status_code == second.status_code == 200
    assert first.json() == second.json()
    assert second.headers["Idempotent-Replayed"] == "true"
