"""Submitting and steering batches, over HTTP and real rows."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from farm.client import ApiError, Client
from tests.api.conftest import Api, Starter
from tests.api.hands import Hands

AUDIO = {"uri": "https://example.com/v.wav"}


def items(count: int = 1) -> list[dict[str, Any]]:
    return [
        {"custom_id": f"c{n}", "kind": "dub", "video": {"uri": "s3://b/v.mp4"}, "audio": AUDIO} for n in range(count)
    ]


def test_a_batch_from_submission_to_results(client: Client, hands: Hands):
    batch = client.submit(items(2), name="two", priority=70, metadata={"show": "x"})
    assert (batch.name, batch.priority, batch.model, batch.metadata) == ("two", 70, "champion", {"show": "x"})
    assert (batch.status, batch.counts.total, batch.counts.queued, batch.progress) == ("running", 2, 2, 0)
    one, two = client.jobs(batch.id)
    assert (one.custom_id, one.status, one.batch_id, one.priority) == ("c0", "validating", batch.id, 70)
    assert one.media is None
    assert one.progress.frames_total == 0

    hands.plan(one.id)
    hands.render_one(one.id)
    job = client.job(one.id)
    assert (job.status, job.progress.frames_done, job.progress.frames_total) == ("running", 10, 20)
    assert job.media is not None
    assert job.media["source"]["video"]["frame_rate"] == "24000/1001"
    assert job.media["faces_found"] == 19
    assert 0 < client.batch(batch.id).progress < 0.5
    hands.render_one(one.id)
    hands.finish(one.id)
    hands.refuse(two.id)

    batch = client.batch(batch.id)
    assert (batch.status, batch.progress, batch.counts.succeeded, batch.counts.failed) == ("completed", 1, 1, 1)
    assert batch.finished_at is not None
    done, failed = client.results(batch.id)
    assert (done.custom_id, done.status, done.scores) == ("c0", "succeeded", {"sync": 0.75})
    assert done.output is not None
    assert done.output.frames == 20
    assert failed.error is not None
    assert (failed.status, failed.error.code, failed.error.detail) == ("failed", "no_face", "nobody is there")
    chunks = list(client.chunks(one.id))
    assert [(c.work, c.status, c.start, c.stop) for c in chunks] == [
        ("plan", "succeeded", 0, 0),
        ("render", "succeeded", 0, 10),
        ("render", "succeeded", 10, 20),
        ("finalize", "succeeded", 0, 0),
    ]
    assert chunks[1].attempts[-1].worker_id == hands.worker_id
    assert chunks[1].attempts[-1].seconds == {"generate": 0.5}


def test_the_answer_says_where(http: httpx.Client):
    answer = http.post("/v1/batches", json={"items": items()})
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/batches/{answer.json()['id']}"
    assert http.get(answer.headers["location"]).json() == answer.json()
    assert answer.json()["created_at"].endswith("Z")


def test_steering(client: Client, hands: Hands):
    batch = client.submit(items(2))
    assert client.pause_batch(batch.id).status == "paused"
    assert {job.status for job in client.jobs(batch.id)} == {"paused"}
    assert client.resume_batch(batch.id).status == "running"
    assert client.set_batch_priority(batch.id, 90).priority == 90
    one, two = client.jobs(batch.id)
    assert (one.priority, two.priority) == (90, 90)
    assert client.set_job_priority(one.id, 10).priority == 10
    with pytest.raises(ApiError, match="409 nothing_to_retry"):
        client.retry_failed(batch.id)
    hands.refuse(one.id)
    assert client.job(one.id).status == "failed"
    assert client.retry_failed(batch.id).counts.failed == 0
    assert client.cancel_job(one.id).status == "canceled"
    assert client.retry_job(one.id).status in ("validating", "queued")
    with pytest.raises(ApiError, match="409 job_not_retryable"):
        client.retry_job(one.id)
    assert client.cancel_batch(batch.id).status == "canceled"
    assert client.cancel_batch(batch.id).counts.canceled == 2
    with pytest.raises(ApiError, match="409 batch_ended"):
        client.pause_batch(batch.id)


@pytest.mark.parametrize("body", [{}, {"priority": 101}, {"priority": "9"}, {"priority": 5, "x": 1}])
def test_a_priority_is_checked(http: httpx.Client, body: dict[str, Any]):
    batch_id = http.post("/v1/batches", json={"items": items()}).json()["id"]
    answer = http.patch(f"/v1/batches/{batch_id}", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] in ("/priority", "/x")


def test_everything_wrong_is_said_at_once(http: httpx.Client):
    """The shape, the repeated id, and what only the farm knows: in one answer, at the items as they were sent."""
    missing = "ast_" + "0" * 32
    sent = items(5)
    sent[0]["video"] = {}
    sent[0]["audio"] = {"uri": "https://127.0.0.1/x"}
    sent[1]["audio"] = {"asset_id": missing}
    sent[2]["video"] = {"uri": "ftp://example.com/x"}
    sent[3]["custom_id"] = "c2"
    sent[4]["video"] = {"uri": "file:///etc/passwd"}
    body = {"items": sent, "priority": 500, "model": "no-such"}
    answer = http.post("/v1/batches", json=body)
    assert answer.status_code == 422
    found = {(e["pointer"], e["code"]) for e in answer.json()["errors"]}
    assert found == {
        ("/priority", "out_of_range"),
        ("/items/0/video", "media_ambiguous"),
        ("/items/0/audio/uri", "uri_host_refused"),
        ("/items/1/audio/asset_id", "asset_not_found"),
        ("/items/2/video/uri", "uri_scheme_refused"),
        ("/items/3/custom_id", "custom_id_repeated"),
        ("/items/4/video/uri", "uri_root_refused"),
    }
    del body["priority"]
    sent[0] = items()[0]
    sent[3]["custom_id"] = "c3"
    answer = http.post("/v1/batches", json=body | {"deadline": "2020-01-01T00:00:00Z"})
    found = {(e["pointer"], e["code"]) for e in answer.json()["errors"]}
    assert found == {
        ("/model", "model_not_found"),
        ("/deadline", "deadline_passed"),
        ("/items/1/audio/asset_id", "asset_not_found"),
        ("/items/2/video/uri", "uri_scheme_refused"),
        ("/items/4/video/uri", "uri_root_refused"),
    }
    assert http.get("/v1/batches").json()["data"] == []


def test_ten_thousand_items_with_mistakes(http: httpx.Client):
    answer = http.post("/v1/batches", json={"items": [5] * 10_000})
    problem = answer.json()
    assert problem["detail"] == "10000 things wrong; the first 1000 are listed"
    assert len(problem["errors"]) == 1000


def test_a_dry_run_stores_nothing(http: httpx.Client, client: Client):
    answer = http.post("/v1/batches", json={"items": items(3), "dry_run": True})
    assert answer.status_code == 200
    assert answer.json()["items"] == 3
    assert answer.json()["dry_run"] is True
    assert client.estimate(items(3)).basis
    with pytest.raises(ApiError) as caught:
        client.estimate([{"custom_id": "x", "kind": "dub"}])
    assert {error.pointer for error in caught.value.errors} == {"/items/0/video", "/items/0/audio"}
    with pytest.raises(ApiError, match="422 invalid"):
        client.estimate(items(), model="no-such")
    assert list(client.batches()) == []


def test_the_same_request_again_is_answered_the_same(http: httpx.Client):
    headers = {"Idempotency-Key": "once"}
    first = http.post("/v1/batches", json={"items": items()}, headers=headers)
    again = http.post("/v1/batches", json={"items": items()}, headers=headers)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert (again.status_code, again.json(), again.headers["location"]) == (
        202,
        first.json(),
        first.headers["location"],
    )
    other = http.post("/v1/batches", json={"items": items(2)}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert len(http.get("/v1/batches").json()["data"]) == 1


def test_a_refused_request_does_not_use_up_its_key(http: httpx.Client):
    headers = {"Idempotency-Key": "retry me"}
    body = {"items": items(), "model": "no-such"}
    assert http.post("/v1/batches", json=body, headers=headers).status_code == 422
    assert http.post("/v1/batches", json={"items": items()}, headers=headers).status_code == 202


@pytest.mark.parametrize("bad", ["", "x" * 256])
def test_keys_that_cannot_be(http: httpx.Client, bad: str):
    answer = http.post("/v1/batches", json={"items": items()}, headers={"Idempotency-Key": bad})
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")


def test_many_at_once_under_one_key_make_one_batch(api: Api, key: str):
    body = json.dumps({"items": items(50)})

    def post(_: int) -> httpx.Response:
        with api.http(key, **{"Idempotency-Key": "race", "Content-Type": "application/json"}) as http:
            return http.post("/v1/batches", content=body)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(8)))
    assert {a.status_code for a in answers} <= {202, 409}
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["code"] == "idempotency_in_flight"
            assert answer.json()["retryable"] is True
            assert int(answer.headers["retry-after"]) > 0
    assert len({a.json()["id"] for a in answers if a.status_code == 202}) == 1
    with api.http(key) as http:
        assert len(http.get("/v1/batches").json()["data"]) == 1


def test_lists_are_walked_and_filtered(client: Client, http: httpx.Client):
    made = [client.submit(items(), name=str(n)).id for n in range(5)]
    client.cancel_batch(made[2])
    first = http.get("/v1/batches", params={"page_size": 2}).json()
    second = http.get("/v1/batches", params={"page_size": 2, "cursor": first["next_cursor"]}).json()
    third = http.get("/v1/batches", params={"page_size": 2, "cursor": second["next_cursor"]}).json()
    walked = [row["id"] for page in (first, second, third) for row in page["data"]]
    assert walked == made[::-1]
    assert third["next_cursor"] is None
    assert [b.id for b in client.batches(status="canceled")] == [made[2]]
    assert list(client.batches(updated_since=datetime.now(UTC) + timedelta(hours=1))) == []
    job_ids = [job.id for job in client.jobs(client.submit(items(3)).id, status="validating")]
    assert len(job_ids) == 3


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("page_size=0", "/query/page_size"),
        ("page_size=201", "/query/page_size"),
        ("status=asleep", "/query/status"),
        ("updated_since=yesterday", "/query/updated_since"),
        ("updated_since=2026-01-01T00:00:00", "/query/updated_since"),
        ("cursor=zzz", None),
        ("cursor=%00", None),
    ],
)
def test_queries_are_checked(http: httpx.Client, query: str, pointer: str | None):
    answer = http.get(f"/v1/batches?{query}")
    assert answer.status_code == 422
    if pointer is None:
        assert answer.json()["code"] == "cursor_invalid"
    else:
        assert [e["pointer"] for e in answer.json()["errors"]] == [pointer]


def test_a_broker_that_is_away_fails_no_request(start_api: Starter):
    api = start_api(broker="redis://127.0.0.1:1/0")
    key = api.key("no broker")
    with Client(api.url, key, retries=0) as client:
        batch = client.submit(items())
        assert client.cancel_batch(batch.id).status == "canceled"
        assert not client.ready()
    with api.http(None) as http:
        ready = http.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["checks"]["database"] == "ok"
        assert ready.json()["checks"]["broker"] != "ok"
