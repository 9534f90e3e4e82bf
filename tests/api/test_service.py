"""Fleet, keys, health, metrics, and the OpenAPI document."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from openapi_spec_validator import validate

from api.v1.batch_body import EXAMPLE, read
from farm.client import ApiError, Client
from tests.api.conftest import Api
from tests.api.hands import Hands
from tests.api.test_batches import items

ROOT = Path(__file__).resolve().parents[2]


def test_workers_are_drained_and_resumed(operator: Client, hands: Hands):
    (worker,) = (worker for worker in operator.workers() if worker.id == hands.worker_id)
    assert (worker.status, worker.host, worker.device, worker.queues) == ("idle", "host", "cpu", ("render",))
    assert worker.info == {"cores": 2}
    assert operator.drain_worker(worker.id).status == "draining"
    assert operator.resume_worker(worker.id).status == "idle"
    with pytest.raises(ApiError, match="404 not_found"):
        operator.drain_worker("wrk_nobody")


def test_queues_count_what_waits(client: Client):
    def waiting() -> int:
        return sum(queue.waiting for queue in client.queues() if queue.name == "render")

    before = waiting()
    batch = client.submit(items(3))
    assert waiting() == before + 3
    client.cancel_batch(batch.id)
    assert waiting() == before


def test_keys_are_made_listed_and_revoked(client: Client, api: Api):
    new = client.create_key("ci", ["read"])
    assert new.secret.startswith(f"dub_{new.key.prefix}_")
    assert new.key.scopes == ("read",)
    assert new.secret not in repr(list(client.keys()))
    assert new.key.id in [key.id for key in list(client.keys())]
    with Client(api.url, new.secret) as other:
        assert list(other.batches()) == []
        client.revoke_key(new.key.id)
        with pytest.raises(ApiError, match="401 key_invalid"):
            list(other.batches())
    (revoked,) = (key for key in list(client.keys()) if key.id == new.key.id)
    assert revoked.revoked_at is not None
    with pytest.raises(ApiError, match="404 not_found"):
        client.revoke_key("key_nobody")
    with pytest.raises(ApiError, match="422 invalid"):
        client.create_key("x", ["everything"])


def test_a_secret_is_shown_once(http: httpx.Client):
    headers = {"Idempotency-Key": "a key"}
    made = http.post("/v1/keys", json={"name": "x"}, headers=headers)
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    again = http.post("/v1/keys", json={"name": "x"}, headers=headers)
    assert (again.status_code, again.json()["code"]) == (409, "key_shown_once")
    assert made.json()["secret"] not in again.text


def test_health(api: Api, client: Client):
    with api.http(None) as http:
        assert http.get("/healthz").json() == {"status": "ok"}
        ready = http.get("/readyz")
        assert ready.json() == {
            "status": "ok",
            "checks": {"database": "ok", "schema": "ok", "storage": "ok", "broker": "ok"},
        }
    assert client.ready()


def test_metrics_are_prometheus_text(api: Api, client: Client):
    client.submit(items(2))
    with api.http(None) as http:
        answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    sample = re.compile(r'^[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.e+-]+$')
    assert 'dubfarm_request_seconds_count{method="POST",route="/v1/batches",status="202"}' in answer.text
    for line in answer.text.splitlines():
        assert line.startswith("# ") or sample.match(line), line
    for name in ("dubfarm_queue_chunks", "dubfarm_jobs_open", "dubfarm_workers", "dubfarm_webhooks_overdue_seconds"):
        assert f"# TYPE {name} gauge" in answer.text
    assert int(re.findall(r'dubfarm_jobs_open\{state="queued"\} (\d+)', answer.text)[0]) >= 2


def test_the_openapi_document(api: Api):
    with api.http(None) as http:
        document = http.get("/openapi.json").json()
        assert http.get("/docs").status_code == 200
    validate(document)
    assert document["openapi"].startswith("3.1")
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    schemas = document["components"]["schemas"]
    assert schemas["BatchBody"]["examples"] == [EXAMPLE]
    assert "HTTPValidationError" not in schemas
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            problems = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
            for status, answer in problems.items():
                if method != "head" and (path, status) != ("/readyz", "503"):
                    problem = answer["content"]["application/problem+json"]
                    assert problem["schema"]["$ref"].endswith("/ProblemAnswer")
            assert {"500", "503"} <= problems.keys()
            assert ("security" in operation) == path.startswith("/v1/")
            assert ({"401", "403", "429"} <= problems.keys()) == path.startswith("/v1/")
            assert ("404" in problems) == ("{" in path)
    names = [operation["operationId"] for operations in document["paths"].values() for operation in operations.values()]
    assert len(names) == len(set(names))


def test_the_documented_bodies_are_accepted_ones():
    """The example of docs/api.md goes through the same door."""
    text = (ROOT / "docs" / "api.md").read_text()
    (body,) = re.findall(r"-d '(\{\s*\"items\".*?)'\n\n", text, re.S)
    body = body.replace("'$id'", "ast_" + "0" * 32)
    assert read(body.encode()).problems == ()


def test_the_process_serves_and_stops_at_sigterm(
    api_database_url: str, broker_url: str, storage_url: str, storage_endpoint_url: str | None, api: Api
):
    """`python -m api` with an open event stream ends at once, and cleanly."""
    key = api.key("a process")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        "DATABASE_URL": api_database_url,
        "BROKER_URL": broker_url,
        "STORAGE_URL": storage_url,
        **({"STORAGE_ENDPOINT_URL": storage_endpoint_url} if storage_endpoint_url else {}),
        **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
        "DUBFARM_API_PORT": str(port),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
    }
    with subprocess.Popen([sys.executable, "-m", "api"], env=environment, stderr=subprocess.PIPE) as process:
        try:
            with Client(f"http://127.0.0.1:{port}", key) as client:
                until = time.monotonic() + 180
                while not client.ready():
                    assert process.poll() is None, process.stderr and process.stderr.read()
                    assert time.monotonic() < until
                    time.sleep(0.1)
                item = items()[0] | {"video": {"uri": "https://example.com/v.mp4"}}
                batch = client.submit([item])
            with (
                httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=120) as http,
                http.stream("GET", f"http://127.0.0.1:{port}/v1/batches/{batch.id}/events") as stream,
            ):
                lines = stream.iter_lines()
                next(lines)
                process.send_signal(signal.SIGTERM)
                assert "event: end" not in list(lines)
            assert process.wait(120) == 0
        finally:
            process.kill()
        log = process.stderr.read().decode() if process.stderr else ""
    assert "request_id=" in log
    assert "Traceback" not in log
