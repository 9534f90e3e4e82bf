"""A webhook receiver on loopback that behaves as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Got:
    path: str
    headers: dict[str, str]
    body: bytes
    status: int | None = None
    """What it was answered; None: nothing."""


@dataclass(frozen=True)
class Say:
    """An answer. stall: never finish it; before: do this when the request has been read."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    stall: bool = False
    before: Callable[[], None] = lambda: None


class Receiver:
    """`script`: path -> answers in turn; the last one stays. Any other path is answered 200."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.script: dict[str, list[Say]] = {}
        self.ended = threading.Event()
        self._arrived = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(receiver.take(Got(self.path, {k.lower(): v for k, v in self.headers.items()}, body)))

            def do_GET(self) -> None:
                self._answer(receiver.take(Got(f"GET {self.path}", {}, b"")))

            def _answer(self, say: Say) -> None:
                say.before()
                if say.stall:
                    receiver.ended.wait(60)
                    return
                self.send_response(say.status)
                for name, value in say.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(say.body)))
                self.end_headers()
                self.wfile.write(say.body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a relay that was killed

        self._server = Server(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"

    def url(self, path: str) -> str:
        return f"http://{self.host}{path}"

    def take(self, got: Got) -> Say:
        with self._arrived:
            says = self.script.get(got.path, [Say()])
            say = says.pop(0) if len(says) > 1 else says[0]
            self.got.append(replace(got, status=None if say.stall else say.status))
            self._arrived.notify_all()
            return say

    def wait(self, count: int, timeout_s: float = 120.0) -> list[Got]:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.got) >= count, timeout_s), self.got
            return list(self.got)

    @contextmanager
    def running(self) -> Iterator[Receiver]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.ended.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()
