"""The audit log over HTTP: every change says whose key made it, and no tenant reads of another's things."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from farm.cli.app import run
from farm.client import ApiError, Client
from farm.db import audit as rows
from farm.domain.audit import Action
from farm.domain.tenant import FARM, Actor, Scope
from farm.flow import audit, versions
from tests.api.conftest import Api
from tests.api.hands import Hands
from tests.api.test_batches import items
from tests.api.test_isolation import OPERATIONS


@pytest.fixture
def deputy(client: Client, api: Api) -> Iterator[tuple[Client, str]]:
    """A second admin key of the test's tenant, and its id."""
    made = client.create_key("deputy", ["admin"])
    with Client(api.url, made.secret) as other:
        yield other, made.key.id


def test_every_change_is_written_with_the_key_that_made_it(client: Client, deputy: tuple[Client, str], hands: Hands):
    other, key_id = deputy
    asset = other.upload(Path(__file__))
    batch = other.submit(items(2))
    (job, second) = client.jobs(batch.id)
    other.set_batch_priority(batch.id, 60)
    other.set_job_priority(job.id, 70)
    other.pause_batch(batch.id)
    other.resume_batch(batch.id)
    other.cancel_job(job.id)
    other.retry_job(job.id)
    hands.refuse(second.id)
    other.retry_failed(batch.id)
    other.cancel_batch(batch.id)
    new = other.create_key("ci", ["read"])
    other.revoke_key(new.key.prefix)
    found = [(e.action, e.subject, dict(e.detail)) for e in client.audit() if e.actor.key_id == key_id]
    data = Path(__file__).read_bytes()
    assert found[::-1] == [
        ("asset.completed", asset.id, {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}),
        ("batch.submitted", batch.id, {"jobs": 2}),
        ("batch.priority_changed", batch.id, {"priority": 60}),
        ("job.priority_changed", job.id, {"priority": 70}),
        ("batch.paused", batch.id, {"jobs": 2}),
        ("batch.resumed", batch.id, {"jobs": 2}),
        ("job.canceled", job.id, {"was": "validating"}),
        ("job.retried", job.id, {"was": "canceled"}),
        ("batch.retried", batch.id, {"jobs": 1}),
        ("batch.canceled", batch.id, {"jobs": 2}),
        ("key.created", new.key.id, {"name": "ci", "prefix": new.key.prefix, "scopes": ["read"]}),
        ("key.revoked", new.key.id, {}),
    ]
    assert {e.actor.name for e in client.audit() if e.actor.key_id == key_id} == {"deputy"}
    assert new.secret not in repr(list(client.audit()))


def test_what_was_refused_is_not_written(client: Client):
    before = [e.id for e in client.audit()]
    with pytest.raises(ApiError):
        client.cancel_batch("bat_" + "0" * 32)
    with pytest.raises(ApiError):
        client.revoke_key("key_nobody")
    assert [e.id for e in client.audit()] == before


def test_filters_and_pages(client: Client, http: httpx.Client):
    batch = client.submit(items(1))
    for priority in range(5):
        client.set_batch_priority(batch.id, priority)
    client.pause_batch(batch.id)
    found = list(client.audit(subject=batch.id))
    assert [e.action for e in found] == ["batch.paused", *["batch.priority_changed"] * 5, "batch.submitted"]
    assert [e.id for e in client.audit(action="batch.paused", subject=batch.id)] == [found[0].id]
    assert [e.id for e in client.audit(action="batch", subject=batch.id)] == [e.id for e in found]
    assert list(client.audit(action="bat", subject=batch.id)) == []
    assert list(client.audit(action="batc_", subject=batch.id)) == []
    assert [e.id for e in client.audit(subject=batch.id, since=found[2].at, until=found[0].at)] == [
        e.id for e in found[1:3]
    ]
    assert list(client.audit(since=datetime.now(UTC) + timedelta(days=1))) == []
    pages, cursor = [], None
    while cursor is not None or not pages:
        params = {"subject": batch.id, "page_size": 4} | ({} if cursor is None else {"cursor": cursor})
        page = http.get("/v1/audit", params=params).json()
        pages.append([e["id"] for e in page["data"]])
        cursor = page["next_cursor"]
    assert pages == [[e.id for e in found[:4]], [e.id for e in found[4:]]]
    assert len(pages[1]) == 3
    for wrong in ("x", "WyJhdWRpdCIsICJhIl0", "WyJhdWRpdCIsIDk5OTk5OTk5OTk5OTk5OTk5OTk5OTldCg"):
        answer = http.get("/v1/audit", params={"cursor": wrong})
        assert (answer.status_code, answer.json()["code"]) == (422, "cursor_invalid"), wrong


def test_tenants_read_of_their_own_things_and_who_runs_the_farm_of_shared_ones(
    api: Api, client: Client, operator: Client, hands: Hands
):
    with Client(api.url, api.key("a stranger")) as stranger:
        batch = stranger.submit(items(1))
        stranger.cancel_batch(batch.id)
        operator.drain_worker(hands.worker_id)
        operator.resume_worker(hands.worker_id)
        assert list(stranger.audit(subject=hands.worker_id)) == []
    for other in (client, operator):
        assert list(other.audit(subject=batch.id)) == []
    found = list(operator.audit(subject=hands.worker_id))
    assert [(e.action, e.actor.name) for e in found] == [("worker.resumed", "test"), ("worker.drained", "test")]
    assert all(e.actor.key_id for e in found)


def test_it_takes_the_admin_scope(api: Api):
    with api.http(api.key("readers only", Scope.READ, Scope.SUBMIT, Scope.TRAIN)) as http:
        assert http.get("/v1/audit").json()["code"] == "scope_missing"


def test_the_command_shows_it(api: Api, key: str, client: Client, capsys: pytest.CaptureFixture[str]):
    batch = client.submit(items(1))
    client.pause_batch(batch.id)
    where = ["--server", api.url, "--key", key]
    assert run(["audit", "--subject", batch.id, "--json", *where]) == 0
    entry, _submitted = json.loads(capsys.readouterr().out)
    assert (entry["action"], entry["subject"], entry["actor"]["name"]) == ("batch.paused", batch.id, "test")
    assert run(["audit", "--action", "batch", "--since", "2020-01-01", "--limit", "1", *where]) == 0
    assert batch.id in capsys.readouterr().out


def test_versions_and_aliases(api: Api, operator: Client, client: Client):
    who = Actor("release bot", "ten_bot", "key_bot")
    with api.database.transaction() as session:
        made = [
            versions.register(session, name=f"audit-{k}", bundle_key="b", bundle_sha256=str(k), manifest={}, actor=who)
            for k in (1, 2, 2)
        ]
        for version in made:
            versions.promote(session, "audited", version.id, actor=who)
        versions.rollback(session, "audited", actor=who)
    one, two = made[0].id, made[1].id
    assert [(e.action, e.detail) for e in operator.audit(subject="pdfgc/audited")][::-1] == [
        ("alias.promoted", {"version": one, "previous": None}),
        ("alias.promoted", {"version": two, "previous": one}),
        ("alias.rolled_back", {"version": one, "previous": two}),
    ]
    (entry,) = operator.audit(subject=two)
    assert list(client.audit(subject=two)) == []
    assert (entry.action, entry.detail["name"]) == ("version.registered", "audit-2")


def test_the_farms_own_entries_need_an_owner(api: Api):
    with api.database.transaction() as session:
        with pytest.raises(ValueError, match="say whose"):
            audit.record(session, FARM, Action.BATCH_CANCELED, "bat_x")
        audit.record(session, FARM, Action.WORKER_QUARANTINED, "wrk_x", {"reason": "4 chunks failed"})
        assert rows.page(session, "ten_any", subject="wrk_x").items == ()
        (entry,) = rows.page(session, "ten_any", subject="wrk_x", shared=True).items
    assert (entry.actor, entry.detail) == (FARM, {"reason": "4 chunks failed"})


SILENT = {
    "create_asset": "nothing is there before its bytes are complete",
    "put_bytes": "nothing is there before its bytes are complete",
    "ping_endpoint": "its delivery is its record",
}
"""Changing routes that write no entry, and why."""


def test_every_changing_route_is_audited_or_says_why_not():
    changing = {operation.name for operation in OPERATIONS if operation.method not in ("GET", "HEAD")}
    audited = {
        "set_batch_priority", "cancel_batch", "pause_batch", "resume_batch", "retry_failed", "set_job_priority",
        "cancel_job", "retry_job", "register_version", "set_alias", "rollback_alias", "drain_worker", "resume_worker",
        "set_gate", "set_canary_rules",
        "create_key", "revoke_key", "create_endpoint", "change_endpoint", "delete_endpoint", "rotate_secret",
        "replay_delivery", "replay_since", "create_tenant", "set_tenant", "create_tenant_key", "delete_job",
        "delete_asset", "delete_batch",
        "submit_batch", "complete_asset", "give_consent", "withdraw_consent",
        "create_run", "cancel_run", "resume_run", "put_schedule", "delete_schedule", "run_schedule",
    }  # fmt: skip
    assert changing == audited | SILENT.keys()


def test_every_action_is_documented():
    text = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text()
    assert [action.value for action in Action if f"`{action.value}`" not in text] == []
