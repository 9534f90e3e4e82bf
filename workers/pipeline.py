"""Rendering, child side: decode -> encode factors -> generate -> composite -> encode -> watch, six stages in threads.

Every network call uses a batch of one fixed size with each frame at the slot that its absolute index gives it, so that
the frames of a job are the same bits however it is cut into chunks. Suffixes: B slots of a batch, N frames of it that
belong to the chunk.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from av.packet import Packet
from numpy.typing import NDArray

from farm.domain.factor import Factor
from farm.domain.job import Kind, Phase
from farm.domain.order import Progress
from farm.domain.span import Span
from farm.face.composite import paste
from farm.face.jaw import jaw
from farm.face.nets import FaceNets
from farm.face.planes import PlanesBatch, to_device, to_frames
from farm.media import decode
from farm.media.encode import SegmentEncoder, VideoTags
from farm.media.frame import Frame, PictureFormat
from farm.media.segment import Given, Watch, check_segment
from farm.media.thumbnail import jpeg
from farm.nets.ready import Ready, in_pieces
from farm.nets.slots import out_of_slots, run_in_slots
from workers import factors, square
from workers.coding import Appearance, Coder
from workers.factors import SOURCE
from workers.plan_file import PlanFile, PlannedVideo
from workers.reading import Reader, StillReader, Window, windows
from workers.scoring import Scorer, verdict
from workers.shelf import Shelf
from workers.stages import Line, Stage
from workers.work import Check, Preview, Rendered, RenderWork, Report

WINDOW_BYTES: Final = 192 * 2**20
"""Decoded pictures that a window running backward may hold."""
RECENT: Final = 32
RECENT_BYTES: Final = 96 * 2**20
"""What a video keeps for the chunk that follows: frames that both chunks need, and some beyond."""
PREVIEW_SIDE: Final = 640


@dataclass(frozen=True)
class _Read:
    """A window's frames: those to make codes of, by video, and those to show, by index."""

    window: Window
    encode: dict[int, list[Frame]]
    show: dict[int, Frame]


@dataclass(frozen=True)
class _Batch:
    """Output frames `outputs`; frames: the source's, already under their output index and pts; empty for a still."""

    outputs: Span
    source: Sequence[int]
    frames: list[Frame]
    has_face: Sequence[bool]
    motion_BM: torch.Tensor | None = None
    generated_N3SS: torch.Tensor | None = None


@dataclass(frozen=True)
class _Coded:
    """Output frames that have gone into the encoder, and the packets that have come out of it meanwhile."""

    outputs: Span
    header: bytes | None
    packets: Sequence[Packet]


def open_reader(path: Path, video: PlannedVideo, is_still: bool, decoder: str | None = None) -> Reader | StillReader:
    if is_still:
        return StillReader(decode.image(path)[0])
    picture = video.picture
    frame_bytes = picture.width * picture.height * (2 if picture.bit_depth > 8 else 1) * 2
    return Reader(decode.open_video(path, video.index, decoder), min(RECENT, RECENT_BYTES // frame_bytes))


class Chunk:
    """One chunk's rendering: its stages, each a generator that runs in a thread of its own.

    nets: for masks and scores. decoder: the GPU's, where it is to be used. shelf: where the chunk before may have left
    its videos open.
    """

    def __init__(
        self,
        work: RenderWork,
        plan: PlanFile,
        bundle: Ready,
        who: Appearance,
        batch_frames: int,
        nets: Callable[[], FaceNets],
        report: Report,
        decoder: str | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        self._work, self._plan, self._bundle, self._who, self._report = work, plan, bundle, who, report
        self._batch, self._decoder, self._shelf = batch_frames, decoder, shelf or Shelf()
        self._nets = nets
        self._pastes = work.spec.kind is Kind.DUB
        self._shown = plan.timeline.source_index[work.span.start : work.span.stop]
        clocks = [factors.Clock(v.index.pts.tolist(), v.index.end_pts, v.index.time_base) for v in plan.videos]
        runs = [video.run for video in plan.videos]
        self._lanes = factors.lanes(work.spec, bundle.gains, plan.timeline, work.span, runs, clocks)
        self._voice = next((lane for lane in self._lanes[Factor.LIP] if lane.video == factors.VOICE), None)
        picture, _ = self._picture()
        self._given = Given(picture, plan.timeline.time_base)
        self._watch: Watch | None = None
        self._scorer = Scorer(work, plan, picture, self._voice, nets)

    def render(self, check: Check) -> Rendered:
        """Write the segment of the span to the work's dest; see that it is fit to be shown (else OutputCheckFailed)."""
        line = Line(self.stages())
        total, done, started, computed = len(self._work.span), 0, time.monotonic(), time.process_time()
        for outputs in line:
            check()
            done += len(outputs)
            rate = done / max(time.monotonic() - started, 1e-9)
            self._report(Progress(Phase.RENDERING, done, total, rate))
        checked = time.perf_counter()
        check_segment(self._work.dest, self._given, self._watch)
        scores, marks = verdict(self._scorer.scores(), self._work, is_trained=self._bundle.manifest.trained)
        seconds = {**line.seconds, "check": time.perf_counter() - checked}
        seconds |= {f"{stage}_cpu": spent for stage, spent in line.cpu_seconds.items()}
        seconds |= {"cpu": time.process_time() - computed, "line": time.monotonic() - started}
        return Rendered(done, seconds, scores, marks)

    def stages(self) -> list[Stage]:
        """What becomes of the chunk's frames, from the file to the segment."""
        return [
            ("decode", self.decode),
            ("encode_factors", self.encode_factors),
            ("generate", self.generate),
            ("composite", self.composite),
            ("encode", self.encode),
            ("watch", self.watch),
        ]

    def decode(self, _: Iterator[object]) -> Iterator[_Read]:
        work, plan = self._work, self._plan
        source = plan.videos[SOURCE].picture
        frame_bytes = source.width * source.height * (2 if source.bit_depth > 8 else 1) * 2
        steps = windows(
            work.span,
            self._batch,
            self._shown,
            [lane for lanes in self._lanes.values() for lane in lanes if lane.video != factors.VOICE],
            voice_taps=None if self._voice is None else self._voice.taps_NW,
            shows_source=self._pastes,
            window_frames=max(WINDOW_BYTES // frame_bytes, self._batch),
        )
        with ExitStack() as stack:
            readers: dict[int, Reader | StillReader] = {}
            for number, (path, video) in enumerate(zip((work.source, *work.drivers), plan.videos, strict=True)):
                is_still = not self._pastes and number == SOURCE
                left = None if is_still else self._shelf.take(work.job_key, number, path)
                readers[number] = left or open_reader(path, video, is_still, self._decoder)
                stack.callback(readers[number].close)
            kept: dict[int, Frame] = {}
            for step in steps:
                encode: dict[int, list[Frame]] = {}
                at_hand: dict[int, Frame] = kept
                for number in sorted({SOURCE, *step.encode}):
                    wanted = set(step.encode.get(number, ()))
                    own = at_hand if number == SOURCE else {}
                    missing = sorted((wanted | (step.show if number == SOURCE else set())) - own.keys())
                    own |= {frame.index: frame for frame in readers[number].frames(missing)}
                    if wanted:
                        encode[number] = [own[index] for index in sorted(wanted)]
                yield _Read(step, encode, {index: at_hand[index] for index in step.show})
                kept = {index: frame for index, frame in at_hand.items() if index in step.keep}
            del kept
            self._look_ahead(readers[SOURCE])
            # All went well: nothing is closed, for the next chunk of the job goes on from here.
            stack.pop_all()
            for number, reader in readers.items():
                if isinstance(reader, Reader):
                    self._shelf.leave(work.job_key, number, reader)

    def _look_ahead(self, reader: Reader | StillReader) -> None:
        """Decode what the next chunk begins with, while this one's frames are still on their way."""
        stop = self._work.span.stop
        following = self._plan.timeline.source_index[stop : stop + self._batch + factors.HALO]
        for _ in reader.frames(sorted(set(following))):
            pass

    def encode_factors(self, reads: Iterator[_Read]) -> Iterator[_Batch]:
        work, timeline = self._work, self._plan.timeline
        run = self._plan.videos[SOURCE].run
        coder = Coder(self._bundle, self._plan.videos, self._lanes, work.span, self._batch)
        with torch.inference_mode():
            for read in reads:
                for video, frames in read.encode.items():
                    coder.encode(video, frames)
                if read.window.voice:
                    coder.hear(read.window.voice, timeline, work.speech, self._plan.voice_rms)
                for outputs in read.window.batches:
                    source = [timeline.source_index[k] for k in range(outputs.start, outputs.stop)]
                    frames = [
                        replace(read.show[index], index=k, pts=timeline.pts[k])
                        for k, index in zip(range(outputs.start, outputs.stop), source, strict=True)
                        if self._pastes
                    ]
                    has_face = [not self._pastes or bool(run[index] >= 0) for index in source]
                    # Frames without a face pass through untouched: nothing is generated for them alone.
                    made = coder.motion(outputs) if any(has_face) else None
                    yield _Batch(outputs, source, frames, has_face, made)
                coder.forget(read.window.forget)

    def generate(self, batches: Iterator[_Batch]) -> Iterator[_Batch]:
        with torch.inference_mode():
            for batch in batches:
                if batch.motion_BM is None:
                    yield batch
                    continue
                shown = range(batch.outputs.start, batch.outputs.stop)
                image_B3SS = self._bundle.generator(batch.motion_BM, self._who.scene)
                image_N3SS = out_of_slots(image_B3SS, shown, self._batch)
                self._scorer.generated(batch.outputs, out_of_slots(batch.motion_BM, shown, self._batch), image_N3SS)
                yield replace(batch, motion_BM=None, generated_N3SS=image_N3SS)

    def composite(self, batches: Iterator[_Batch]) -> Iterator[_Batch]:
        timeline, source = self._plan.timeline, self._plan.videos[SOURCE]
        with torch.inference_mode():
            for batch in batches:
                image = batch.generated_N3SS
                if image is None:
                    self._scorer.composed(batch.outputs, batch.source, batch.frames, batch.frames)
                    yield batch
                elif self._pastes:
                    planes = to_device(batch.frames, source.picture, self._bundle.device)
                    at = list(batch.source)
                    lower = self._jaw(batch.outputs, image)
                    planes = paste(
                        planes,
                        image,
                        np.asarray(source.crop_from_frame[at]),
                        np.asarray(source.points[at]),
                        np.asarray(batch.has_face, bool),
                        range(batch.outputs.start, batch.outputs.stop),
                        jaw_BJ2=lower,
                        share_B=np.asarray(source.share[at]),
                    )
                    made = to_frames(planes, batch.frames)
                    self._scorer.composed(batch.outputs, batch.source, batch.frames, made, lower)
                    yield replace(batch, frames=made, generated_N3SS=None)
                else:
                    planes = square.planes(image)
                    pts = timeline.pts[batch.outputs.start : batch.outputs.stop]
                    made = _frames(planes, batch.outputs, pts)
                    self._scorer.composed(batch.outputs, batch.source, (), made)
                    yield replace(batch, frames=made, generated_N3SS=None)

    def _jaw(self, outputs: Span, image_N3SS: torch.Tensor) -> NDArray[np.float32]:
        nets = self._nets()

        def look(image_B3SS: torch.Tensor) -> tuple[torch.Tensor]:
            return (jaw(nets, image_B3SS),)

        look_at = in_pieces(look, 1) if self._plan.deterministic else look
        (found,) = run_in_slots(look_at, range(outputs.start, outputs.stop), image_N3SS, self._batch)
        return found.cpu().numpy()

    def encode(self, batches: Iterator[_Batch]) -> Iterator[_Coded]:
        work = self._work
        picture, tags = self._picture()
        made: list[Packet] = []
        encoder = SegmentEncoder(
            work.dest,
            picture,
            self._plan.timeline.time_base,
            self._plan.frame_rate,
            work.spec.output,
            tags,
            self._plan.encoder,
            self._plan.encoder_threads,
            made.append,
        )
        hashes: list[str] = []
        previewed = time.monotonic()
        is_first = True
        try:
            for batch in batches:
                for frame in batch.frames:
                    encoder.add(frame)
                    self._given.add(frame)
                    if work.frame_hashes is not None:
                        hashes.append(f"{frame.index} {frame_sha256(frame)}\n")
                if work.preview is not None and (is_first or time.monotonic() - previewed >= work.preview_s):
                    is_first, previewed = False, time.monotonic()
                    self._preview(work.preview, batch.frames[-1], picture)
                yield _Coded(batch.outputs, encoder.header, made.copy())
                made.clear()
            if (written := encoder.close()) != len(work.span):
                raise RuntimeError(f"the segment holds {written} frames, not {len(work.span)}")
            yield _Coded(Span(work.span.stop, work.span.stop), encoder.header, made)
        except BaseException:
            with suppress(Exception):
                encoder.abort()
            raise
        if work.frame_hashes is not None:
            work.frame_hashes.write_text("".join(hashes))

    def watch(self, coded: Iterator[_Coded]) -> Iterator[Span]:
        """Decode what was encoded, while more is."""
        for part in coded:
            if part.packets and self._watch is None:
                self._watch = Watch(self._work.spec.output.video_codec, part.header)
            for packet in part.packets:
                assert self._watch is not None
                self._watch.add(packet)
            yield part.outputs
        if self._watch is not None:
            self._watch.add(None)

    def _picture(self) -> tuple[PictureFormat, VideoTags]:
        if not self._pastes:
            return square.picture(self._bundle.sizes.image), square.TAGS
        facts = self._work.source_facts.video
        assert facts is not None
        return self._plan.videos[SOURCE].picture, VideoTags.of(facts)

    def _preview(self, path: Path, frame: Frame, picture: PictureFormat) -> None:
        unfinished = path.with_suffix(".part")
        unfinished.write_bytes(jpeg(frame, picture, PREVIEW_SIDE))
        os.replace(unfinished, path)
        self._report(Preview(path, frame.index))


def _frames(planes: PlanesBatch, outputs: Span, pts: Sequence[int]) -> list[Frame]:
    empty = np.zeros((0, 0), np.uint8)
    like = [Frame(k, at, empty, empty, empty) for k, at in zip(range(outputs.start, outputs.stop), pts, strict=True)]
    return to_frames(planes, like)


def frame_sha256(frame: Frame) -> str:
    """Of the samples alone, plane after plane: what a test compares between chunkings."""
    digest = hashlib.sha256()
    for plane in (frame.y, frame.u, frame.v):
        digest.update(np.ascontiguousarray(plane).tobytes())
    return digest.hexdigest()
