"""A request that meets a lost database is done again, if it may be, and then only for so long."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from api.again import AWAY, Again


class Flaky:
    """Answers 503 for a lost database so many times, then 200 with what it was sent."""

    def __init__(self, fails: int, knows_key: bool = True) -> None:
        self.fails, self.knows_key = fails, knows_key
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message.get("more_body"):
                break
        self.bodies.append(body)
        if self.knows_key:
            scope["tenant_id"] = "ten_1"
        scope[AWAY] = len(self.bodies) <= self.fails
        await send({"type": "http.response.start", "status": 503 if scope[AWAY] else 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


def ask(app: Flaky, method: str, path: str = "/v1/batches", key: bool = False, patience_s: float = 60.0) -> list[Any]:
    parts: list[Message] = [
        {"type": "http.request", "body": b"ab", "more_body": True},
        {"type": "http.request", "body": b"c", "more_body": False},
    ]
    sent: list[Any] = []

    async def receive() -> Message:
        return parts.pop(0)

    async def send(message: Message) -> None:
        sent.append(message.get("status", message.get("body")))

    headers = [(b"idempotency-key", b"k")] if key else []
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    asyncio.run(Again(app, patience_s)(scope, receive, send))
    return sent


@pytest.mark.parametrize(
    ("method", "path", "key"),
    [
        ("GET", "/v1/batches", False),
        ("PATCH", "/v1/jobs/job_1", False),
        ("POST", "/v1/batches", True),
        ("POST", "/v1/batches/bat_1/cancel", False),
    ],
)
def test_done_again_with_the_whole_body_until_it_works(method: str, path: str, key: bool) -> None:
    app = Flaky(2)
    assert ask(app, method, path, key) == [200, b"abc"]
    assert app.bodies == [b"abc"] * 3


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/batches"), ("DELETE", "/v1/keys/key_1"), ("POST", "/v1/models/pdfgc/aliases/champion/rollback")],
)
def test_what_may_not_be_done_twice_is_answered(method: str, path: str) -> None:
    app = Flaky(1)
    assert ask(app, method, path) == [503, b"abc"]
    assert len(app.bodies) == 1


def test_what_failed_at_its_key_was_not_done_at_all() -> None:
    assert ask(Flaky(1, knows_key=False), "POST") == [200, b"abc"]


def test_patience_ends() -> None:
    assert ask(Flaky(10**6), "GET", patience_s=0.5) == [503, b"abc"]
