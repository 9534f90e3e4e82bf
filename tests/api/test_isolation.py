"""Tenants see only what is theirs, and keys do only what they may: every operation of the OpenAPI document is tried.

Nothing here lists routes: a new one is found in the document, and fails until it is said whose ids it takes (OWNED,
SHARED), what body it wants (BODIES) and which scope (SCOPES).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from farm.domain.tenant import Scope
from tests.api.conftest import OPERATORS as RUNS_THE_FARM
from tests.api.conftest import Api
from tests.api.hands import Hands

OWNED = {"batch_id", "job_id", "asset_id", "key_id", "endpoint_id", "delivery_id"}
# Belong to the farm, not to a tenant; what they show of jobs is tested below.
SHARED = {"worker_id": "wrk_none", "model": "pdfgc", "version": "api-tests", "alias": "nobody", "file": "none"}
# What only the tenant that runs the farm may ask: of other tenants, and changes to what all share.
OPERATORS = {"tenant_id", "run_id", "schedule", "grid", "clip"}
SECRET = "secret-project"


@dataclass(frozen=True)
class Operation:
    name: str
    method: str
    path: str
    ids: tuple[str, ...]
    scopes: frozenset[str] | None
    has_body: bool
    is_operators: bool

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@cache
def app() -> FastAPI:
    return create_app(None, None, None, lambda *_: None, lambda: None)  # type: ignore[arg-type]


def operations() -> list[Operation]:
    found = []
    for path, methods in app().openapi()["paths"].items():
        for method, operation in methods.items():
            ids = tuple(p["name"] for p in operation.get("parameters", ()) if p["in"] == "path")
            found.append(
                Operation(
                    operation["operationId"],
                    method.upper(),
                    path,
                    ids,
                    frozenset(operation["x-scopes"]) if "x-scopes" in operation else None,
                    "requestBody" in operation,
                    operation.get("x-operator", False),
                )
            )
    return found


OPERATIONS = operations()
# Bodies that pass validation, so that what is refused is refused for whose it is.
BODIES: dict[str, Any] = {
    "set_batch_priority": {"priority": 1},
    "set_job_priority": {"priority": 1},
    "set_alias": {"version": "x"},
    "give_consent": {"statement": "x"},
    "set_gate": {"rules": [{"metric": "", "direction": "up"}]},
    "set_canary_rules": {"rules": {"watched": [{"score": "", "tolerance": 0}]}},
    "create_key": {"name": "x"},
    "create_tenant_key": {"name": "x"},
    "submit_batch": {"items": []},
    "register_version": {"name": "x", "files": []},
    "create_tenant": {"name": "x", "weight": -1},
    "set_tenant": {"weight": 2.0},
    "create_asset": {"size_bytes": 0},
    "complete_asset": {},
    "put_bytes": b"bytes",
    "create_endpoint": {"url": "x"},
    "change_endpoint": {"description": "x"},
    "replay_since": {"since": "2026-01-01T00:00:00Z"},
    "rotate_secret": {},
    "create_run": {"recipe": "smoke"},
    "put_schedule": {"recipe": "smoke", "cron": "0 3 * * 0"},
}


@pytest.fixture(scope="module")
def theirs(api: Api) -> dict[str, str]:
    """Ids of another tenant, with everything that a job can have."""
    with api.http(api.key("the other tenant")) as http:
        item = {"custom_id": SECRET, "kind": "dub", "video": {"uri": "s3://b/v.mp4"}, "audio": {"uri": "s3://b/a.wav"}}
        rights = {"basis": "consent", "statement": SECRET}
        batch = http.post("/v1/batches", json={"items": [item], "name": SECRET, "rights": rights}).json()
        job_id = http.get(f"/v1/batches/{batch['id']}/jobs").json()["data"][0]["id"]
        Hands(api.database, api.store).make(job_id)
        asset = http.post("/v1/assets", json={"filename": f"{SECRET}.mp4"}).json()
        key = http.post("/v1/keys", json={"name": SECRET}).json()
        found = {"batch_id": batch["id"], "job_id": job_id, "asset_id": asset["id"], "key_id": key["id"]}
        found["tenant_id"] = http.get("/v1/usage").json()["tenant_id"]
        hook = http.post("/v1/webhook-endpoints", json={"url": f"https://example.com/{SECRET}"}).json()
        ping = http.post(f"/v1/webhook-endpoints/{hook['id']}/ping").json()
        found |= {"endpoint_id": hook["id"], "delivery_id": ping["id"]}
    with api.http(api.key(RUNS_THE_FARM)) as http:
        run = http.post("/v1/training-runs", json={"recipe": "smoke"}).json()
        http.put("/v1/training-schedules/operators", json={"recipe": "smoke", "cron": "0 3 * * 0", "paused": True})
    return found | {"run_id": run["id"], "schedule": "operators", "grid": "a-grid.png", "clip": job_id}


@pytest.fixture(scope="module")
def mine(api: Api) -> Iterator[httpx.Client]:
    with api.http(api.key("this tenant")) as http:
        yield http


@pytest.fixture(scope="module")
def of_scope(api: Api) -> Iterator[dict[Scope | None, httpx.Client]]:
    """A client with a key of each scope, and one without a key."""
    clients = {scope: api.http(None if scope is None else api.key("scopes", scope)) for scope in (None, *Scope)}
    yield clients
    for client in clients.values():
        client.close()


def asked(operation: Operation, ids: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """The path, and what else the request needs."""
    path = operation.path
    for name in operation.ids:
        assert name in ids or name in SHARED, f"a new kind of id, {name}: say whose it is"
        path = path.replace("{" + name + "}", ids.get(name) or SHARED[name])
    if not operation.has_body:
        return path, {}
    assert operation.name in BODIES, f"{operation.name} takes a body: say one"
    body = BODIES[operation.name]
    is_bytes = isinstance(body, bytes)
    content = body if is_bytes else json.dumps(body).encode()
    return path, {"content": content, "headers": {"Content-Type": "image/png" if is_bytes else "application/json"}}


def test_every_id_is_somebodys():
    assert {name for operation in OPERATIONS for name in operation.ids} <= OWNED | OPERATORS | SHARED.keys()
    for operation in OPERATIONS:
        if set(operation.ids) & OPERATORS or (operation.method != "GET" and set(operation.ids) & SHARED.keys()):
            assert operation.is_operators, f"{operation} changes what is not one tenant's"
    assert {operation.name for operation in OPERATIONS if operation.scopes is None} == {"healthz", "readyz", "metrics"}


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_another_tenants_ids_name_nothing(api: Api, mine: httpx.Client, theirs: dict[str, str], operation: Operation):
    path, sent = asked(operation, theirs)
    if set(operation.ids) & OWNED:
        answer = mine.request(operation.method, path, **sent)
        assert answer.status_code == 404, answer.text
        assert operation.method == "HEAD" or answer.json()["code"] == "not_found"
        assert SECRET not in answer.text
    elif operation.is_operators:
        answer = mine.request(operation.method, path, **sent)
        assert (answer.status_code, answer.json()["code"]) == (403, "operator_only")
        assert SECRET not in answer.text


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.method == "GET" and not set(o.ids) & OWNED], ids=str)
def test_lists_hold_nothing_of_others(mine: httpx.Client, theirs: dict[str, str], operation: Operation):
    path, _ = asked(operation, theirs)
    answer = mine.get(path)
    assert answer.status_code < 500
    shown = answer.text.replace(answer.request.url.path, "")  # a problem says what was asked for
    for id in theirs.values():
        assert id not in shown
    assert SECRET not in shown


@pytest.mark.parametrize("scope", [None, *Scope], ids=str)
@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.scopes is not None], ids=str)
def test_scopes(
    of_scope: dict[Scope | None, httpx.Client], theirs: dict[str, str], operation: Operation, scope: Scope | None
):
    """Every operation with a key of every scope, and with none: in exactly where the document says so."""
    assert operation.scopes is not None
    path, sent = asked(operation, theirs)
    answer = of_scope[scope].request(operation.method, path, **sent)
    if scope is None:
        assert answer.status_code == 401
        return
    code = "" if operation.method == "HEAD" or answer.is_success else answer.json()["code"]
    may = scope in operation.scopes or scope is Scope.ADMIN
    if may:
        assert answer.status_code not in (401,), answer.text
        assert code != "scope_missing"
    else:
        assert answer.status_code == 403
        assert code in ("scope_missing", "")


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
    with api.http(api.key(RUNS_THE_FARM)) as operators:
        answer = operators.post("/v1/models/pdfgc/versions", json={"name": "x", "files": files})
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
