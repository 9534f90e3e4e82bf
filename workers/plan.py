"""A plan chunk: fetch the user's files into the store, have the engine survey them, cut the job into render chunks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from farm import trace
from farm.domain.factor import Media
from farm.domain.job import FaceSetting, Phase
from farm.domain.order import Blob, Order, PlanRecord, Progress
from farm.domain.span import Span, cut
from farm.domain.speed import expected
from farm.storage import keys
from farm.storage.blobs import Missing
from farm.storage.fetch import fetch
from workers import tracks
from workers.factors import driver_media
from workers.heartbeat import Heartbeat
from workers.patience import patiently
from workers.reasons import about
from workers.work import Planned, PlanWork, Preview
from workers.workshop import Workshop, interruptible, transfer

PLAN_DEADLINE: Final = 6
"""Deadlines of a render chunk that a plan may take: it goes through whole videos."""
MOST_CHUNK_FRAMES: Final = 3000


def plan(
    order: Order, shop: Workshop, beat: Heartbeat, scratch: Path, guessed: float
) -> tuple[PlanRecord, tuple[Span, ...]]:
    """guessed: frames a second that render chunks are expected to have where no worker has measured the version."""
    spec, lease = order.spec, order.lease
    take = _Taker(order, shop, beat, scratch)
    with trace.span("fetch"):
        source, source_path = take(spec.source, "source")
        voice, voice_path = take(spec.voice, "voice")
        driving = driver_media(*spec.all_factors)
        drivers = [take(media, f"driving video {number}") for number, media in enumerate(driving, 1)]
        reference = take(spec.face.reference, "face reference") if spec.face.reference is not None else None
    batch_frames = order.batch_frames or shop.batch_frames
    followed = [(source, tracks.how(spec.face, reference[0] if reference is not None else None))]
    followed += [(blob, tracks.how(FaceSetting(), None)) for blob, _ in drivers]
    folders = {scratch / f"tracks{number}": video for number, video in enumerate(followed)}
    work = PlanWork(
        spec,
        source_path,
        voice_path,
        tuple(path for _, path in drivers),
        reference[1] if reference is not None else None,
        batch_frames,
        shop.limits,
        plan=scratch / "plan.npz",
        speech=scratch / "speech.wav",
        tracks=tuple(folders),
        deterministic=shop.deterministic,
    )
    interruptible(lambda: [tracks.bring(folder, *video, shop) for folder, video in folders.items()], beat.abort)
    planned: Planned = shop.engine.run(
        work, deadline_s=PLAN_DEADLINE * shop.deadline_s, on_report=follow(beat), abort=beat.abort
    )
    for made in planned.tracks:
        blob, how = folders[made.parent]
        interruptible(lambda made=made, blob=blob, how=how: tracks.keep(made, blob, how, shop), beat.abort)
    with trace.span("upload"):
        plan_blob = stored(work.plan, keys.plan(lease), shop, beat)
        speech_blob = stored(work.speech, keys.speech(lease), shop, beat)
    record = PlanRecord(
        source,
        voice,
        tuple(blob for blob, _ in drivers),
        plan_blob,
        speech_blob,
        planned.source_facts,
        planned.voice_facts,
        planned.frames_total,
        planned.faces_found,
        planned.seconds,
    )
    frames_per_s = expected(order.speeds, planned.source_facts) or guessed
    return record, spans(planned.frames_total, planned.batch_frames, shop, frames_per_s)


def spans(frames: int, batch_frames: int, shop: Workshop, frames_per_s: float) -> tuple[Span, ...]:
    """Render chunks of the length that the settings fix, or of about chunk_s seconds of work in whole batches."""
    if shop.chunk_frames is not None:
        return cut(frames, shop.chunk_frames)
    aimed = min(max(round(shop.chunk_s * frames_per_s), 1), MOST_CHUNK_FRAMES)
    return cut(frames, aimed, multiple_of=batch_frames)


def stored(path: Path, key: str, shop: Workshop, beat: Heartbeat) -> Blob:
    """The file as a blob; it stays in this machine's cache, where the next chunk will look for it."""
    blob = transfer(lambda: shop.store.put_file(path, key), beat.abort)
    shop.inputs.keep(path, blob.sha256)
    return blob


def follow(beat: Heartbeat) -> Callable[[Progress | Preview], None]:
    """Pass the engine's progress on to the heartbeat."""

    def on_report(report: Progress | Preview) -> None:
        if isinstance(report, Progress):
            beat.progress = report

    return on_report


class _Taker:
    """Brings each media of the job into the store, under its content, and into the scratch folder; each only once."""

    def __init__(self, order: Order, shop: Workshop, beat: Heartbeat, scratch: Path) -> None:
        self._assets: Mapping[str, Blob] = order.assets
        self._shop, self._beat, self._scratch = shop, beat, scratch
        self._taken: dict[Media, tuple[Blob, Path]] = {}
        beat.progress = Progress(Phase.PROBING)

    def __call__(self, media: Media, name: str) -> tuple[Blob, Path]:
        if media not in self._taken:
            with about(name):
                self._taken[media] = interruptible(lambda: self._take(media, name), self._beat.abort)
        return self._taken[media]

    def _take(self, media: Media, name: str) -> tuple[Blob, Path]:
        shop = self._shop
        if media.asset_id is not None:
            blob = self._assets[media.asset_id]
            return blob, shop.inputs.file(blob, self._scratch, name)
        assert media.uri is not None
        found = fetch(media.uri, self._scratch / name, shop.limits, shop.endpoint_url)
        key = keys.input(found.sha256)
        try:
            is_whole = patiently(lambda: shop.store.stat(key)).size_bytes == found.size_bytes
        except Missing:
            is_whole = False
        if not is_whole:
            patiently(lambda: shop.store.put_file(found.path, key))
        shop.inputs.keep(found.path, found.sha256)
        return Blob(key, found.size_bytes, found.sha256), found.path
