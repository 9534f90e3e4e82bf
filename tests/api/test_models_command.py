"""`dubfarm models …` against a live API."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from farm.client import Client
from farm.domain.alias import BundleNote, BundleState
from farm.flow import staging, workers
from farm.flow.workers import WorkerFacts
from tests.api.conftest import OPERATORS, Api, Dubfarm, admin_of
from tests.api.test_models import evaluated, folder_of


@pytest.fixture
def key(api: Api) -> Iterator[str]:
    """Models are changed by the tenant that runs the farm; champion is put back, and nobody works meanwhile."""
    with api.database.transaction() as session:
        session.execute(sa.text("update workers set left_at = now()"))
    with admin_of(api, OPERATORS) as key, Client(api.url, key) as client:
        before = client.version("champion").id
        yield key
        client.set_gate(None)
        client.set_alias("champion", before, force=True)
        if any(alias.alias == "canary" for alias in client.aliases()):
            client.set_alias("canary", before, canary_share=0.0, force=True)


def test_a_bundle_becomes_champion_and_goes_back(dubfarm: Dubfarm, client: Client, tmp_path: Path) -> None:
    before = client.version("champion")
    name = f"command-{tmp_path.name}"
    folder = folder_of(tmp_path, "bundle")
    code, told = dubfarm("models", "register", folder, "--name", name, "--parent", before.name)
    assert (code, told["name"], told["lineage"]["parent"], told["aliases"]) == (0, name, before.id, [])
    assert dubfarm("models", "register", folder, "--name", name)[1]["id"] == told["id"]
    assert told["id"] in [version["id"] for version in dubfarm("models", "list")[1]]
    code, moved = dubfarm("models", "promote", name, "--force")
    assert (code, moved["alias"], moved["version"], moved["previous"]) == (0, "champion", told["id"], before.id)
    assert dubfarm("models", "show")[1]["id"] == told["id"]
    code, shown = dubfarm.shown("models", "show", name)
    assert code == 0
    assert f"{name}  {told['id']}  champion" in shown
    assert dubfarm("models", "rollback")[1]["version"] == before.id
    moves = dubfarm("models", "history")[1]
    assert [(move["kind"], move["version"]) for move in moves[:2]] == [("rollback", before.id), ("promote", told["id"])]
    assert name in dubfarm.shown("models", "history")[1]


def test_the_gate_refuses_by_command_and_force_goes_past_it(dubfarm: Dubfarm, client: Client, tmp_path: Path) -> None:
    client.set_gate([{"metric": "psnr", "direction": "up", "margin": 0.5}])
    good = evaluated(client, tmp_path, f"good-{tmp_path.name}")
    client.set_alias("champion", good.id, force=True)
    worse = evaluated(client, tmp_path, f"worse-{tmp_path.name}", psnr=19.0)
    code, told = dubfarm("models", "promote", worse.name)
    assert (code, told["error"]["code"]) == (2, "gate_refused")
    assert [error["code"] for error in told["error"]["errors"]] == ["below_the_gate"]
    code, shown = dubfarm.shown("models", "show", worse.name)
    assert "the gate: refused" in shown
    assert "psnr below: 19; needed at least 19.5" in shown
    code, shown = dubfarm.shown("models", "promote", worse.name, "--alias", "canary", "--share", 0.25, "--force")
    assert code == 0
    assert f"canary is now {worse.name} for 25% of new jobs" in shown
    code, told = dubfarm("models", "compare")
    assert (code, told["champion"], told["canary"], told["canary_share"]) == (0, good.id, worse.id, 0.25)
    assert "no chunk of theirs has been rendered yet" in dubfarm.shown("models", "compare")[1]
    assert "promote, forced" in dubfarm.shown("models", "history", "--alias", "canary")[1]


def test_a_promotion_ends_where_a_worker_finds_the_version_unusable(
    dubfarm: Dubfarm, client: Client, api: Api, tmp_path: Path
) -> None:
    name = f"useless-{tmp_path.name}"
    version = client.register_version(folder_of(tmp_path, "bundle"), name=name)
    facts = WorkerFacts(f"wrk_{tmp_path.name}", "here", "cpu", ["render"])
    with api.database.transaction() as session:
        workers.register(session, facts)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(dubfarm, "models", "promote", name, "--force")
        while client.alias("champion").staged is None:
            assert not waiting.done(), waiting.result()
        with api.database.transaction() as session:
            note = BundleNote(BundleState.UNUSABLE, "weights_not_finite: [fc].bias")
            staging.report(session, facts.id, ["render"], {version.id: note})
        code, told = waiting.result()
    assert (code, told["error"]["code"]) == (2, "version_unusable")
    assert client.version("champion").id != version.id
    assert dubfarm("models", "promote", name, "--force")[1]["error"]["code"] == "version_unusable"
    assert "no worker can render with it: weights_not_finite: [fc].bias" in dubfarm.shown("models", "show", name)[1]
    with api.database.transaction() as session:
        workers.leave(session, facts.id)


def test_mistakes_end_with_2(dubfarm: Dubfarm, tmp_path: Path) -> None:
    bad = folder_of(tmp_path, "bad")
    (bad / "audio.safetensors").write_bytes(b"other")
    for arguments, expected in (
        (("register", bad, "--name", "bad"), "invalid"),
        (("register", tmp_path, "--name", "bad"), "bundle_missing"),
        (("show", "no-such"), "not_found"),
        (("promote", "no-such"), "not_found"),
        (("promote", "champion", "--share", "2"), "usage"),
        (("promote", "champion", "--share", "0.5"), "share_refused"),
        (("rollback", "--alias", "no-such"), "not_found"),
        (("compare", "no-such"), "invalid"),
    ):
        code, told = dubfarm("models", *arguments)
        assert (code, told["error"]["code"]) == (2, expected), arguments


def test_a_seeded_bundle_is_registered_and_told_how_to_use_it(dubfarm: Dubfarm) -> None:
    code, shown = dubfarm.shown("models", "seed", "--seed", 5)
    assert code == 0
    assert "tiny-untrained-5 is registered as ver_" in shown
    assert "dubfarm models promote tiny-untrained-5" in shown
    assert dubfarm("models", "show", "tiny-untrained-5")[1]["trained"] is False
