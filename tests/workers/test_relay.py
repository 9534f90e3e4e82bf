"""Promise 6: every webhook is delivered at least once, with a stable id, signed. Against a real receiver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook

from farm.db import outbox
from farm.db import webhooks as endpoints
from farm.db.session import Database
from farm.domain.chunk import Failure, Reason
from farm.domain.limits import InputLimits
from farm.domain.tenant import Actor
from farm.domain.webhook import PAUSES_S, DeliveryStatus, DeliveryView, EndpointView, Topic
from farm.errors import Rejected
from farm.flow import keys, notify, settle, versions, webhooks
from tests.receiver import Receiver, Say
from tests.small_farm import Fleet
from workers.relay import Relay

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().running() as running:
        yield running


@pytest.fixture
def fleet(database: Database) -> Fleet:
    with database.transaction() as session:
        tenant = keys.ensure_tenant(session, "studio")
        version = versions.register(session, name="v1", bundle_key="b", bundle_sha256="dd", manifest={})
        versions.promote(session, "champion", version.id, actor=Actor("test"))
    return Fleet(database, tenant, version.id)


@pytest.fixture
def limits(receiver: Receiver) -> InputLimits:
    return InputLimits(schemes=("http",), private_hosts=(receiver.host,))


Listen = Callable[..., tuple[str, str]]


@pytest.fixture
def listen(fleet: Fleet, receiver: Receiver, limits: InputLimits) -> Listen:
    """Make an endpoint at a path of the receiver: its id and its secret."""

    def make(path: str = "/hook", *topics: Topic, tenant: str | None = None) -> tuple[str, str]:
        with fleet.database.transaction() as session:
            view, secret = webhooks.create(session, tenant or fleet.tenant, receiver.url(path), topics, None, limits)
        return view.id, secret

    return make


Running = Callable[..., AbstractContextManager[Relay]]


@pytest.fixture
def relay(fleet: Fleet, limits: InputLimits) -> Running:
    @contextmanager
    def run(timeout_s: float = 30.0, allowed: InputLimits = limits) -> Iterator[Relay]:
        made = Relay(fleet.database, allowed, timeout_s=timeout_s, poll_s=0.02)
        made.start()
        try:
            yield made
        finally:
            made.stop()

    return run


def deliveries(fleet: Fleet, endpoint_id: str) -> list[DeliveryView]:
    """Oldest first."""
    with fleet.database.transaction() as session:
        return list(outbox.page(session, endpoint_id, page_size=200).items[::-1])


def endpoint(fleet: Fleet, endpoint_id: str) -> EndpointView:
    with fleet.database.transaction() as session:
        view = endpoints.get(session, fleet.tenant, endpoint_id)
    assert view is not None
    return view


def until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def all_are(fleet: Fleet, endpoint_id: str, status: DeliveryStatus) -> Callable[[], bool]:
    return lambda: {d.status for d in deliveries(fleet, endpoint_id)} == {status}


def hurry(fleet: Fleet) -> None:
    """Let what waits for its next try fall due."""
    fleet.run("update webhook_deliveries set due_at = now() where status = 'pending' and token is null")


def test_ends_of_jobs_and_batches_arrive_signed(
    fleet: Fleet, receiver: Receiver, listen: Listen, relay: Running
) -> None:
    endpoint_id, secret = listen()
    listen("/only-failures", Topic.JOB_FAILED)
    batch = fleet.submit(2)
    failing = fleet.lease()
    fleet.fail(failing, Reason.BAD_INPUT, "no_face")
    fleet.work_off()
    with relay():
        got = receiver.wait(4)
        until(all_are(fleet, endpoint_id, DeliveryStatus.DELIVERED))
    bodies = {}
    for request in got:
        if request.path == "/hook":
            body = Webhook(secret).verify(request.body, request.headers)
            bodies[body["type"]] = body["data"]
    assert [json.loads(r.body)["type"] for r in got if r.path == "/only-failures"] == ["job.failed"]
    good = next(job for job in fleet.jobs(batch.id) if job.id != failing.job_id)
    assert bodies.keys() == {"job.failed", "job.succeeded", "batch.completed"}
    assert bodies["job.failed"]["job"]["error"] == {"code": "no_face", "detail": "as the test wants"}
    assert bodies["job.succeeded"]["job_id"] == good.id
    assert bodies["job.succeeded"]["job"]["output"]["frames"] == 30
    counts = bodies["batch.completed"]["batch"]["counts"]
    assert (counts["succeeded"], counts["failed"]) == (1, 1)
    assert endpoint(fleet, endpoint_id).last_success_at is not None


def test_the_outbox_row_exists_exactly_where_the_change_does(fleet: Fleet, listen: Listen) -> None:
    endpoint_id, _ = listen()
    batch = fleet.submit(1)
    lease = fleet.lease()

    def broken_off() -> None:
        with fleet.database.transaction() as session:
            settle.fail(session, lease, Failure(Reason.BAD_INPUT, "no_face", "x"), 0.0)
            assert len(outbox.page(session, endpoint_id).items) == 2  # written, not committed
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken_off()
    assert deliveries(fleet, endpoint_id) == []
    assert fleet.sql("select * from webhook_events") == []
    fleet.fail(lease, Reason.BAD_INPUT, "no_face")
    assert fleet.batch(batch.id).counts.failed == 1
    assert [d.topic for d in deliveries(fleet, endpoint_id)] == ["job.failed", "batch.completed"]


def test_nobody_listens_nothing_is_written(fleet: Fleet, listen: Listen) -> None:
    other = fleet.sql("insert into tenants (id, name) values ('ten_other', 'other') returning id")[0][0]
    listen("/theirs", tenant=str(other))
    fleet.submit(1)
    fleet.work_off()
    assert fleet.sql("select * from webhook_events") == []


def test_a_promotion_is_told_to_every_tenant(fleet: Fleet, receiver: Receiver, listen: Listen, relay: Running) -> None:
    fleet.run("insert into tenants (id, name) values ('ten_other', 'other')")
    listen("/mine", Topic.MODEL_PROMOTED)
    listen("/theirs", tenant="ten_other")
    with fleet.database.transaction() as session:
        newer = versions.register(session, name="v2", bundle_key="b", bundle_sha256="ee", manifest={})
        versions.promote(session, "champion", newer.id, actor=Actor("test"))
    with relay():
        got = receiver.wait(2)
    assert {request.path for request in got} == {"/mine", "/theirs"}
    data = json.loads(got[0].body)["data"]
    assert (data["alias"], data["version_id"], data["previous_version_id"]) == ("champion", newer.id, fleet.version)


def test_a_failed_try_is_repeated_with_the_same_id_until_it_arrives(
    fleet: Fleet, receiver: Receiver, listen: Listen, relay: Running
) -> None:
    endpoint_id, secret = listen("/flaky", Topic.BATCH_COMPLETED)
    elsewhere = {"Location": receiver.url("/elsewhere")}
    receiver.script["/flaky"] = [
        Say(500, body=b"x" * 5000),
        Say(302, elsewhere),
        Say(stall=True),
        Say(503, {"Retry-After": "7200"}),
        Say(204, body=b""),
    ]
    fleet.submit(1)
    fleet.work_off()
    with relay(timeout_s=1.0):
        for count in range(1, 5):
            receiver.wait(count)
            until(lambda count=count: outbox_tries(fleet, endpoint_id) == count)
            (delivery,) = deliveries(fleet, endpoint_id)
            assert delivery.status is DeliveryStatus.PENDING
            assert delivery.due_at is not None
            assert delivery.due_at > datetime.now(UTC)
            if count == 4:
                assert delivery.due_at > datetime.now(UTC) + timedelta(seconds=7000)
            hurry(fleet)
        until(all_are(fleet, endpoint_id, DeliveryStatus.DELIVERED))
    got = receiver.wait(5)
    assert {request.path for request in got} == {"/flaky"}  # the redirect was not followed
    assert len({request.headers["webhook-id"] for request in got}) == 1
    assert len({request.body for request in got}) == 1
    for request in got:
        Webhook(secret).verify(request.body, request.headers)
    (delivery,) = deliveries(fleet, endpoint_id)
    with fleet.database.transaction() as session:
        tries = outbox.tries(session, delivery.id)
    assert [t.status for t in tries] == [500, 302, None, 503, 204]
    assert tries[0].answer == "x" * 1024
    assert tries[2].error is not None
    assert tries[2].error.startswith("timed_out")
    assert got[0].headers["webhook-id"] == delivery.id


def outbox_tries(fleet: Fleet, endpoint_id: str) -> int:
    query = (
        "select count(*) from webhook_tries t join webhook_deliveries d on d.id = t.delivery_id where endpoint_id = :e"
    )
    (count,) = fleet.sql(f"{query} and d.token is null", e=endpoint_id)[0]
    assert isinstance(count, int)
    return count


def test_gone_disables_and_skips_and_a_replay_makes_up_for_it(
    fleet: Fleet, receiver: Receiver, listen: Listen, relay: Running, limits: InputLimits
) -> None:
    endpoint_id, _ = listen("/gone", Topic.BATCH_COMPLETED)
    receiver.script["/gone"] = [Say(410)]
    since = datetime.now(UTC) - timedelta(minutes=1)
    fleet.submit(1)
    fleet.work_off()
    with relay():
        until(lambda: not endpoint(fleet, endpoint_id).enabled)
    assert endpoint(fleet, endpoint_id).disabled_reason == "the receiver answered 410 Gone"
    assert fleet.sql(
        "select action, actor_name from audit_log where subject = :s order by id desc limit 1", s=endpoint_id
    ) == [("webhook_endpoint.disabled", "farm")]
    fleet.submit(1)
    fleet.work_off()  # happens while it is disabled
    assert [d.status for d in deliveries(fleet, endpoint_id)] == [DeliveryStatus.FAILED, DeliveryStatus.SKIPPED]
    with fleet.database.transaction() as session, pytest.raises(Rejected, match="endpoint_disabled"):
        webhooks.replay_since(session, fleet.tenant, endpoint_id, since, delivered=False)
    receiver.script["/gone"] = [Say()]
    with fleet.database.transaction() as session:
        webhooks.change(session, fleet.tenant, endpoint_id, limits, enabled=True)
        assert webhooks.replay_since(session, fleet.tenant, endpoint_id, since, delivered=False) == 2
    with relay():
        until(all_are(fleet, endpoint_id, DeliveryStatus.DELIVERED))
        with fleet.database.transaction() as session:
            assert webhooks.replay_since(session, fleet.tenant, endpoint_id, since, delivered=False) == 0
            assert webhooks.replay_since(session, fleet.tenant, endpoint_id, since, delivered=True) == 2
        receiver.wait(5)
    ids = [request.headers["webhook-id"] for request in receiver.got]
    assert sorted(set(ids)) == sorted(d.id for d in deliveries(fleet, endpoint_id))


def test_three_days_of_silence_disable_but_not_an_endpoint_that_hears_others(
    fleet: Fleet, receiver: Receiver, listen: Listen, relay: Running
) -> None:
    endpoint_id, _ = listen("/dead", Topic.BATCH_COMPLETED)
    receiver.script["/dead"] = [Say(500)]
    fleet.submit(1)
    fleet.work_off()
    fleet.run("update webhook_deliveries set failures = :n", n=len(PAUSES_S))
    fleet.run("update webhook_endpoints set last_success_at = now()")
    with relay():
        until(all_are(fleet, endpoint_id, DeliveryStatus.FAILED))
    assert endpoint(fleet, endpoint_id).enabled
    with fleet.database.transaction() as session:
        (delivery,) = outbox.page(session, endpoint_id).items
        webhooks.replay(session, fleet.tenant, endpoint_id, delivery.id)
    fleet.run("update webhook_deliveries set failures = :n", n=len(PAUSES_S))
    with relay():
        until(all_are(fleet, endpoint_id, DeliveryStatus.FAILED))
    view = endpoint(fleet, endpoint_id)
    assert not view.enabled
    assert view.disabled_reason == "11 tries over three days failed; last: HTTP 500"


def test_private_addresses_are_refused_when_sending_too(
    fleet: Fleet, receiver: Receiver, listen: Listen, relay: Running
) -> None:
    endpoint_id, _ = listen("/inside", Topic.BATCH_COMPLETED)
    fleet.run("update webhook_endpoints set url = replace(url, '127.0.0.1', 'localhost')")  # only its address tells
    fleet.submit(1)
    fleet.work_off()
    with relay(allowed=InputLimits(schemes=("http",))):
        until(lambda: outbox_tries(fleet, endpoint_id) == 1)
    (delivery,) = deliveries(fleet, endpoint_id)
    assert delivery.last_error is not None
    assert delivery.last_error.startswith("uri_host_refused")
    assert receiver.got == []


def test_what_is_sent_while_secrets_overlap_is_signed_twice(
    fleet: Fleet, receiver: Receiver, listen: Listen, relay: Running
) -> None:
    endpoint_id, old = listen()
    with fleet.database.transaction() as session:
        _, new = webhooks.rotate_secret(session, fleet.tenant, endpoint_id, 3600.0)
        webhooks.ping(session, fleet.tenant, endpoint_id)
    with relay():
        (first,) = receiver.wait(1)
        Webhook(old).verify(first.body, first.headers)
        Webhook(new).verify(first.body, first.headers)
        fleet.run("update webhook_endpoints set old_secret_until = now()")
        with fleet.database.transaction() as session:
            webhooks.ping(session, fleet.tenant, endpoint_id)
        second = receiver.wait(2)[1]
    Webhook(new).verify(second.body, second.headers)
    assert len(second.headers["webhook-signature"].split(" ")) == 1


def test_two_relays_lose_nothing_and_a_stalled_endpoint_holds_up_no_other(
    fleet: Fleet, receiver: Receiver, listen: Listen, relay: Running
) -> None:
    endpoint_id, _ = listen("/hook", Topic.PING)
    stalled, _ = listen("/stalled", Topic.PING)
    receiver.script["/stalled"] = [Say(stall=True)]
    with fleet.database.transaction() as session:
        for _ in range(40):  # more than two relays have senders, and due before the others
            webhooks.ping(session, fleet.tenant, stalled)
    with fleet.database.transaction() as session:
        wanted = [webhooks.ping(session, fleet.tenant, endpoint_id) for _ in range(60)]
    with relay(), relay():
        until(all_are(fleet, endpoint_id, DeliveryStatus.DELIVERED))
        # Two relays that look at the same moment may both take so many.
        assert sum(request.path == "/stalled" for request in receiver.got) <= 2 * outbox.AT_ONCE
        receiver.ended.set()
    ids = [request.headers["webhook-id"] for request in receiver.got if request.path == "/hook"]
    assert sorted(ids) == sorted(wanted)


def test_a_late_result_of_a_lost_lease_changes_nothing(fleet: Fleet, listen: Listen) -> None:
    endpoint_id, _ = listen()

    def record(message: notify.Message, status: int) -> DeliveryStatus | None:
        with fleet.database.transaction() as session:
            return notify.record(
                session, message, status=status, error=None, seconds=0.1, answer="", retry_after_s=None, dice=0.5
            )

    def take() -> list[notify.Message]:
        with fleet.database.transaction() as session:
            return notify.take(session, 10, 60.0)

    with fleet.database.transaction() as session:
        webhooks.ping(session, fleet.tenant, endpoint_id)
    (slow,) = take()
    assert take() == []
    fleet.run("update webhook_deliveries set due_at = now()")  # its lease is over
    (quick,) = take()
    assert (quick.id, quick.number) == (slow.id, 2)
    assert record(quick, 200) is DeliveryStatus.DELIVERED
    assert record(slow, 500) is None
    (delivery,) = deliveries(fleet, endpoint_id)
    assert (delivery.status, delivery.last_status) == (DeliveryStatus.DELIVERED, 200)
    with fleet.database.transaction() as session:
        assert [t.status for t in outbox.tries(session, delivery.id)] == [500, 200]


RELAY = """
import sys, time
from farm.db.session import connect
from farm.domain.limits import InputLimits
from workers.relay import Relay
limits = InputLimits(schemes=("http",), private_hosts=(sys.argv[2],))
relay = Relay(connect(sys.argv[1]), limits, lease_s=3, poll_s=0.05)
relay.start()
time.sleep(600)
"""


def test_a_relay_killed_between_sending_and_recording_sends_again_with_the_same_id(
    fleet: Fleet, receiver: Receiver, listen: Listen, database_url: str
) -> None:
    endpoint_id, secret = listen()

    def start() -> subprocess.Popen[bytes]:
        here = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen([sys.executable, "-c", RELAY, database_url, receiver.host], env=here)

    first = start()
    killed = threading.Event()

    def kill() -> None:
        first.send_signal(signal.SIGKILL)
        first.wait()
        killed.set()

    receiver.script["/hook"] = [Say(before=kill), Say()]
    with fleet.database.transaction() as session:
        delivery_id = webhooks.ping(session, fleet.tenant, endpoint_id)
    assert killed.wait(120)
    assert [d.status for d in deliveries(fleet, endpoint_id)] == [DeliveryStatus.PENDING]
    second = start()
    try:
        got = receiver.wait(2)
        until(all_are(fleet, endpoint_id, DeliveryStatus.DELIVERED))
    finally:
        second.kill()
        second.wait()
    assert [request.headers["webhook-id"] for request in got] == [delivery_id, delivery_id]
    for request in got:
        Webhook(secret).verify(request.body, request.headers)
    assert deliveries(fleet, endpoint_id)[0].attempts == 2


def test_old_events_go_but_not_what_is_still_to_be_delivered(fleet: Fleet, listen: Listen) -> None:
    endpoint_id, _ = listen()
    with fleet.database.transaction() as session:
        kept, gone = (webhooks.ping(session, fleet.tenant, endpoint_id) for _ in range(2))
    fleet.run("update webhook_events set at = now() - interval '31 days'")
    fleet.run("update webhook_deliveries set status = 'skipped', due_at = null where id = :id", id=gone)
    with fleet.database.transaction() as session:
        assert notify.forget(session) == 1
    assert [d.id for d in deliveries(fleet, endpoint_id)] == [kept]
