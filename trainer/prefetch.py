"""The next batches are drawn while the networks learn from this one."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final

import torch
from torch import Tensor

AHEAD: Final = 2


@contextmanager
def drawn_ahead(draw: Callable[[int], Any], steps: range, device: torch.device) -> Iterator[Iterator[Any]]:
    """draw(step) for every step in order, from a thread of its own; what is drawn is the same as if it were not.

    Draws depend on the step's number and on what the stage leaves alone, so a batch drawn too early is no other. On a
    GPU they run on a stream of their own. An error in a draw comes out where its batch would have.
    """
    ready: queue.Queue[tuple[Any, Exception | None, Any]] = queue.Queue(AHEAD)
    end = threading.Event()
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def offer(item: tuple[Any, Exception | None, Any]) -> None:
        while not end.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        with torch.cuda.stream(stream) if stream else nullcontext():
            for step in steps:
                if end.is_set():
                    return
                try:
                    batch = draw(step)
                except Exception as error:
                    offer((None, error, None))
                    return
                offer((batch, None, stream.record_event() if stream else None))

    thread = threading.Thread(target=work, name="draw", daemon=True)
    thread.start()

    def batches() -> Iterator[Any]:
        for _ in steps:
            batch, error, event = ready.get()
            if error is not None:
                raise error
            if event is not None:
                torch.cuda.current_stream(device).wait_event(event)
                _used_here(batch, torch.cuda.current_stream(device))
            yield batch

    try:
        yield batches()
    finally:
        end.set()
        thread.join()


def _used_here(batch: Any, stream: torch.cuda.Stream) -> None:
    """The memory must not be given away while this stream still reads it."""
    if isinstance(batch, Tensor):
        if batch.is_cuda:
            batch.record_stream(stream)
    elif isinstance(batch, tuple | list):
        for part in batch:
            _used_here(part, stream)
    elif dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        for item in dataclasses.fields(batch):
            _used_here(getattr(batch, item.name), stream)
