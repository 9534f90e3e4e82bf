"""Machines on one switch: a network namespace each, with an address of its own and a plug that can be pulled.

The switch is a namespace too: nothing of this machine's own network is touched.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from tests.faults.cable import ip, namespace


@dataclass(frozen=True)
class Machine:
    space: str
    address: str
    switch: str
    port: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """What a command is started with to run there."""
        return (str(shutil.which("ip")), "netns", "exec", self.space)

    def empty(self) -> None:
        """End all that runs there, whoever started it."""
        while pids := ip("netns", "pids", self.space).split():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.1)

    def cut(self) -> None:
        """From now on packets vanish, in both directions and without a word."""
        ip("-n", self.switch, "link", "set", self.port, "down")

    def mend(self) -> None:
        ip("-n", self.switch, "link", "set", self.port, "up")


@contextmanager
def machines(count: int) -> Iterator[tuple[Machine, ...]]:
    """So many machines that reach each other and nothing else; each calls its interface eth0."""
    tag = secrets.token_hex(3)
    switch, net = f"dfs{tag}", f"10.214.{secrets.randbelow(256)}"
    with ExitStack() as stack:
        stack.enter_context(namespace(switch))
        ip("-n", switch, "link", "add", "br0", "type", "bridge")
        ip("-n", switch, "link", "set", "br0", "up")
        made = []
        for number in range(1, count + 1):
            space, port, address = f"dfm{tag}{number}", f"port{number}", f"{net}.{number}"
            stack.enter_context(namespace(space))
            ip("-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("-n", switch, "link", "set", port, "master", "br0", "up")
            ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
            for interface in ("eth0", "lo"):
                ip("-n", space, "link", "set", interface, "up")
            made.append(Machine(space, address, switch, port))
            stack.callback(made[-1].empty)
        yield tuple(made)
