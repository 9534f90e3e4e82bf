"""A balancer as one stands before two APIs: connections in turn, elsewhere when one is refused."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from tests.faults.cable import pump


@contextmanager
def balanced(ports: Sequence[int]) -> Iterator[str]:
    door = socket.create_server(("127.0.0.1", 0), backlog=128)
    turns = itertools.cycle(range(len(ports)))

    def serve() -> None:
        while True:
            try:
                caller, _ = door.accept()
            except OSError:
                return
            first = next(turns)
            for port in (*ports[first:], *ports[:first]):
                with suppress(OSError):
                    callee = socket.create_connection(("127.0.0.1", port))
                    threading.Thread(target=pump, args=((caller, callee),), daemon=True).start()
                    break
            else:
                caller.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
    finally:
        with suppress(OSError):
            door.shutdown(socket.SHUT_RDWR)
        door.close()
        thread.join()
