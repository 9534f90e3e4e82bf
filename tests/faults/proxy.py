"""An HTTP proxy in front of an S3 server that fails as networks and servers do: errors, cuts, stalls."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "proxy-connection"})


@dataclass
class Weather:
    """How bad it is now. share: of calls that fail, each in one of `ways`; stall_s: how long a stalled call hangs."""

    share: float = 0.0
    stall_s: float = 2.0
    ways: tuple[str, ...] = ("error", "reset", "cut", "stall", "late")
    down: bool = False
    dice: random.Random = field(default_factory=lambda: random.Random(0))
    failed: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def strike(self) -> str | None:
        """What happens to the next call; None: nothing."""
        with self.lock:
            self.calls += 1
            way = None
            if self.down:
                way = "reset"
            elif self.dice.random() < self.share:
                way = self.dice.choice(self.ways)
            if way is not None:
                self.failed[way] = self.failed.get(way, 0) + 1
            return way


class Proxy(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        assert parts.port is not None
        self.upstream = (parts.hostname, parts.port)
        self.weather = Weather()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that went away are part of the game."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy  # pyright: ignore[reportIncompatibleVariableOverride]

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        way = self.server.weather.strike()
        if way == "stall":  # and then nothing
            time.sleep(self.server.weather.stall_s)
            return self._reset()
        if way == "reset":
            return self._reset()
        if way == "error":
            return self._answer(503, {"Content-Type": "application/xml"}, _SLOW_DOWN)
        if way == "late":  # slow, but well in the end
            time.sleep(self.server.weather.stall_s)
        upstream = http.client.HTTPConnection(*self.server.upstream, timeout=60)
        try:
            upstream.request(self.command, self.path, body or None, dict(self.headers.items()))
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP}
        if self.command == "HEAD":
            return self._answer(answer.status, headers, b"")
        if way == "cut":  # done at the server, half told
            headers["Content-Length"] = str(len(content) or 100)
            self._answer(answer.status, headers, content[: len(content) // 2])
            return self._reset()
        headers["Content-Length"] = str(len(content))
        return self._answer(answer.status, headers, content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name in headers):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        pass


_SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)


@contextmanager
def before(upstream: str) -> Iterator[Proxy]:
    proxy = Proxy(upstream)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
