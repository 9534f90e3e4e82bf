"""What a run shows to the outside while it trains, OUT/status.json, and what it hears: OUT/stop, OUT/attempt.

A farm starts every attempt at a run with a token of its own (DUBFARM_ATTEMPT) and writes the newest one into
OUT/attempt: an older attempt that is still there, on a machine that was cut off, reads it and stops.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from farm.errors import Transient
from farm.storage.blobs import BlobStore, Missing

STATUS: Final = "status.json"
STOP: Final = "stop"
ATTEMPT: Final = "attempt"
OURS: Final = "DUBFARM_ATTEMPT"
EVERY_S: Final = 1.0


class TrainingFailed(Exception):
    """The run cannot go on as it is; code says why: nan, diverged, bad_dataset, bad_override, bug."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


@dataclass(frozen=True)
class Status:
    """state: running, succeeded, failed, canceled or stopped (resumable). stage_number counts from 1.

    eta_s: seconds to the end of the stage. losses: terms of the last step by "phase/term". useful_s: seconds of steps
    that count (not done again after a loss); goodput: their share of the time since started_at. error: {code, detail}.
    """

    state: str = "running"
    stage: str = ""
    stage_number: int = 0
    stages: int = 0
    step: int = 0
    steps: int = 0
    samples_per_s: float = 0.0
    eta_s: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)
    started_at: str = ""
    updated_at: str = ""
    useful_s: float = 0.0
    goodput: float = 0.0
    gpu_hours: float = 0.0
    workers: int = 0
    error: dict[str, str] | None = None
    attempt: str = field(default_factory=lambda: os.environ.get(OURS, ""))
    """Whose account this is, where a farm started it."""


class Door:
    """Writes the status at most once a second, in a thread of its own, and looks for the stop file as often.

    The training never waits for it: a slow or absent store costs the outside its view, not the run its speed.
    """

    def __init__(self, store: BlobStore, status: Status, key: str = STATUS) -> None:
        self._store, self._key = store, key
        before = read_status(store, key)
        begun = (before or {}).get("started_at") or _now()
        self.spent_gpu_hours = float((before or {}).get("gpu_hours") or 0.0)
        self._status = dataclasses.replace(status, started_at=begun)
        self._stop, self._end = threading.Event(), threading.Event()
        self._followed = False
        self._write()
        self._thread = threading.Thread(target=self._work, name="status", daemon=True)
        self._thread.start()

    @property
    def status(self) -> Status:
        return self._status

    @property
    def age_s(self) -> float:
        """Seconds since the run was first started."""
        return (datetime.now(UTC) - datetime.fromisoformat(self._status.started_at)).total_seconds()

    def show(self, **changes: Any) -> None:
        self._status = dataclasses.replace(self._status, **changes)

    def stop(self) -> None:
        """As the stop file does: safe in a signal handler."""
        self._stop.set()

    def stopping(self) -> bool:
        return self._stop.is_set()

    def close(self, **changes: Any) -> None:
        """The last word. A stop file that was obeyed is taken away, so that the same command goes on."""
        self._end.set()
        self._thread.join()
        self.show(**changes)
        self._write()
        if self._status.state == "stopped" and self._key == STATUS and not self._followed:
            self._store.delete(STOP)

    def _work(self) -> None:
        while not self._end.wait(EVERY_S):
            try:
                self._look_for_a_follower()
                self._write()
                if not self._stop.is_set() and _is_there(self._store, STOP):
                    self._stop.set()
            except Transient:
                continue  # the next second tries again

    def _look_for_a_follower(self) -> None:
        """A later attempt has this run now: stop, and say nothing more in its place."""
        ours = self._status.attempt
        if ours and not self._followed and _text(self._store, ATTEMPT) not in ("", ours):
            self._followed = True
            self._stop.set()

    def _write(self) -> None:
        if self._followed:
            return
        self._status = dataclasses.replace(self._status, updated_at=_now())
        text = json.dumps(dataclasses.asdict(self._status), indent=2) + "\n"
        self._store.put_bytes(text.encode(), self._key)


def read_status(store: BlobStore, key: str = STATUS) -> dict[str, Any] | None:
    """What was shown there last; None where there was nothing."""
    try:
        return json.loads(store.get_bytes(key))
    except (Missing, ValueError):
        return None


def _text(store: BlobStore, key: str) -> str:
    try:
        return store.get_bytes(key).decode(errors="replace")
    except Missing:
        return ""


def _is_there(store: BlobStore, key: str) -> bool:
    try:
        store.stat(key)
    except Missing:
        return False
    return True


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
