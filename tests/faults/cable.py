"""A machine of its own for a worker: a network namespace, a cable to it that can be cut, and the services at its end.

Traffic runs only inside the namespace and on the cable's own pair of addresses.
"""

from __future__ import annotations

import os
import secrets
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Cable:
    name: str
    near: str
    prefix: tuple[str, ...]
    """What a command is started with to run at the far end."""

    def cut(self) -> None:
        """From now on packets vanish, in both directions and without a word."""
        ip("link", "set", self.name, "down")

    def mend(self) -> None:
        ip("link", "set", self.name, "up")


def can_be_laid() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    with suppress(subprocess.CalledProcessError), namespace(f"df{secrets.token_hex(3)}"):
        return True
    return False


@contextmanager
def laid(ports: Iterable[int]) -> Iterator[Cable]:
    """A cable at whose near end 127.0.0.1's `ports` answer, under the address `near`."""
    tag = secrets.token_hex(3)
    name, far_name, space = f"dfn{tag}", f"dff{tag}", f"df{tag}"
    net = f"10.213.{secrets.randbelow(256)}"
    near, far = f"{net}.1", f"{net}.2"
    with ExitStack() as stack:
        stack.enter_context(namespace(space))
        ip("link", "add", name, "type", "veth", "peer", "name", far_name, "netns", space)
        ip("addr", "add", f"{near}/30", "dev", name)
        ip("link", "set", name, "up")
        ip("-n", space, "addr", "add", f"{far}/30", "dev", far_name)
        ip("-n", space, "link", "set", far_name, "up")
        ip("-n", space, "link", "set", "lo", "up")
        for port in ports:
            stack.enter_context(_forwarded(near, port))
        yield Cable(name, near, (str(shutil.which("ip")), "netns", "exec", space))


@contextmanager
def namespace(space: str) -> Iterator[None]:
    ip("netns", "add", space)
    try:
        yield
    finally:
        ip("netns", "del", space)


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@contextmanager
def _forwarded(near: str, port: int) -> Iterator[None]:
    """near:port leads to 127.0.0.1:port."""
    door = socket.create_server((near, port))
    open_ends: list[socket.socket] = [door]

    def serve() -> None:
        while True:
            try:
                caller, _ = door.accept()
                callee = socket.create_connection(("127.0.0.1", port))
            except OSError:
                if door.fileno() < 0:
                    return
                continue
            open_ends.extend((caller, callee))
            threading.Thread(target=pump, args=((caller, callee),), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield
    finally:
        for end in open_ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def pump(ends: Sequence[socket.socket]) -> None:
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    with suppress(OSError, ValueError), ends[0], ends[1]:
        while True:
            for end in select.select(ends, [], [])[0]:
                data = end.recv(1 << 16)
                if not data:
                    return
                other[end].sendall(data)
