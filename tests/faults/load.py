"""People at work while a farm is renewed: a client that repeats a request once after a reset, and never else."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass
class Caller:
    """Asks all the time, in a thread; `requests`, `resets` (repeated once) and `failed` say how it was served."""

    url: str
    key: str
    items: list[dict[str, Any]]
    requests: int = 0
    resets: int = 0
    slowest_s: float = 0.0
    failed: list[str] = field(default_factory=list)
    batches: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._submit = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def submit_soon(self) -> None:
        """The next request hands in the items."""
        self._submit.set()

    def _run(self) -> None:
        with httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=90) as http:
            for number in itertools.count():
                if self._stopped.is_set() and not self._submit.is_set():
                    return
                if self._submit.is_set():
                    self._submit.clear()
                    answer = self._ask(http, "POST", "/v1/batches", {"items": self.items})
                    if answer is not None:
                        self.batches.append(answer["id"])
                elif number % 3 == 0:
                    self._ask(http, "POST", "/v1/batches", {"items": self.items, "dry_run": True})
                else:
                    self._ask(http, "GET", "/v1/batches?page_size=20")
                time.sleep(0.05)

    def _ask(self, http: httpx.Client, method: str, path: str, body: Any = None) -> Any:
        headers = {"Idempotency-Key": secrets.token_hex(8)} if body is not None else {}
        self.requests += 1
        asked = time.monotonic()
        for is_repeated in (False, True):
            try:
                answer = http.request(method, path, json=body, headers=headers)
            except httpx.TransportError as error:
                if is_repeated:
                    self.failed.append(f"{method} {path}: {type(error).__name__} {error}")
                self.resets += 1
                continue
            self.slowest_s = max(self.slowest_s, time.monotonic() - asked)
            if answer.is_success:
                return answer.json()
            self.failed.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
            return None
        return None
