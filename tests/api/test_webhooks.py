"""Webhook endpoints over HTTP and from the command."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import get_args

import httpx
import pytest

from api.v1.webhooks import Offered
from farm.cli.app import run
from farm.client import ApiError, Client
from farm.domain.webhook import OFFERED
from tests.api.conftest import Api
from tests.api.hands import Hands
from tests.api.test_batches import items

URL = "https://example.com/hook"


def test_an_endpoint_is_made_changed_listed_and_removed(client: Client):
    made = client.create_webhook(URL, ["job.failed", "job.succeeded", "job.failed"], "ours")
    assert made.secret.startswith("whsec_")
    shown = client.webhook(made.endpoint.id)
    assert shown == made.endpoint
    assert (shown.events, shown.enabled, shown.description) == (("job.failed", "job.succeeded"), True, "ours")
    assert made.secret not in repr(list(client.webhooks()))
    changed = client.change_webhook(shown.id, url="https://example.com/other", events=[], description=None)
    assert (changed.url, changed.events, changed.description) == ("https://example.com/other", (), None)
    off = client.change_webhook(shown.id, enabled=False)
    assert (off.enabled, off.disabled_reason) == (False, "disabled by request")
    with pytest.raises(ApiError, match="409 endpoint_disabled"):
        client.ping_webhook(shown.id)
    assert client.change_webhook(shown.id, enabled=True).disabled_reason is None
    client.delete_webhook(shown.id)
    with pytest.raises(ApiError, match="404 not_found"):
        client.webhook(shown.id)
    actions = [(e.action, e.actor.name) for e in client.audit(subject=shown.id)][::-1]
    assert actions == [
        ("webhook_endpoint.created", "test"),
        *[("webhook_endpoint.changed", "test")] * 3,
        ("webhook_endpoint.deleted", "test"),
    ]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://example.com/", "uri_scheme_refused"),
        ("ftp://example.com/", "uri_scheme_refused"),
        ("https://127.0.0.1/", "uri_host_refused"),
        ("https://[::ffff:10.0.0.1]/", "uri_host_refused"),
        ("https://169.254.169.254/latest/meta-data", "uri_host_refused"),
        ("https://user:pw@example.com/", "uri_credentials_refused"),
        ("s3://bucket/key", "uri_scheme_refused"),
        ("nonsense", "uri_malformed"),
    ],
)
def test_urls_that_cannot_be(http: httpx.Client, url: str, code: str):
    answer = http.post("/v1/webhook-endpoints", json={"url": url})
    assert answer.status_code == 422
    assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [("/url", code)]


def test_only_offered_events_can_be_asked_for(http: httpx.Client):
    assert set(get_args(Offered)) == {topic.value for topic in OFFERED}
    answer = http.post("/v1/webhook-endpoints", json={"url": URL, "events": ["ping"], "evnts": []})
    assert {(e["pointer"], e["code"]) for e in answer.json()["errors"]} == {
        ("/events/0", "value_not_offered"),
        ("/evnts", "field_unknown"),
    }


def test_a_secret_is_shown_once(http: httpx.Client):
    headers = {"Idempotency-Key": "one endpoint"}
    made = http.post("/v1/webhook-endpoints", json={"url": URL}, headers=headers)
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    assert made.headers["location"] == f"/v1/webhook-endpoints/{made.json()['id']}"
    again = http.post("/v1/webhook-endpoints", json={"url": URL}, headers=headers)
    assert (again.status_code, again.json()["code"]) == (409, "secret_shown_once")
    assert len(http.get("/v1/webhook-endpoints").json()["data"]) == 1
    turned = http.post(f"{made.headers['location']}/rotate-secret", json={"overlap_s": 60})
    assert turned.status_code == 200
    assert turned.json()["secret"] != made.json()["secret"]
    until = datetime.fromisoformat(turned.json()["old_secret_until"])
    assert timedelta(0) < until - datetime.now(UTC) <= timedelta(seconds=61)
    at_once = http.post(f"{made.headers['location']}/rotate-secret", json={"overlap_s": 0})
    assert at_once.json()["old_secret_until"] is None


def test_deliveries_are_logged_and_replayed(client: Client, http: httpx.Client, hands: Hands):
    endpoint = client.create_webhook(URL).endpoint
    batch = client.submit(items(1))
    (job,) = client.jobs(batch.id)
    hands.make(job.id)
    found = list(client.webhook_deliveries(endpoint.id))
    assert [(d.event, d.status, d.attempts) for d in found] == [
        ("batch.completed", "pending", 0),
        ("job.succeeded", "pending", 0),
    ]
    one = client.webhook_delivery(endpoint.id, found[1].id)
    assert one.body is not None
    told = json.loads(one.body)
    assert told["type"] == "job.succeeded"
    # Exactly what the API answers of the job, byte for byte but for what goes on changing.
    shown = http.get(f"/v1/jobs/{job.id}").json()
    assert {k: v for k, v in told["data"]["job"].items() if k != "updated_at"} == {
        k: v for k, v in shown.items() if k != "updated_at"
    }
    batch_told = json.loads(client.webhook_delivery(endpoint.id, found[0].id).body or "")["data"]["batch"]
    assert batch_told == http.get(f"/v1/batches/{batch.id}").json()
    assert [d.id for d in client.webhook_deliveries(endpoint.id, event="job.succeeded")] == [one.id]
    assert list(client.webhook_deliveries(endpoint.id, status="delivered")) == []
    assert client.replay_webhook(endpoint.id, one.id).id == one.id
    assert client.replay_webhooks(endpoint.id, batch.created_at) == 0
    with pytest.raises(ApiError, match="404 not_found"):
        client.replay_webhook(endpoint.id, "whd_none")
    path = f"/v1/webhook-endpoints/{endpoint.id}/ping"
    pings = [http.post(path, headers={"Idempotency-Key": "ping once"}).json()["id"] for _ in range(2)]
    assert pings[0] == pings[1]
    client.delete_webhook(endpoint.id)


def test_the_commands(api: Api, key: str, client: Client, capsys: pytest.CaptureFixture[str]):
    where = ["--server", api.url, "--key", key]

    def said(*arguments: str) -> str:
        assert run(["webhooks", *arguments, *where]) == 0
        return capsys.readouterr().out

    assert "whsec_" in said("create", URL, "--event", "job.failed")
    (endpoint,) = client.webhooks()
    assert "job.failed" in said("list")
    assert "is on its way" in said("ping", endpoint.id)
    (delivery,) = client.webhook_deliveries(endpoint.id)
    assert delivery.id in said("deliveries", endpoint.id)
    assert "not tried yet" in said("deliveries", endpoint.id, delivery.id)
    assert "sent again" in said("replay", endpoint.id, delivery.id)
    assert "disabled by request" in said("disable", endpoint.id)
    assert "enabled" in said("enable", endpoint.id)
    assert "1 messages" in said("replay", endpoint.id, "--since", "2020-01-01")
    assert "whsec_" in said("rotate-secret", endpoint.id, "--overlap", "0")
    said("change", endpoint.id, "--description", "new")
    assert client.webhook(endpoint.id).description == "new"
    assert run(["webhooks", "replay", endpoint.id, *where]) == 2
    assert run(["webhooks", "change", endpoint.id, *where]) == 2
    assert run(["webhooks", "create", URL, "--event", "ping", *where]) == 2
    said("delete", endpoint.id)
    assert list(client.webhooks()) == []
