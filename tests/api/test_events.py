"""Server-sent events over a live connection."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest

from api import streams
from farm.client import Client
from farm.client.events import parse
from tests.api.conftest import Api, Starter
from tests.api.hands import Hands
from tests.api.test_batches import items


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "TICK_S", 0.05)
    monkeypatch.setattr(streams, "NAP_S", 0.01)


def test_a_batch_is_watched_to_its_end(client: Client, hands: Hands):
    batch = client.submit(items(2))
    one, two = client.jobs(batch.id)
    seen: list[Any] = []
    rendering = threading.Event()

    def watch() -> None:
        for event in client.watch(batch.id):
            seen.append(event)
            if any(job.progress.frames_done == 5 for job in event.jobs):
                rendering.set()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    hands.plan(one.id)
    held = hands.render_one(one.id, settle_it=False)
    seen_inside = rendering.wait(120)
    client.cancel_job(one.id)
    hands.notice_the_end(held)
    hands.make(two.id)
    watcher.join(120)
    assert not watcher.is_alive()
    assert seen_inside, "frames inside a chunk were not shown"
    kinds = [event.type for event in seen]
    assert kinds[0] == "batch.created"
    assert kinds[-1] == "end"
    assert "progress" in kinds
    assert kinds.count("job.status") >= 5
    ids = [int(event.id) for event in seen if event.type.startswith(("batch.", "job."))]
    assert ids == sorted(set(ids))
    last = seen[-1].batch
    assert last is not None
    assert last.is_terminal
    assert last.counts.succeeded == 1


def events_of(http: httpx.Client, path: str, **headers: str) -> list[tuple[str | None, str, str]]:
    """All events of a stream that ends."""
    with http.stream("GET", path, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        return list(parse(answer.iter_lines()))


def test_resuming_misses_nothing_and_repeats_nothing(http: httpx.Client, client: Client, hands: Hands):
    batch = client.submit(items())
    (job,) = client.jobs(batch.id)
    hands.make(job.id)
    whole = events_of(http, f"/v1/batches/{batch.id}/events")
    log = [(id, name) for id, name, _ in whole if name not in ("progress", "end")]
    assert (log[0][1], log[-1][1]) == ("batch.created", "batch.completed")
    for n, (id, _) in enumerate(log):
        assert id is not None
        rest = events_of(http, f"/v1/batches/{batch.id}/events", **{"Last-Event-ID": id})
        assert [(id, name) for id, name, _ in rest if name not in ("progress", "end")] == log[n + 1 :]
        assert rest[-1][1] == "end"
    of_job = events_of(http, f"/v1/jobs/{job.id}/events")
    assert {name for _, name, _ in of_job} == {"job.status", "end"}
    assert [event.type for event in client.watch_job(job.id)][-1] == "end"


def test_ids_that_cannot_be(http: httpx.Client, client: Client):
    batch = client.submit(items())
    for bad in ("x", "-1", "²"):
        answer = http.get(f"/v1/batches/{batch.id}/events", headers={"Last-Event-ID": bad.encode()})
        assert (answer.status_code, answer.json()["code"]) == (400, "last_event_id_invalid")


def test_a_quiet_stream_stays_alive(http: httpx.Client, client: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streams, "HEARTBEAT_S", 0.2)
    batch = client.submit(items())
    beats = 0
    with http.stream("GET", f"/v1/batches/{batch.id}/events") as answer:
        for line in answer.iter_lines():
            beats += line == ": alive"
            if beats == 2:
                break
    assert beats == 2


def test_a_stopping_server_ends_its_streams(start_api: Starter):
    """Without `end`: the client knows that it has to come back. A stream that went on would never be read out."""
    api: Api = start_api()
    key = api.key("watching a server stop")
    with Client(api.url, key) as client, api.http(key) as http:
        batch = client.submit(items())
        with http.stream("GET", f"/v1/batches/{batch.id}/events") as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("retry:")
            api.stopping.set()
            names = [name for _, name, _ in parse(lines)]
        assert "end" not in names
