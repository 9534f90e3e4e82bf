"""What the steps of a work share on this machine, and how a step that cannot be called off is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TypeVar

from farm.domain.limits import InputLimits
from farm.domain.quality import QualityLimits
from farm.storage.blobs import BlobStore
from workers.engine import Engine
from workers.inputs import Inputs
from workers.patience import patiently
from workers.work import Aborted

T = TypeVar("T")


@dataclass(frozen=True)
class Workshop:
    """batch_frames: of new plans, None for what the engine found. chunk_s: aimed seconds of work a
    chunk; chunk_frames: a fixed length instead.
    deadline_s: the longest that a render chunk may take. keeps_frame_hashes: store them beside segments, for tests.
    deterministic: new plans ask for frames that do not depend on the batch."""

    engine: Engine
    store: BlobStore
    inputs: Inputs
    limits: InputLimits
    endpoint_url: str | None = None
    batch_frames: int | None = None
    chunk_s: float = 30.0
    chunk_frames: int | None = None
    deadline_s: float = 3600.0
    keeps_frame_hashes: bool = False
    quality: QualityLimits = field(default_factory=QualityLimits)
    deterministic: bool = False


def transfer(step: Callable[[], T], abort: threading.Event) -> T:
    """One call of the store: repeated while the store does not answer, left behind when the work is called off."""
    return interruptible(lambda: patiently(step), abort)


def interruptible(step: Callable[[], T], abort: threading.Event) -> T:
    """The result of `step`, or Aborted as soon as `abort` is set: a download is left to end by itself, unheeded."""
    answers: SimpleQueue[tuple[bool, object]] = SimpleQueue()
    done = threading.Event()

    def run() -> None:
        try:
            answers.put((True, step()))
        except BaseException as error:
            answers.put((False, error))
        done.set()

    threading.Thread(target=run, name="transfer", daemon=True).start()
    while not done.wait(0.1):
        if abort.is_set():
            raise Aborted("a transfer was going on")
    is_good, value = answers.get()
    if not is_good:
        assert isinstance(value, BaseException)
        raise value
    return value  # type: ignore[return-value]
