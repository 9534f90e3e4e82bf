"""A render chunk: bring its inputs here, have the engine render its span, store the segment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from farm import trace
from farm.domain.order import Order, Progress, Segment
from farm.storage import keys
from workers.heartbeat import Heartbeat
from workers.work import Preview, Rendered, RenderWork
from workers.workshop import Workshop, interruptible, transfer

LAST_PREVIEW_S: Final = 2.0
"""How long a finished chunk waits for its last preview to be stored."""


def render(
    order: Order, shop: Workshop, beat: Heartbeat, scratch: Path, on_fetched: Callable[[], None] = lambda: None
) -> Segment:
    """on_fetched: called when the inputs are here, and the way to the store is free for others."""
    began = time.perf_counter()
    with trace.span("fetch"):
        work = interruptible(lambda: _work(order, shop, scratch), beat.abort)
    seconds = {"fetch": time.perf_counter() - began}
    on_fetched()
    previews = _Previews(order, shop, beat)
    try:
        rendered: Rendered = shop.engine.run(work, deadline_s=shop.deadline_s, on_report=previews, abort=beat.abort)
    finally:
        previews.close()
    beat.check()
    began = time.perf_counter()
    with trace.span("upload"):
        blob = transfer(lambda: shop.store.put_file(work.dest, keys.segment(order.lease)), beat.abort)
        if (hashes := work.frame_hashes) is not None:
            transfer(lambda: shop.store.put_file(hashes, keys.frame_hashes(order.lease)), beat.abort)
    seconds |= {**rendered.seconds, "upload": time.perf_counter() - began}
    return Segment(blob, work.span, rendered.frames, seconds, rendered.scores, previews.key, rendered.flags)


def _work(order: Order, shop: Workshop, scratch: Path) -> RenderWork:
    plan = order.plan
    assert plan is not None
    take = shop.inputs.file
    return RenderWork(
        order.spec,
        f"{plan.plan.sha256} {order.bundle_sha256}",
        plan.source_facts,
        shop.inputs.bundle(order.bundle_key, order.bundle_sha256, scratch),
        take(plan.plan, scratch, "plan.npz"),
        take(plan.source, scratch, "source"),
        tuple(take(driver, scratch, f"driver{number}") for number, driver in enumerate(plan.drivers)),
        take(plan.speech, scratch, "speech.wav"),
        order.lease.span,
        order.batch_frames,
        scratch / "segment.mp4",
        preview=scratch / "preview.jpg",
        frame_hashes=scratch / "frames.txt" if shop.keeps_frame_hashes else None,
        quality=shop.quality,
        may_rerender=order.lease.attempt <= shop.quality.rerenders,
    )


class _Previews:
    """Stores the newest preview in a thread of its own, one at a time: a slow store must not hold up the engine."""

    def __init__(self, order: Order, shop: Workshop, beat: Heartbeat) -> None:
        self._order, self._shop, self._beat = order, shop, beat
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="preview")
        self._pending: Future[None] | None = None
        self._key: str | None = None
        self._older: str | None = None
        self._lock = threading.Lock()

    def __call__(self, report: Progress | Preview) -> None:
        if isinstance(report, Progress):
            with self._lock:
                self._beat.progress = replace(report, preview_key=self._key)
        elif self._pending is None or self._pending.done():
            self._pending = self._pool.submit(self._store, report)

    def _store(self, preview: Preview) -> None:
        # A preview that fails to be stored is only a preview.
        with suppress(Exception):
            key = keys.preview(self._order.lease, preview.frame)
            self._shop.store.put_bytes(preview.path.read_bytes(), key)
            with self._lock:
                older, self._older, self._key = self._older, self._key, key
                self._beat.progress = replace(self._beat.progress, preview_key=key)
            if older is not None:
                # The one before the newest stays: somebody may have just been told of it.
                self._shop.store.delete(older)

    @property
    def key(self) -> str | None:
        """Of the newest preview that is stored."""
        with self._lock:
            return self._key

    def close(self) -> None:
        if self._pending is not None:
            wait([self._pending], LAST_PREVIEW_S)
        self._pool.shutdown(wait=False, cancel_futures=True)
