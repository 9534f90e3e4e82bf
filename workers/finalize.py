"""A finalize chunk: bring segments and voice here, have the engine join them, store and deliver the output."""

from __future__ import annotations

from pathlib import Path

from farm import trace
from farm.domain.job import Phase
from farm.domain.order import Blob, Order, Output, Progress
from farm.errors import Transient
from farm.storage import keys
from farm.storage.blobs import open_store
from workers.heartbeat import Heartbeat
from workers.patience import patiently
from workers.plan import follow
from workers.work import Assembled, FinalizeWork
from workers.workshop import Workshop, interruptible, transfer


def finalize(order: Order, shop: Workshop, beat: Heartbeat, scratch: Path) -> Output:
    beat.progress = Progress(Phase.STITCHING)
    with trace.span("fetch"):
        work = interruptible(lambda: _work(order, shop, scratch), beat.abort)
    made: Assembled = shop.engine.run(work, deadline_s=shop.deadline_s, on_report=follow(beat), abort=beat.abort)
    beat.progress = Progress(Phase.UPLOADING, made.frames, made.frames)
    beat.check()
    container = order.spec.output.container
    key = keys.output(order.lease, container)
    with trace.span("upload"):
        blob = transfer(lambda: shop.store.put_file(work.dest, key), beat.abort)
        uri = shop.store.uri(key)
        if order.spec.output.destination is not None:
            beat.check()
            uri = delivery_uri(order.spec.output.destination, order.spec.custom_id, container)
            transfer(lambda: _deliver(work.dest, uri, shop), beat.abort)
    return Output(blob, uri, made.frames, made.duration_s)


def delivery_uri(destination: str, custom_id: str, container: str) -> str:
    """The uri that a destination means: one ending in a slash is a folder, and the job's custom_id names the file."""
    if not destination.endswith("/"):
        return destination
    # Users choose custom_id for themselves: it may not lead out of the folder, nor be no key at all.
    plain = "".join("_" if letter == "\\" or ord(letter) < 32 else letter for letter in custom_id)
    parts = ("_" if part in ("", ".", "..") else part for part in plain.split("/"))
    return f"{destination}{'/'.join(parts)}.{container}"


def _deliver(path: Path, uri: str, shop: Workshop) -> None:
    folder, _, name = uri.rpartition("/")
    open_store(folder, shop.endpoint_url).put_file(path, name)


def _work(order: Order, shop: Workshop, scratch: Path) -> FinalizeWork:
    plan = order.plan
    assert plan is not None
    segments = []
    for number, segment in enumerate(order.segments):
        # Segments are read once: they do not pass through the cache.
        path = scratch / f"segment{number:06d}.mp4"
        key = segment.blob.key
        _checked(patiently(lambda key=key, path=path: shop.store.get_file(key, path)), segment.blob)
        segments.append(path)
    return FinalizeWork(
        order.spec,
        shop.inputs.file(plan.plan, scratch, "plan.npz"),
        tuple(segments),
        shop.inputs.file(plan.voice, scratch, "voice"),
        scratch / f"output.{order.spec.output.container}",
    )


def _checked(found: Blob, wanted: Blob) -> None:
    if found.sha256 != wanted.sha256:
        detail = f"{wanted.key} holds bytes of SHA-256 {found.sha256}, not {wanted.sha256}"
        raise Transient("blob_corrupt", detail)
