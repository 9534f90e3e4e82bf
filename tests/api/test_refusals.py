"""Every refusal is an RFC 9457 problem with a request id."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.errors import STATUS_OF_CODE
from farm.db.session import connect
from farm.domain.tenant import Scope
from tests.api.conftest import OPERATORS, Api, Starter

NOWHERE = "job_" + "0" * 32
ROOT = Path(__file__).resolve().parents[2]


def check(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json().get("code")) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) == {
        "type", "title", "status", "detail", "instance", "code", "retryable", "request_id", "errors",
    }  # fmt: skip
    assert problem["status"] == status
    assert problem["type"] == f"urn:dubfarm:error:{code}"
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert re.fullmatch(r"req_[0-9a-f]{32}", problem["request_id"])
    assert problem["instance"] == answer.request.url.path
    return problem


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "code"),
    [
        ("GET", "/nothing", {}, 404, "not_found"),
        ("GET", "/v1/nothing/here", {}, 404, "not_found"),
        ("GET", f"/v1/jobs/{NOWHERE}", {}, 404, "not_found"),
        ("GET", "/v1/jobs/not-an-id", {}, 404, "not_found"),
        ("GET", "/v1/jobs/%00", {}, 404, "not_found"),
        ("GET", "/v1/jobs/%FF", {}, 404, "not_found"),
        ("GET", "/v1/models/other/versions", {}, 404, "not_found"),
        ("DELETE", "/v1/batches", {}, 405, "method_not_allowed"),
        ("PUT", "/v1/jobs/x/output", {}, 405, "method_not_allowed"),
        ("POST", "/v1/batches", {"content": b"{"}, 400, "malformed_json"),
        ("POST", "/v1/batches", {"content": b""}, 400, "malformed_json"),
        ("POST", "/v1/assets", {"content": b"{"}, 400, "malformed_json"),
        ("PATCH", f"/v1/jobs/{NOWHERE}", {"content": b"nope"}, 400, "malformed_json"),
        ("POST", "/v1/batches", {"data": {"a": "b"}}, 415, "content_type_unsupported"),
        ("POST", "/v1/batches", {"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415,
         "content_type_unsupported"),
        ("PATCH", f"/v1/jobs/{NOWHERE}", {"content": b"{}", "headers": {"Content-Type": ""}}, 415,
         "content_type_unsupported"),
        ("POST", "/v1/batches", {"json": []}, 422, "invalid"),
        ("POST", "/v1/assets", {"json": {"sha256": "x"}}, 422, "invalid"),
        ("GET", f"/v1/jobs/{NOWHERE}/events", {"headers": {"Last-Event-ID": "x"}}, 404, "not_found"),
    ],
)  # fmt: skip
def test_refusals(http: httpx.Client, method: str, path: str, sent: dict[str, Any], status: int, code: str):
    sent = {"headers": {"Content-Type": "application/json"}, **sent} if "content" in sent else sent
    check(http.request(method, path, **sent), status, code)


def test_what_is_offered_instead(http: httpx.Client):
    assert http.delete("/v1/batches").headers["allow"]


def test_a_body_in_many_parts_is_counted(start_api: Starter):
    api = start_api(body_limit=1000)
    with api.http(api.key("small bodies"), **{"Content-Type": "application/json"}) as http:
        check(http.post("/v1/batches", content=b" " * 1001), 413, "body_too_large")
        check(http.post("/v1/batches", content=iter([b" " * 300] * 5)), 413, "body_too_large")
        check(http.post("/v1/batches", content=iter([b" " * 300] * 2)), 400, "malformed_json")


def test_keys(api: Api, http: httpx.Client, key: str):
    with api.http(None) as nobody:
        answer = nobody.get("/v1/batches")
        check(answer, 401, "key_missing")
        assert answer.headers["www-authenticate"] == "Bearer"
        for bad in (
            "Basic abc",
            "Bearer",
            "Bearer dub_x",
            f"Bearer {key}x",
            f"Bearer {key[:-1]}",
            "Bearer ü",
        ):
            answer = nobody.get("/v1/batches", headers={"Authorization": bad.encode("latin-1")})
            assert answer.status_code == 401, bad
            assert answer.json()["code"] in ("key_missing", "key_invalid")
    made = http.post("/v1/keys", json={"name": "short-lived", "scopes": ["read"]}).json()
    with api.http(made["secret"]) as other:
        assert other.get("/v1/batches").status_code == 200
        assert http.delete(f"/v1/keys/{made['id']}").status_code == 204
        check(other.get("/v1/batches"), 401, "key_invalid")


@pytest.mark.parametrize(
    ("scope", "method", "path", "body", "allowed"),
    [
        (Scope.READ, "GET", "/v1/batches", None, True),
        (Scope.READ, "POST", "/v1/batches", {"items": []}, False),
        (Scope.READ, "POST", f"/v1/jobs/{NOWHERE}/cancel", None, False),
        (Scope.READ, "GET", "/v1/keys", None, False),
        (Scope.SUBMIT, "POST", "/v1/assets", {}, True),
        (Scope.SUBMIT, "GET", "/v1/batches", None, False),
        (Scope.SUBMIT, "POST", "/v1/models/pdfgc/versions", {"name": "x", "files": []}, False),
        (Scope.TRAIN, "POST", "/v1/models/pdfgc/versions", {"name": "x", "files": []}, True),
        (Scope.TRAIN, "PUT", "/v1/models/pdfgc/aliases/champion", {"version": "x"}, False),
        (Scope.TRAIN, "POST", "/v1/workers/w/drain", None, False),
        (Scope.ADMIN, "GET", "/v1/batches", None, True),
        (Scope.ADMIN, "GET", "/v1/keys", None, True),
        (Scope.ADMIN, "POST", "/v1/workers/w/drain", None, True),
    ],
)
def test_scopes(api: Api, scope: Scope, method: str, path: str, body: object, allowed: bool):
    with api.http(api.key(OPERATORS, scope)) as http:
        answer = http.request(method, path, json=body)
        if allowed:
            assert answer.status_code not in (401, 403)
        else:
            check(answer, 403, "scope_missing")


def test_a_database_that_is_away(start_api: Starter):
    away = connect("postgresql://dubfarm@127.0.0.1:1/nothing")
    api = start_api(database_of=away)
    with api.http("dub_a_b") as http:
        answer = http.get("/v1/batches")
        problem = check(answer, 503, "unavailable")
        assert problem["retryable"] is True
        assert answer.headers["retry-after"]
        assert http.get("/healthz").status_code == 200
        assert http.get("/readyz").json()["checks"]["database"] == "database_unavailable"
    away.close()


def test_a_bug_is_a_problem_too(start_api: Starter, monkeypatch: pytest.MonkeyPatch):
    api = start_api()
    monkeypatch.setattr("api.v1.batches.batches.page", lambda *_, **__: 1 // 0)
    with api.http(api.key("bugs")) as http:
        problem = check(http.get("/v1/batches"), 500, "internal")
        assert problem["retryable"] is True
        assert "division" not in json.dumps(problem)


def test_the_docs_list_every_code():
    """Those with a status of their own, and those that a job's files can be refused with."""
    text = (ROOT / "docs" / "api.md").read_text()
    assert [code for code in STATUS_OF_CODE if f"`{code}`" not in text] == []
    folders = [ROOT / "farm" / name for name in ("media", "face", "storage")]
    sources = "".join(path.read_text() for folder in folders for path in folder.glob("*.py"))
    codes = set(re.findall(r'Rejected\(\s*"((?:media|uri|face|reference|no|destination)_[a-z_]+)"', sources))
    assert len(codes) > 20
    assert sorted(code for code in codes - {"face_weights_missing"} if f"`{code}`" not in text) == []
