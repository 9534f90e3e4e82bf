"""Rates, quotas, tenants, keys that expire, and following lists without a gap."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import sqlalchemy as sa

from farm.client import ApiError, Client, Rights
from farm.client import Rate as ClientRate
from farm.domain.quota import Rate
from farm.rates import Limiter
from tests.api.conftest import Api
from tests.api.hands import Hands
from tests.api.test_batches import items


@pytest.fixture
def new_tenant(operator: Client, request: pytest.FixtureRequest) -> Callable[..., tuple[str, Client]]:
    """A tenant with limits, and a client with an admin key of it."""

    def make(limits: dict[str, object] | None = None) -> tuple[str, Client]:
        tenant = operator.create_tenant(f"{request.node.nodeid} {time.monotonic_ns()}", limits)
        secret = operator.create_key("first", ["admin"], tenant_id=tenant.id).secret
        client = Client(str(operator._http.base_url), secret, retries=0)
        request.addfinalizer(client.close)
        return tenant.id, client

    return make


# --- rates ------------------------------------------------------------------------------------------------------------


def test_a_bucket_is_shared_and_fills_again(broker_url: str):
    name = f"test {time.monotonic_ns()}"
    one, two = Limiter(broker_url, Rate(0.5, 4)), Limiter(broker_url, Rate(0.5, 4))
    taken = [limiter.take(name) for limiter in (one, two, one, two)]
    assert [spent.remaining for spent in taken if spent and spent.allowed] == [3, 2, 1, 0]
    refused = two.take(name)
    assert refused is not None
    assert not refused.allowed
    assert 0 < refused.retry_s <= 2
    assert 6 < refused.reset_s <= 8
    other = two.take(name + " of another key")
    assert other is not None
    assert other.allowed
    lower = one.take(name + "x", Rate(100, 100), Rate(1000, 2))
    assert lower is not None
    assert lower.rate == Rate(100, 2)


def test_while_valkey_is_away_everybody_may_ask():
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes the connection and never answers
        limiter = Limiter(f"redis://127.0.0.1:{deaf.getsockname()[1]}/0", Rate(1, 1))
        started = time.monotonic()
        assert [limiter.take("x") for _ in range(50)] == [None] * 50
        assert time.monotonic() - started < 5, "each of them waited"
    assert Limiter("redis://127.0.0.1:1/0", Rate(1, 1)).take("x") is None


def test_too_many_requests(start_api: Callable[..., Api], broker_url: str):
    api = start_api(limiter=Limiter(broker_url, Rate(0.01, 3)))
    with api.http(api.key("asks often")) as http, api.http(api.key("asks often")) as other:
        answers = [http.get("/v1/batches") for _ in range(4)]
        assert [a.status_code for a in answers] == [200, 200, 200, 429]
        assert [a.headers["ratelimit"].split(";")[1] for a in answers] == ["r=2", "r=1", "r=0", "r=0"]
        assert answers[0].headers["ratelimit-policy"] == '"key";q=3;w=300'
        problem = answers[3].json()
        assert (problem["code"], problem["retryable"]) == ("rate_limited", True)
        assert 1 <= int(answers[3].headers["retry-after"]) <= 100
        assert other.get("/v1/batches").status_code == 200, "a key's rate is its own"


# --- quotas -----------------------------------------------------------------------------------------------------------


def test_jobs_that_have_not_ended(new_tenant: Callable[..., tuple[str, Client]]):
    _, client = new_tenant({"quotas": {"jobs_open": 3}})
    batch = client.submit(items(2))
    with pytest.raises(ApiError) as refused:
        client.submit(items(2))
    assert (refused.value.status, refused.value.code) == (409, "quota_exceeded")
    assert "2 of 3 jobs that have not ended are used, and 2 more are asked for" in refused.value.detail
    assert [error.code for error in refused.value.errors] == ["quota_jobs_open"]
    client.submit(items(1))
    client.cancel_batch(batch.id)
    assert client.usage().used.jobs_open == 1
    client.submit(items(2))


def test_what_is_asked_at_once_is_counted_one_after_the_other(new_tenant: Callable[..., tuple[str, Client]]):
    _, client = new_tenant({"quotas": {"jobs_open": 10}})
    refused: list[str] = []

    def submit() -> None:
        try:
            client.submit(items(3))
        except ApiError as error:
            refused.append(error.code)

    threads = [threading.Thread(target=submit, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == ["quota_exceeded"] * 3
    assert client.usage().used.jobs_open == 9


def test_frames_and_bytes(new_tenant: Callable[..., tuple[str, Client]], operator: Client, api: Api):
    tenant_id, client = new_tenant()
    batch = client.submit(items(1))
    (job,) = client.jobs(batch.id)
    hands = Hands(api.database, api.store)
    hands.make(job.id)
    output = client.job(job.id).output
    assert output is not None
    usage = client.usage()
    assert (usage.used.jobs_open, usage.used.frames_month, usage.used.storage_bytes) == (0, 20, output.size_bytes)
    assert usage.month.day == 1
    operator.set_tenant(tenant_id, {"quotas": {"frames_month": 20, "storage_bytes": output.size_bytes}})
    with pytest.raises(ApiError) as refused:
        client.submit(items(1))
    assert {error.code for error in refused.value.errors} == {"quota_frames_month", "quota_storage_bytes"}
    with pytest.raises(ApiError, match="quota storage_bytes"):
        client._http.json("POST", "/v1/assets", body={"size_bytes": 1})
    operator.set_tenant(tenant_id, {"quotas": {"frames_month": None}})
    client.delete_job(job.id)
    assert client.usage().used.storage_bytes == 0
    client.submit(items(1))
    assert operator.usage(tenant_id) == client.usage()


# --- tenants and keys -------------------------------------------------------------------------------------------------


def test_tenants(operator: Client, new_tenant: Callable[..., tuple[str, Client]]):
    tenant_id, client = new_tenant({"weight": 3, "max_in_flight": 7, "rate": {"per_s": 5, "burst": 50}})
    made = operator.tenant(tenant_id)
    assert (made.weight, made.max_in_flight, made.rate, made.is_operator) == (3, 7, ClientRate(5, 50), False)
    changed = operator.set_tenant(tenant_id, {"max_in_flight": None, "retention": {"outputs": 3, "chunks": None}})
    assert (changed.weight, changed.max_in_flight, changed.retention) == (3, None, {"outputs": 3, "chunks": None})
    assert tenant_id in [tenant.id for tenant in operator.tenants()]
    with pytest.raises(ApiError, match="409 tenant_name_taken"):
        operator.create_tenant(made.name)
    with pytest.raises(ApiError, match="422 invalid"):
        operator.set_tenant(tenant_id, {"weight": 0})
    for ask in (lambda: list(client.tenants()), lambda: client.create_tenant("x"), lambda: client.tenant(tenant_id)):
        with pytest.raises(ApiError, match="403 operator_only"):
            ask()
    assert {"tenant.changed", "tenant.created"} <= {entry.action for entry in client.audit(subject=tenant_id)}


def test_keys_expire(client: Client, api: Api):
    made = client.create_key("short", ["read"], expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert made.key.expires_at is not None
    with Client(api.url, made.secret, retries=0) as other:
        assert list(other.batches()) == []
        with api.database.transaction() as session:
            session.execute(sa.text("UPDATE api_keys SET expires_at = now() WHERE id = :id"), {"id": made.key.id})
        with pytest.raises(ApiError, match="401 key_invalid"):
            list(other.batches())
    with pytest.raises(ApiError, match="expiry_passed"):
        client.create_key("late", expires_at=datetime.now(UTC) - timedelta(seconds=1))


def test_who_asked_and_with_what_right(client: Client):
    mine = Rights("consent", "the speaker signed on 2026-03-01", "contract 17")
    own = {"basis": "own", "statement": "my face"}
    sent = [items(2)[0], items(2)[1] | {"rights": own}]
    batch = client.submit(sent, rights=mine)
    (key,) = (key.id for key in list(client.keys()))
    assert batch.asked_by == key
    assert [job.rights for job in client.jobs(batch.id)] == [mine, Rights("own", "my face")]
    assert [(line.rights, line.asked_by) for line in client.results(batch.id)] == [
        (mine, key),
        (Rights("own", "my face"), key),
    ]
    with pytest.raises(ApiError, match="422 invalid"):
        client.submit([items()[0] | {"rights": {"basis": "hearsay", "statement": "x"}}])


# --- following a list -------------------------------------------------------------------------------------------------


def test_nothing_is_missed_that_commits_late(client: Client, api: Api):
    """A change stamped before a read and committed after it comes with the next read."""
    batch = client.submit(items(1))
    _, as_of = client.changed_batches()
    with api.database.engine.connect() as late:
        transaction = late.begin()
        late.execute(sa.text("UPDATE batches SET priority = 77, updated_at = now() WHERE id = :id"), {"id": batch.id})
        time.sleep(1.5)
        for _ in range(2):
            _, as_of = client.changed_batches(as_of)
        transaction.commit()
    found, later = client.changed_batches(as_of)
    assert [(b.id, b.priority) for b in found] == [(batch.id, 77)]
    assert later > as_of
    time.sleep(1.2)
    _, later = client.changed_batches(later)
    time.sleep(1.2)
    assert client.changed_batches(later)[0] == []


def test_head_of_an_output(api: Api, client: Client, http: httpx.Client):
    batch = client.submit(items(1))
    (job,) = client.jobs(batch.id)
    assert http.head(f"/v1/jobs/{job.id}/output").status_code == 409
    Hands(api.database, api.store).make(job.id)
    whole = http.get(f"/v1/jobs/{job.id}/output", follow_redirects=True)
    head = http.head(f"/v1/jobs/{job.id}/output")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))
    assert head.headers["etag"]
    assert http.head(f"/v1/jobs/{job.id}/preview").status_code == 200
    client.delete_job(job.id)
    gone = http.get(f"/v1/jobs/{job.id}/output")
    assert (gone.status_code, gone.json()["code"]) == (410, "output_deleted")
    with api.database.transaction() as session:
        session.execute(sa.text("UPDATE jobs SET deleted_at = NULL WHERE id = :id"), {"id": job.id})
    gone = http.get(f"/v1/jobs/{job.id}/output")
    assert (gone.status_code, gone.json()["code"]) == (410, "output_expired")
    assert http.get(f"/v1/jobs/{job.id}/preview").json()["code"] == "preview_expired"


def test_a_waiting_batch_is_silent(api: Api, http: httpx.Client, client: Client, monkeypatch: pytest.MonkeyPatch):
    """Estimates move with the clock; while nothing else does, only comments are sent."""
    monkeypatch.setattr("api.streams.TICK_S", 0.05)
    monkeypatch.setattr("api.streams.HEARTBEAT_S", 1.0)
    hands = Hands(api.database, api.store)
    batch = client.submit(items(1))
    (job,) = client.jobs(batch.id)
    hands.plan(job.id)
    hands.render_one(job.id)
    hands.render_one(job.id, settle_it=False)
    with http.stream("GET", f"/v1/batches/{batch.id}/events") as answer:
        seen: list[str] = []
        for line in answer.iter_lines():
            seen.append(line)
            if seen.count(": alive") == 2:
                break
    assert seen.count("event: progress") == 1, seen
