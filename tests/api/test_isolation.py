"""Tenants see only what is theirs: for every route of the app, another tenant's ids name nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from api.v1 import assets, audit, batches, fleet, jobs, keys, models, service, webhooks
from tests.api.conftest import Api
from tests.api.hands import Hands

MODULES = (batches, jobs, assets, models, fleet, keys, audit, webhooks, service)
ROUTES = [
    (method, route)
    for module in MODULES
    for route in module.router.routes
    if isinstance(route, APIRoute)
    for method in sorted(route.methods)
]
OPEN = {"/healthz", "/readyz", "/metrics"}
OWNED = {"batch_id", "job_id", "asset_id", "key_id", "endpoint_id", "delivery_id"}
# Belong to the farm, not to a tenant: what they show of jobs is tested below.
SHARED = {"worker_id", "model", "version", "alias"}
BODIES: dict[str, Any] = {
    "set_batch_priority": {"priority": 1},
    "set_job_priority": {"priority": 1},
    "set_alias": {"version": "x"},
    "create_key": {"name": "x"},
    "submit_batch": {"items": []},
    "register_version": {"name": "x", "files": []},
    "create_endpoint": {"url": "x"},
    "change_endpoint": {"description": "x"},
    "replay_since": {"since": "2026-01-01T00:00:00Z"},
}


@pytest.fixture(scope="module")
def theirs(api: Api) -> dict[str, str]:
    """Ids of another tenant, with everything that a job can have."""
    with api.http(api.key("the other tenant")) as http:
        item = {
            "custom_id": "secret-project",
            "kind": "dub",
            "video": {"uri": "s3://b/v.mp4"},
            "audio": {"uri": "s3://b/a.wav"},
        }
        batch_id = http.post("/v1/batches", json={"items": [item], "name": "secret-project"}).json()["id"]
        job_id = http.get(f"/v1/batches/{batch_id}/jobs").json()["data"][0]["id"]
        Hands(api.database, api.store).make(job_id)
        asset = http.post("/v1/assets", json={"filename": "secret-project.mp4"}).json()
        made = http.post("/v1/keys", json={"name": "secret-project"}).json()
        hook = {"url": "https://example.com/secret-project"}
        endpoint_id = http.post("/v1/webhook-endpoints", json=hook).json()["id"]
        delivery_id = http.post(f"/v1/webhook-endpoints/{endpoint_id}/ping").json()["id"]
        return {
            "batch_id": batch_id,
            "job_id": job_id,
            "asset_id": asset["id"],
            "key_id": made["id"],
            "endpoint_id": endpoint_id,
            "delivery_id": delivery_id,
        }


@pytest.fixture(scope="module")
def mine(api: Api) -> Iterator[httpx.Client]:
    with api.http(api.key("this tenant")) as http:
        yield http


def path_of(route: APIRoute, ids: dict[str, str]) -> str:
    path = route.path
    for name in route.param_convertors:
        path = path.replace("{" + name + "}", ids.get(name, "x"))
    return path


@pytest.mark.parametrize(("method", "route"), ROUTES, ids=[f"{m} {r.path}" for m, r in ROUTES])
def test_another_tenants_ids_name_nothing(
    api: Api, mine: httpx.Client, theirs: dict[str, str], method: str, route: APIRoute
):
    names = set(route.param_convertors)
    assert names <= OWNED | SHARED, "a new kind of id: say whose it is"
    path = path_of(route, theirs)
    body = BODIES.get(route.name)
    if names & OWNED:
        with mine.stream(method, path, json=body) as answer:
            answer.read()
            assert answer.status_code == 404, answer.text
            assert answer.json()["code"] == "not_found"
            assert "secret-project" not in answer.text
    if route.path not in OPEN:
        with api.http(None) as nobody:
            assert nobody.request(method, path, json=body).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/v1/batches",
        "/v1/assets",
        "/v1/keys",
        "/v1/audit",
        "/v1/webhook-endpoints",
        "/v1/workers",
        "/v1/queues",
        "/v1/models/pdfgc/versions",
    ],
)
def test_lists_hold_nothing_of_others(mine: httpx.Client, theirs: dict[str, str], path: str):
    answer = mine.get(path)
    assert answer.status_code == 200
    for id in theirs.values():
        assert id not in answer.text
    assert "secret-project" not in answer.text


def test_others_assets_cannot_be_named(api: Api, mine: httpx.Client, theirs: dict[str, str]):
    item = {
        "custom_id": "a",
        "kind": "dub",
        "video": {"asset_id": theirs["asset_id"]},
        "audio": {"uri": "s3://b/a.wav"},
    }
    answer = mine.post("/v1/batches", json={"items": [item]})
    assert [e["code"] for e in answer.json()["errors"]] == ["asset_not_found"]
    files = [{"path": "manifest.json", "asset_id": theirs["asset_id"]}]
    answer = mine.post("/v1/models/pdfgc/versions", json={"name": "x", "files": files})
    assert [e["code"] for e in answer.json()["errors"]] == ["asset_not_found"]


def test_a_worker_shows_its_job_to_the_owner_only(api: Api, mine: httpx.Client):
    with api.http(api.key("a tenant at work")) as http:
        item = {"custom_id": "a", "kind": "dub", "video": {"uri": "s3://b/v"}, "audio": {"uri": "s3://b/a"}}
        batch_id = http.post("/v1/batches", json={"items": [item]}).json()["id"]
        job_id = http.get(f"/v1/batches/{batch_id}/jobs").json()["data"][0]["id"]
        hands = Hands(api.database, api.store)
        hands.plan(job_id)
        hands.render_one(job_id, settle_it=False)

        def seen(client: httpx.Client) -> dict[str, Any]:
            (row,) = (row for row in client.get("/v1/workers").json()["data"] if row["id"] == hands.worker_id)
            return row

        assert seen(http)["job_id"] == job_id
        assert seen(http)["chunk_id"]
        assert seen(http)["status"] == "busy"
        assert seen(mine)["job_id"] is None
        assert seen(mine)["chunk_id"] is None
        http.post(f"/v1/batches/{batch_id}/cancel")


def test_idempotency_keys_are_each_tenants_own(api: Api):
    bodies = [{"filename": "one"}, {"filename": "two"}]
    answers = []
    for n, body in enumerate(bodies):
        with api.http(api.key(f"idempotent {n}"), **{"Idempotency-Key": "the same"}) as http:
            answers.append(http.post("/v1/assets", json=body))
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json()["id"] != answers[1].json()["id"]
