"""HTTP to hosts that users name: on a socket that is connected to an address checked before.

A library that resolves the host again could be told another address (DNS rebinding). No proxy, no cookies, no
credentials.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from typing import Final

from farm.errors import Rejected
from farm.storage.guard import Target

QUIET_S: Final = 30.0
"""How long a server may send nothing."""


class Watch:
    """Breaks off a download at its time limit, wherever it hangs; a server that drips a byte now and then ends too."""

    def __init__(self, limit_s: float, detail: str | None = None) -> None:
        self._ends_at = time.monotonic() + limit_s
        self._detail = detail or f"the exchange took longer than {limit_s:.0f} s"
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(limit_s, self._break_off)
        self._timer.daemon = True

    def __enter__(self) -> Watch:
        self._timer.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._timer.cancel()

    def over(self, connected: socket.socket) -> None:
        self._socket = connected
        self.check()

    def _break_off(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def check(self) -> None:
        if time.monotonic() >= self._ends_at:
            raise Rejected("uri_too_slow", self._detail)


class Connection(http.client.HTTPConnection):
    """Connects to one of the given addresses, and asks TLS for the host by its name."""

    def __init__(self, target: Target, addresses: tuple[str, ...], watch: Watch, quiet_s: float = QUIET_S) -> None:
        super().__init__(target.host, target.port, timeout=quiet_s)
        self._target, self._addresses, self._watch = target, addresses, watch

    def connect(self) -> None:
        failed: OSError = OSError("no address")
        for address in self._addresses:
            self._watch.check()
            try:
                self.sock = socket.create_connection((address, self._target.port), timeout=self.timeout)
                break
            except OSError as error:
                failed = error
        else:
            raise failed
        self._watch.over(self.sock)
        if self._target.scheme == "https":
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self._target.host)
            self._watch.over(self.sock)
