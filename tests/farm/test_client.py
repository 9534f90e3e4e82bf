"""The client against a server that misbehaves: a real one on loopback, whose answers each test scripts."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from farm.client import ApiError, Batch, Client, DownloadDamaged, Job, Unreachable, events, transport
from farm.client.answers import build
from farm.client.events import parse

NOW = "2026-11-22T09:00:00Z"
COUNTS = {"total": 1, "queued": 0, "running": 1, "succeeded": 0, "failed": 0, "canceled": 0}
BATCH: dict[str, Any] = {
    "id": "bat_1",
    "status": "running",
    "name": None,
    "priority": 50,
    "model": "champion",
    "model_version": "ver_1",
    "metadata": {},
    "deadline": None,
    "counts": COUNTS,
    "progress": 0.5,
    "eta": NOW,
    "created_at": NOW,
    "updated_at": NOW,
    "finished_at": None,
    "a_field_of_tomorrow": 1,
}
DATA = bytes(range(256)) * 40
OUTPUT = {
    "uri": "file:///x",
    "sha256": hashlib.sha256(DATA).hexdigest(),
    "size_bytes": len(DATA),
    "frames": 3,
    "duration_s": 0.1,
}
JOB: dict[str, Any] = {
    "id": "job_1",
    "batch_id": "bat_1",
    "custom_id": "a",
    "kind": "dub",
    "status": "succeeded",
    "phase": None,
    "priority": 50,
    "progress": {"frames_done": 3, "frames_total": 3},
    "eta": None,
    "waiting_reason": None,
    "model_version": "ver_1",
    "media": None,
    "scores": {},
    "error": None,
    "output": OUTPUT,
    "created_at": NOW,
    "updated_at": NOW,
    "finished_at": NOW,
}

Handler = BaseHTTPRequestHandler
Script = Callable[[Handler, int], None]
"""Answers the n-th request (from 0)."""


class Scripted:
    def __init__(self, script: Script) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        outer = self

        class Answering(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                length = int(self.headers.get("content-length", 0))
                seen = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(length)
                outer.requests.append((self.command, self.path, seen, body))
                script(self, len(outer.requests) - 1)

            do_POST = do_PUT = do_DELETE = do_GET

            def log_message(self, format: str, *args: object) -> None:
                del format, args

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Script], tuple[Scripted, Client]]]:
    """A server with a script and a client of it. Pauses between tries are cut out."""
    pauses = (lambda attempt, retry_after: 0.0,)
    for module in ("transport", "events", "files"):
        monkeypatch.setattr(f"farm.client.{module}.pause_s", pauses[0])
    started: list[tuple[Scripted, Client]] = []

    def start(script: Script) -> tuple[Scripted, Client]:
        server = Scripted(script)
        client = Client(server.url, "dub_a_b", retries=3, timeout_s=5)
        started.append((server, client))
        return server, client

    yield start
    for server, client in started:
        client.close()
        server.stop()


def answer(handler: Handler, status: int, body: object = None, headers: dict[str, str] | None = None) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(data)))
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


def cut(handler: Handler) -> None:
    handler.close_connection = True


def test_a_submission_is_repeated_under_one_idempotency_key(scripted):
    def script(handler: Handler, n: int) -> None:
        if n == 0:
            cut(handler)
        elif n == 1:
            answer(handler, 503, {})
        elif n == 2:
            answer(handler, 409, {"code": "idempotency_in_flight"}, {"Retry-After": "1"})
        else:
            answer(handler, 202, BATCH)

    server, client = scripted(script)
    assert client.submit([{"custom_id": "a"}], metadata={"k": "v"}).id == "bat_1"
    keys = {headers["idempotency-key"] for _, _, headers, _ in server.requests}
    assert len(server.requests) == 4
    assert len(keys) == 1
    body = json.loads(server.requests[-1][3])
    assert body == {
        "items": [{"custom_id": "a"}],
        "priority": 50,
        "model": "champion",
        "metadata": {"k": "v"},
    }


def test_a_rollback_is_repeated_under_one_idempotency_key_so_that_it_goes_back_once(scripted):
    server, client = scripted(lambda handler, n: cut(handler))
    with pytest.raises(Unreachable):
        client.rollback("champion")
    assert len(server.requests) > 1
    assert len({headers["idempotency-key"] for _, _, headers, _ in server.requests}) == 1


def test_a_refusal_is_not_repeated_and_keeps_its_fields(scripted):
    problem = {
        "title": "Unprocessable",
        "status": 422,
        "detail": "1 thing wrong",
        "code": "invalid",
        "retryable": False,
        "request_id": "req_1",
        "errors": [{"pointer": "/items/0/video", "code": "field_missing", "detail": "this field is required"}],
    }
    server, client = scripted(lambda handler, n: answer(handler, 422, problem))
    with pytest.raises(ApiError) as caught:
        client.submit([])
    assert len(server.requests) == 1
    error = caught.value
    assert (error.status, error.code, error.request_id, error.retryable) == (422, "invalid", "req_1", False)
    assert error.errors[0].pointer == "/items/0/video"


def test_an_answer_of_something_in_between(scripted):
    _, client = scripted(lambda handler, n: answer(handler, 502, b"<html>bad gateway"))
    with pytest.raises(ApiError) as caught:
        client.batch("bat_1")
    assert (caught.value.status, caught.value.code, caught.value.retryable) == (502, "http_error", True)


def test_nobody_there():
    with Client("http://127.0.0.1:1", retries=0) as client:
        assert not client.ready()
        with pytest.raises(Unreachable):
            client.batch("bat_1")


def test_pages_are_walked(scripted):
    def script(handler: Handler, n: int) -> None:
        answer(handler, 200, {"data": [BATCH | {"id": f"bat_{n}"}], "next_cursor": f"c{n}" if n < 2 else None})

    server, client = scripted(script)
    since = datetime(2026, 1, 1, tzinfo=UTC)
    assert [batch.id for batch in client.batches(status="running", updated_since=since)] == ["bat_0", "bat_1", "bat_2"]
    assert server.requests[0][1] == "/v1/batches?status=running&updated_since=2026-01-01T00%3A00%3A00%2B00%3A00"
    assert server.requests[2][1].endswith("&cursor=c1")


def test_answers_are_read_by_type():
    batch = build(Batch, BATCH)
    assert batch.created_at == datetime(2026, 11, 22, 9, tzinfo=UTC)
    assert batch.counts.running == 1
    assert not batch.is_terminal
    job = build(Job, JOB)
    assert job.output is not None
    assert job.output.size_bytes == len(DATA)
    with pytest.raises(ValueError, match="not a Batch"):
        build(Batch, {"id": "bat_1"})


def sse(*parts: str) -> bytes:
    return "".join(parts).encode()


def stream(handler: Handler, data: bytes) -> None:
    """An event stream that ends with the connection."""
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.end_headers()
    handler.wfile.write(data)
    handler.close_connection = True


def progress(status: str) -> str:
    return json.dumps({"batch": BATCH | {"status": status}, "jobs": [JOB]})


def test_watching_goes_on_after_a_cut(scripted):
    def script(handler: Handler, n: int) -> None:
        if n == 0:
            stream(handler, sse("retry: 1\n\n: alive\n\n", 'id: 7\nevent: job.status\ndata: {"job_id": "job_1"}\n\n'))
        elif n == 1:
            answer(handler, 503, {})
        else:
            stream(
                handler,
                sse(
                    f"event: progress\ndata: {progress('running')}\n\n",
                    f"event: end\ndata: {progress('completed')}\n\n",
                ),
            )

    server, client = scripted(script)
    seen = list(client.watch("bat_1"))
    assert [(event.id, event.type) for event in seen] == [("7", "job.status"), ("", "progress"), ("", "end")]
    assert [headers.get("last-event-id") for _, _, headers, _ in server.requests] == [None, "7", "7"]
    assert seen[1].batch is not None
    assert seen[1].batch.status == "running"
    assert seen[1].jobs[0].custom_id == "a"
    assert seen[0].batch is None
    assert seen[0].jobs == ()


def test_watching_falls_back_to_polling(scripted, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(events, "POLL_S", 0.0)
    polls = 0

    def script(handler: Handler, n: int) -> None:
        nonlocal polls
        if handler.path.endswith("/events"):
            cut(handler)
            return
        polls += 1
        answer(handler, 200, BATCH | {"status": "running" if polls < 12 else "completed"})

    _, client = scripted(script)
    seen = [event.type for event in client.watch("bat_1")]
    assert seen == ["progress"] * 11 + ["end"]


def test_watching_what_is_not_there(scripted):
    _, client = scripted(lambda handler, n: answer(handler, 404, {"code": "not_found"}))
    with pytest.raises(ApiError, match="not_found"):
        list(client.watch("bat_1"))


def test_event_streams_are_parsed_as_the_standard_says():
    lines = [": hello", "id:3", "event: a", "data: 1", "data:2", "", "data: 3", "", "event: lost", ""]
    assert list(parse(lines)) == [("3", "a", "1\n2"), ("3", "message", "3")]


def test_a_download_goes_on_where_it_was_cut(scripted, tmp_path: Path):
    ranges: list[str | None] = []

    def script(handler: Handler, n: int) -> None:
        if not handler.path.endswith("/output"):
            answer(handler, 200, JOB)
            return
        asked = handler.headers.get("range")
        ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        handler.send_response(206 if asked else 200)
        handler.send_header("Content-Length", str(len(DATA) - start))
        handler.end_headers()
        handler.wfile.write(DATA[start : start + 4000])
        handler.close_connection = True

    _, client = scripted(script)
    seen: list[int] = []
    path = client.download("job_1", tmp_path / "o.mp4", lambda done, total: seen.append(done))
    assert path.read_bytes() == DATA
    assert ranges == [None, "bytes=4000-", "bytes=8000-"]
    assert seen[-1] == len(DATA)
    assert list(tmp_path.iterdir()) == [path]


def test_a_download_with_other_bytes_is_refused(scripted, tmp_path: Path):
    def script(handler: Handler, n: int) -> None:
        answer(handler, 200, DATA[::-1] if handler.path.endswith("/output") else JOB)

    _, client = scripted(script)
    with pytest.raises(DownloadDamaged):
        client.download("job_1", tmp_path / "o.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_key_goes_to_the_farm_only(scripted, tmp_path: Path):
    """An upload to an object store carries its own signature; the farm's key stays at home."""
    asset = {"id": "ast_1", "status": "pending", "created_at": NOW}

    def elsewhere(handler: Handler, n: int) -> None:
        answer(handler, 503 if n == 0 else 200)

    other, _ = scripted(elsewhere)

    def script(handler: Handler, n: int) -> None:
        if handler.path == "/v1/assets":
            upload = {"method": "PUT", "url": f"{other.url}/bucket/x", "headers": {"x-signed": "1"}}
            answer(handler, 201, asset | {"upload": upload})
        else:
            answer(handler, 200, asset | {"status": "ready"})

    server, client = scripted(script)
    file = tmp_path / "v.wav"
    file.write_bytes(DATA)
    done: list[tuple[int, int]] = []
    assert client.upload(file, lambda *sent: done.append(sent)).status == "ready"
    assert [body for _, _, _, body in other.requests] == [DATA, DATA]
    assert "authorization" not in other.requests[0][2]
    assert other.requests[0][2]["x-signed"] == "1"
    assert done[-1] == (len(DATA), len(DATA))
    assert json.loads(server.requests[-1][3]) == {"sha256": hashlib.sha256(DATA).hexdigest()}


def test_pauses_follow_the_server_and_grow_else():
    assert transport.pause_s(0, "7") == 7
    assert transport.pause_s(0, "9999") == transport.LONGEST_PAUSE_S
    assert 0.125 <= transport.pause_s(0, None) <= 0.25
    assert 1.0 <= transport.pause_s(3, None) <= 2.0
    assert transport.pause_s(50, None) <= transport.LONGEST_PAUSE_S
