"""Consent to training: given with a dub or later, withdrawn, exported by it, and by nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from farm.client import ApiError, Client
from farm.db import media
from farm.domain.order import Blob
from farm.storage import keys
from tests.api.conftest import OPERATORS, Api, Dubfarm, admin_of
from tests.api.hands import Hands
from tests.api.test_batches import items
from trainer.prepare.source import Source

YES = {"statement": "Ada, in writing, 2026-03-01", "reference": "form 7"}


@pytest.fixture
def dubfarm(api: Api, capsys: pytest.CaptureFixture[str]) -> Iterator[Dubfarm]:
    """With a key of the tenant that runs the farm."""
    with admin_of(api, OPERATORS) as key:
        yield Dubfarm(api, key, capsys)


def stored(api: Api, text: str) -> Blob:
    """A source video as a worker fetches it."""
    data = text.encode()
    key = keys.input(hashlib.sha256(data).hexdigest())
    with api.database.transaction() as session:
        media.reserve(session, key)
    return api.store.put_bytes(data, key)


def dubbed(client: Client, hands: Hands, source: Blob, **item: Any) -> str:
    """A finished dub of it."""
    (job,) = client.jobs(client.submit([items()[0] | item]).id)
    hands.make(job.id, source)
    return job.id


def listed(dubfarm: Dubfarm) -> set[str]:
    with Client(dubfarm.api.url, dubfarm.key) as client:
        return {clip.job_id for clip in client.training.clips()}


def test_only_finished_dubs_with_consent_are_listed(api: Api, client: Client, hands: Hands, dubfarm: Dubfarm) -> None:
    silent = dubbed(client, hands, stored(api, "silent"))
    with_it = dubbed(
        client, hands, stored(api, "with"), training_consent=YES, rights={"basis": "own", "statement": "I"}
    )
    (open_one,) = client.jobs(client.submit([items()[0] | {"training_consent": YES}]).id)
    assert {silent, open_one.id} & listed(dubfarm) == set()
    assert with_it in listed(dubfarm)
    with Client(api.url, dubfarm.key) as operator:
        clip = next(clip for clip in operator.training.clips() if clip.job_id == with_it)
    assert (clip.statement, clip.reference, clip.source.size_bytes) == (*YES.values(), 4)
    assert clip.rights is not None
    assert (clip.rights.basis, clip.asked_by) == ("own", client.training_consent(with_it).asked_by)
    later = client.consent_to_training(silent, "Ada agrees")
    assert later.asked_by is not None
    assert silent in listed(dubfarm)
    with pytest.raises(ApiError, match="404 not_found"):
        client.training_consent(dubbed(client, hands, stored(api, "other")))


def test_who_may_ask_and_for_what(api: Api, client: Client, http: httpx.Client, hands: Hands, dubfarm: Dubfarm) -> None:
    job_id = dubbed(client, hands, stored(api, "mine"), training_consent=YES)
    assert http.get("/v1/training-clips").json()["code"] == "operator_only"
    assert http.get(f"/v1/training-clips/{job_id}/source").json()["code"] == "operator_only"
    with api.http(dubfarm.key) as operator:
        assert operator.get(f"/v1/training-clips/{job_id}/source").content == b"mine"
        other = dubbed(client, hands, stored(api, "not given"))
        assert operator.get(f"/v1/training-clips/{other}/source").status_code == 404
        for method in ("GET", "DELETE"):
            assert operator.request(method, f"/v1/jobs/{job_id}/training-consent").status_code == 404
    still = {"custom_id": "a", "kind": "animate", "image": {"uri": "s3://b/i.png"}, "audio": items()[0]["audio"]}
    told = http.post("/v1/batches", json={"items": [still | {"training_consent": YES}]}).json()
    assert [(e["pointer"], e["code"]) for e in told["errors"]] == [("/items/0/training_consent", "field_unknown")]
    (job,) = client.jobs(client.submit([still]).id)
    assert http.put(f"/v1/jobs/{job.id}/training-consent", json=YES).json()["code"] == "no_source_video"
    assert http.put(f"/v1/jobs/{job_id}/training-consent", json={"statement": ""}).status_code == 422


def test_a_withdrawal_takes_the_bytes_out_whoever_has_them_and_is_audited(
    api: Api, client: Client, hands: Hands, dubfarm: Dubfarm
) -> None:
    same = stored(api, "the same bytes")
    first, second = (dubbed(client, hands, same, training_consent=YES) for _ in range(2))
    deleted = dubbed(client, hands, stored(api, "to be deleted"), training_consent=YES)
    assert {first, second, deleted} <= listed(dubfarm)
    client.delete_job(deleted)
    gone = client.withdraw_consent(first)
    assert (gone.withdrawn_at is not None, gone.withdrawn_by) == (True, gone.asked_by)
    assert client.withdraw_consent(first) == gone
    assert {first, second, deleted} & listed(dubfarm) == set()
    told = [(entry.action, entry.detail.get("statement")) for entry in client.audit(subject=first)]
    assert told == [("training_consent.withdrawn", YES["statement"])]
    client.consent_to_training(first, "Ada agrees again")
    assert {first, second} <= listed(dubfarm)
    actions = [entry.action for entry in client.audit(subject=first)]
    assert actions == ["training_consent.given", "training_consent.withdrawn"]


def test_the_folder_follows_consent(
    api: Api,
    client: Client,
    hands: Hands,
    dubfarm: Dubfarm,
    key: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the trainer's layout, by its own reader; each video once; out again after a withdrawal."""
    folder = tmp_path / "clips"
    kept, leaving = stored(api, "kept"), stored(api, "leaving")
    dubbed(client, hands, kept, training_consent=YES)
    dubbed(client, hands, kept, training_consent=YES)
    job_id = dubbed(client, hands, leaving, training_consent=YES)
    code, told = dubfarm("train", "clips", folder)
    assert code == 0
    assert told["fetched"] == told["clips"] >= 2
    files = {item.identity: folder / item.key for item in Source(str(folder)).items()}
    assert files[kept.sha256[:32]].read_bytes() == b"kept"
    consented = {entry["sha256"]: entry for entry in json.loads((folder / "consented.json").read_text())}
    assert [of["statement"] for of in consented[kept.sha256]["consents"]] == [YES["statement"]] * 2
    assert dubfarm("train", "clips", folder)[1]["fetched"] == 0
    mine = Dubfarm(api, key, dubfarm.capsys)
    assert mine("job", "consent", job_id)[1]["reference"] == "form 7"
    code, shown = mine.shown("job", "consent", job_id, "--withdraw")
    assert (code, "withdrawn" in shown) == (0, True)
    assert dubfarm("train", "clips", folder)[1]["removed"] == 1
    assert not files[leaving.sha256[:32]].exists()
    assert leaving.sha256 not in (folder / "consented.json").read_text()
    assert mine("job", "consent", job_id, "--statement", "again")[1]["withdrawn_at"] is None
    assert mine("job", "consent", job_id, "--statement", "x", "--withdraw")[1]["error"]["code"] == "consent_ambiguous"
    assert mine("job", "consent", job_id, "--reference", "x")[1]["error"]["code"] == "statement_missing"
    assert mine("train", "clips", tmp_path / "mine")[0] == 3
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "holiday.mp4").touch()
    code, told = dubfarm("train", "clips", tmp_path / "others")
    assert (code, told["error"]["code"]) == (2, "folder_not_empty")
