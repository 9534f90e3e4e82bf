"""What the webhook sender leaves open: nothing."""

from __future__ import annotations

import http.client
import socket
import threading

import pytest

from farm.domain.limits import InputLimits
from farm.storage import post


@pytest.mark.parametrize("length", ["", "Content-Length: 90000\r\n"], ids=["until it closes", "told length"])
def test_the_connection_is_closed_whatever_the_answer_has_left(monkeypatch: pytest.MonkeyPatch, length: str) -> None:
    held: list[http.client.HTTPResponse] = []

    class Held(post.Connection):
        def getresponse(self) -> http.client.HTTPResponse:
            held.append(super().getresponse())  # so that no end of its life closes it
            return held[-1]

    monkeypatch.setattr(post, "Connection", Held)
    ended: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(30)
                asked = b""
                while not asked.endswith(b"{}"):
                    asked += connection.recv(65536)
                connection.sendall(f"HTTP/1.1 200 OK\r\n{length}Connection: close\r\n\r\n".encode() + b"x" * 2000)
                try:
                    ended.append(connection.recv(1))
                except ConnectionResetError:  # closed with bytes unread
                    ended.append(b"")

        serving = threading.Thread(target=answer)
        serving.start()
        host = f"127.0.0.1:{server.getsockname()[1]}"
        limits = InputLimits(schemes=("http",), private_hosts=(host,))
        posted = post.post(f"http://{host}/", b"{}", {}, limits, 20)
        assert (posted.status, posted.answer) == (200, "x" * post.ANSWER_BYTES)
        assert held[0].closed
        serving.join()
    assert ended == [b""], "the receiver never saw the end"
