"""What runs beside a swap while it is measured: a steady stream of jobs, and an eye on processes' memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from benchmarks.report import note
from farm.client import Client

EVERY_S: Final = 0.1


class Stream:
    """Keeps `depth` jobs open, from a thread of its own, until the block ends."""

    def __init__(
        self, client: Client, sql: Callable[..., list[Any]], items: Sequence[Mapping[str, Any]], depth: int
    ) -> None:
        self._client, self._sql, self._items, self._depth = client, sql, items, depth
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)
        self.failed = False

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def open(self) -> int:
        return self._sql("select count(*) from jobs where finished_at is null")[0][0]

    def _run(self) -> None:
        number = 0
        while not self._stopped.wait(EVERY_S):
            try:
                for _ in range(self._depth - self.open()):
                    number += 1
                    items = [{**item, "custom_id": f"{number}-{k}"} for k, item in enumerate(self._items)]
                    self._client.submit(items, name=f"swap {number}")
            except Exception as error:
                note(f"nothing submitted: {error}")
                self.failed = True
                raise


class Memory:
    """Peak resident memory of engines by the kernel's own account, and of bundles' trials by looking often."""

    def __init__(self) -> None:
        self._engines: Mapping[str, int] = {}
        self._trial = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def watch(self, engines: Mapping[str, int]) -> None:
        """Of these pids, from now on."""
        self._engines = engines
        self.restart()

    def restart(self) -> None:
        """Forget the peaks so far."""
        for pid in self._engines.values():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak_mb(self, of: str) -> float:
        """of: "engine", the largest of all; or "trial"."""
        kib = self._trial if of == "trial" else max(_kib(pid, "VmHWM") for pid in self._engines.values())
        return kib * 1024 / 1e6

    def _run(self) -> None:
        while not self._stopped.wait(EVERY_S):
            for pid, line in commands():
                if b"workers.trial" in line:
                    self._trial = max(self._trial, _kib(pid, "VmRSS"))


def commands() -> list[tuple[int, bytes]]:
    """Every process with its command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append((int(path.parent.name), path.read_bytes()))
    return found


def engines(worker: int) -> list[int]:
    """The engines of a worker's process: the children that it spawned. Waits for one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [pid for pid, line in commands() if b"spawn_main" in line and _parent(pid) == worker]
        if found:
            return found
        time.sleep(EVERY_S)
    raise RuntimeError(f"worker {worker} has no engine")


def _parent(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _kib(pid: int, field: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
    return 0
