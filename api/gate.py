"""The outermost layer: a request id, one log line a request, body size and content type, bugs as 500 problems."""

from __future__ import annotations

import asyncio
import bisect
import json
import threading
import time
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import errors
from farm import trace
from farm.domain.ids import new_id
from farm.domain.measure import Histogram, Page

log = structlog.get_logger("api")

BODY_LIMIT: Final = 32 * 2**20
"""10,000 items of 2 kB each are 20 MB; asset bytes have a limit of their own."""


METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
REQUEST_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
NO_REQUESTS: Final = Histogram((0,) * (len(REQUEST_SECONDS) + 1))


def takes_raw_bytes(scope: Scope) -> bool:
    """Uploads of asset bytes: any content type, no limit here. (Another method finds no route, whatever it brings.)"""
    return scope["path"].endswith("/bytes")


class Requests:
    """Requests of this process by method, route and status, for /metrics. Event streams count when they end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[tuple[str, str, str], Histogram] = {}

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        counts = [0] * (len(REQUEST_SECONDS) + 1)
        counts[bisect.bisect_left(REQUEST_SECONDS, seconds)] = 1
        key = (method, route, str(status))
        with self._lock:
            self._seconds[key] = self._seconds.get(key, NO_REQUESTS).plus(Histogram(tuple(counts), seconds))

    def write(self, page: Page) -> None:
        with self._lock:
            rows = [({"method": m, "route": r, "status": s}, h) for (m, r, s), h in self._seconds.items()]
        page.histogram("request_seconds", "Requests that this API process answered.", rows, REQUEST_SECONDS)


class Gate:
    def __init__(self, app: ASGIApp, body_limit: int = BODY_LIMIT, requests: Requests | None = None) -> None:
        self.app = app
        self.requests = requests or Requests()
        self.body_limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = new_id("req")
        scope["request_id"] = request_id
        started = time.monotonic()
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                headers.update(scope.get("answer_headers", {}))
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            # "" is nobody: on a kept connection, this task inherits the context of the request before.
            caller = Headers(scope=scope).get("traceparent", "")
            with trace.span(scope["method"], parent=caller, request=request_id) as span:
                await self._guarded(scope, receive, send_marked)
                if span is not None:
                    route = getattr(scope.get("route"), "path", "none")
                    span.update_name(f"{scope['method']} {route}")
                    span.set_attribute("http.response.status_code", status)
        except ClientDisconnect:
            pass
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("bug")
            if status:
                raise
            answer = errors.response(
                Request(scope), "internal", "a bug in the farm; the log has it under this request_id", 500
            )
            await answer(scope, receive, send_marked)
        finally:
            seconds = time.monotonic() - started
            # The route, not the path: ids would make a series each.
            self.requests.note(
                scope["method"] if scope["method"] in METHODS else "other",
                getattr(scope.get("route"), "path", "none"),
                status,
                seconds,
            )
            log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                tenant_id=scope.get("tenant_id"),
                seconds=round(seconds, 4),
            )

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "\0" in scope["path"]:  # Postgres takes no such text, and nothing is called so
            await self._answer(errors.ApiProblem("not_found", "nothing is called so"), scope, receive, send)
            return
        if takes_raw_bytes(scope):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        length = headers.get("content-length")
        too_large = errors.ApiProblem(
            "body_too_large",
            f"the body may have {self.body_limit} bytes; split the batch",
            headers={"Connection": "close"},
        )
        if length is not None and length.isdigit() and int(length) > self.body_limit:
            await self._answer(too_large, scope, receive, send)
            return
        has_body = "transfer-encoding" in headers or (length or "0") != "0"
        if has_body and scope["method"] in ("POST", "PUT", "PATCH", "DELETE"):
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                problem = errors.ApiProblem(
                    "content_type_unsupported", f"send application/json, not {kind or 'a body without a content type'}"
                )
                await self._answer(problem, scope, receive, send)
                return
        taken = 0

        async def receive_counted() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > self.body_limit:
                    raise too_large
            return message

        await self.app(scope, receive_counted, send)

    async def _answer(self, problem: errors.ApiProblem, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        answer = errors.response(
            request, problem.code, str(problem.detail), problem.status_code, problem.problems, problem.headers
        )
        await answer(scope, receive, send)


def json_bytes(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
