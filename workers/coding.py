"""Frames and voice to styles: crops, network codes kept by absolute index, and factors put together.

Suffixes: B slots of a batch, M frames at hand, D code length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from farm.domain.factor import Factor
from farm.domain.span import Span
from farm.domain.timeline import Timeline
from farm.face import align
from farm.face.planes import to_device
from farm.media import audio, mel
from farm.media.frame import Frame
from farm.nets import style
from farm.nets.ready import Ready
from farm.nets.slots import blocks, in_slots, run_in_slots
from farm.nets.synthesis import Scene
from workers import factors
from workers.factors import VOICE, Code, Index, Lane
from workers.plan_file import PlannedVideo


@dataclass(frozen=True)
class Appearance:
    """Who is shown: encoded once a job, alone in its batch, so that it is the same for every chunk."""

    scene: Scene


def crops(frames: Sequence[Frame], video: PlannedVideo, bundle: Ready) -> torch.Tensor:
    """(M, 3, S, S): what the networks see of these frames."""
    planes = to_device(frames, video.picture, bundle.device)
    at = [frame.index for frame in frames]
    return align.crop(planes, np.asarray(video.crop_from_frame[at]), bundle.sizes.image).to(bundle.dtype)


@torch.inference_mode()
def appearance(frame: Frame, video: PlannedVideo, bundle: Ready) -> Appearance:
    code_1A, map_1CMM = bundle.appearance(crops([frame], video, bundle))
    return Appearance(bundle.generator.prepare(code_1A, map_1CMM))


class Coder:
    """Makes and keeps raw codes, and builds the motion part of styles from them. One chunk's; one thread's."""

    def __init__(
        self,
        bundle: Ready,
        videos: Sequence[PlannedVideo],
        lanes: Mapping[Factor, Sequence[Lane]],
        span: Span,
        batch: int,
    ) -> None:
        self._bundle = bundle
        self._videos = videos
        self._lanes = lanes
        self._span = span
        self._batch = batch
        # Lip codes are long, and mostly come from the voice.
        self._lip_from: set[int] = {lane.video for lane in lanes[Factor.LIP]}
        self._rows: dict[tuple[int, int], dict[Factor, Code]] = {}

    def encode(self, video: int, frames: Sequence[Frame]) -> None:
        """Codes of driver frames (ascending), each at its own slot."""
        at_hand = {frame.index: frame for frame in frames}
        for block in blocks(at_hand, self._batch):
            seen = crops([at_hand[index] for index in block], self._videos[video], self._bundle)
            codes = run_in_slots(self._bundle.motion, block, seen, self._batch)
            eye = _array(codes.eye)
            rows = {
                Factor.POSE: _array(codes.pose),
                Factor.GAZE: eye,
                Factor.BLINK: eye,
                Factor.EXPRESSION: _array(codes.expression),
            }
            if video in self._lip_from:
                rows[Factor.LIP] = _array(codes.lip)
            for number, index in enumerate(block):
                self._rows[video, index] = {factor: code[number] for factor, code in rows.items()}

    def hear(self, outputs: Sequence[int], timeline: Timeline, speech: Path, loudness: float) -> None:
        """Lip codes of output frames (ascending) from the voice at each one's own time."""
        for block in blocks(outputs, self._batch):
            starts = [mel.window_start(timeline.time_s(k)) for k in block]
            first, last = mel.stretch(starts)
            windows = mel.windows(audio.read(speech, first, last), first, starts, loudness)
            heard = torch.from_numpy(windows).to(self._bundle.device, self._bundle.dtype)
            _, lip = run_in_slots(self._bundle.audio, block, heard, self._batch)
            for k, code in zip(block, _array(lip), strict=True):
                self._rows[VOICE, k] = {Factor.LIP: code}

    def motion(self, outputs: Span) -> torch.Tensor:
        """motion_BM of the output frames, each at its own slot of a whole batch."""
        rows = slice(outputs.start - self._span.start, outputs.stop - self._span.start)
        sizes = self._bundle.sizes
        lip = self._code(Factor.LIP, rows, sizes.lip)
        gaze, blink = (self._code(factor, rows, sizes.eye) for factor in (Factor.GAZE, Factor.BLINK))
        expression = self._code(Factor.EXPRESSION, rows, sizes.expression)
        pose = self._code(Factor.POSE, rows, sizes.pose)
        shown = range(outputs.start, outputs.stop)
        lip, expression, eye, pose = (
            in_slots(torch.from_numpy(code).to(self._bundle.device), shown, self._batch)
            for code in (lip, expression, factors.eye(gaze, blink), pose)
        )
        return style.motion(lip, expression, eye, pose)

    def forget(self, keys: Sequence[tuple[int, int]]) -> None:
        for key in keys:
            self._rows.pop(key, None)

    def _code(self, factor: Factor, rows: slice, width: int) -> Code:
        parts = [
            (lane.weight_N[rows], factors.smoothed(lambda at, lane=lane: self._raw(factor, lane.video, at), lane, rows))
            for lane in self._lanes[factor]
        ]
        return factors.combined(parts, rows.stop - rows.start, width)

    def _raw(self, factor: Factor, video: int, at: Index) -> Code:
        return np.stack([self._rows[video, int(frame)][factor] for frame in at])


def _array(codes_MD: torch.Tensor) -> NDArray[np.float32]:
    return codes_MD.float().cpu().numpy()
