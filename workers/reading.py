"""In which order a chunk's frames are decoded: pure planning of windows, and a reader that never goes back needlessly.

An output frame shows one source frame and needs codes of driver frames around another; both may run backward (bounce)
or start over (loop). Output is made in windows: one batch where everything runs forward, several where something runs
backward, so that a backward run is decoded forward once a window and not once a frame.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farm.domain.span import Span
from farm.media.decode import Video
from farm.media.frame import Frame
from workers.factors import HALO, VOICE, Index, Lane

CODES_KEPT: Final = 4096
"""Codes kept for later windows, in driver frames; a code that was dropped is made again, to the same bits."""


@dataclass(frozen=True)
class Window:
    """One step of the line.

    batches: output spans, each inside one batch slot range. encode: frames to make codes of, by video. voice: output
    frames to make lip codes of. show: source frames that appear. keep: source frames wanted again soon. forget: codes
    (video, frame) that are dropped afterwards.
    """

    batches: tuple[Span, ...]
    encode: Mapping[int, tuple[int, ...]]
    voice: tuple[int, ...] = ()
    show: frozenset[int] = frozenset()
    keep: frozenset[int] = frozenset()
    forget: tuple[tuple[int, int], ...] = field(default=())


def batches(span: Span, size: int) -> tuple[Span, ...]:
    """The span cut at multiples of `size`, counted from frame 0 of the job."""
    starts = range(span.start - span.start % size, span.stop, size)
    return tuple(Span(max(at, span.start), min(at + size, span.stop)) for at in starts)


def windows(
    span: Span,
    size: int,
    source_index: Sequence[int],
    lanes: Sequence[Lane],
    *,
    voice_taps: Index | None,
    shows_source: bool,
    window_frames: int,
    codes_kept: int = CODES_KEPT,
) -> Iterator[Window]:
    """Windows that cover `span` in order.

    source_index: of the output frames in the span. lanes: all lanes of all factors. voice_taps: (N, W) output frames
    whose lip codes from audio are needed, None when the lips are not driven by the voice.
    """
    shown = np.asarray(source_index, np.int64)
    wanted = _wanted(lanes)
    wanted_voice = None if voice_taps is None else np.unique(voice_taps)
    # Codes at hand: as the encoding stage will have them, without waiting for it.
    have: OrderedDict[tuple[int, int], None] = OrderedDict()
    forget: list[tuple[int, int]]
    for group in _groups(span, size, shown, lanes, window_frames):
        rows = slice(group[0].start - span.start, group[-1].stop - span.start)
        needed = [(lane.video, int(f)) for lane in lanes for f in np.unique(lane.taps_NW[rows])]
        encode: dict[int, set[int]] = {}
        for key in needed:
            if key in have:
                have.move_to_end(key)
                continue
            for frame in _block(key[1], size, wanted[key[0]]):
                if (key[0], frame) not in have:
                    encode.setdefault(key[0], set()).add(frame)
                have[key[0], frame] = None
        voice: set[int] = set()
        for k in np.unique(voice_taps[rows]).tolist() if voice_taps is not None else ():
            if (VOICE, k) not in have:
                assert wanted_voice is not None
                block = wanted_voice[(wanted_voice // size) == k // size].tolist()
                voice.update(j for j in block if (VOICE, j) not in have)
                have.update(((VOICE, j), None) for j in block)
            else:
                have.move_to_end((VOICE, k))
        forget = []
        while len(have) > codes_kept + 16 * (rows.stop - rows.start + HALO + size):
            forget.append(have.popitem(last=False)[0])
        ahead = slice(rows.stop, rows.stop + HALO + 2 * size)
        yield Window(
            group,
            {video: tuple(sorted(frames)) for video, frames in encode.items()},
            tuple(sorted(voice)),
            frozenset(shown[rows].tolist()) if shows_source else frozenset(),
            frozenset(shown[ahead].tolist()) if shows_source else frozenset(),
            tuple(forget),
        )


def _wanted(lanes: Sequence[Lane]) -> dict[int, NDArray[np.int64]]:
    """Every driver frame whose code the chunk needs, by video, sorted."""
    found: dict[int, list[NDArray[np.int64]]] = {}
    for lane in lanes:
        found.setdefault(lane.video, []).append(np.unique(lane.taps_NW))
    return {video: np.unique(np.concatenate(parts)) for video, parts in found.items()}


def _block(frame: int, size: int, wanted: NDArray[np.int64]) -> list[int]:
    """The wanted frames of the whole batch that `frame` belongs to, so that a batch is encoded once, not twice."""
    start = frame - frame % size
    low, high = np.searchsorted(wanted, (start, start + size))
    return wanted[low:high].tolist()


def _groups(
    span: Span, size: int, shown: NDArray[np.int64], lanes: Sequence[Lane], window_frames: int
) -> Iterator[tuple[Span, ...]]:
    """Batches put together while some video runs backward, up to `window_frames`."""
    tracks = [shown, *(lane.taps_NW[:, lane.taps_NW.shape[1] // 2] for lane in lanes)]
    backward = np.zeros(len(shown), bool)
    for track in tracks:
        # A jump back to the start (loop) is no backward run: it is followed by forward steps.
        backward[1:] |= (track[1:] < track[:-1]) & (track[1:] >= track[:-1] - HALO)
    group: list[Span] = []
    for batch in batches(span, size):
        runs_back = bool(backward[batch.start - span.start : batch.stop - span.start].any())
        full = group and group[-1].stop - group[0].start + len(batch) > window_frames
        if group and (full or not runs_back):
            yield tuple(group)
            group = []
        group.append(batch)
    if group:
        yield tuple(group)


class Reader:
    """Frames of one video by ascending index. The last ones read, `recent` of them, are kept for who asks again."""

    def __init__(self, video: Video, recent: int = 0) -> None:
        self._video = video
        self._most = recent
        self._recent: OrderedDict[int, Frame] = OrderedDict()

    def frames(self, wanted: Sequence[int]) -> Iterator[Frame]:
        # The video goes on from where it stands, unless a key frame is nearer.
        for index in wanted:
            frame = self._recent.get(index)
            if frame is None:
                (frame,) = self._video.frames(Span(index, index + 1))
                self._recent[index] = frame
                while len(self._recent) > self._most:
                    self._recent.popitem(last=False)
            yield frame

    def moved(self, path: Path) -> None:
        """The file is found elsewhere now."""
        self._video.moved(path)

    def close(self) -> None:
        self._video.close()


class StillReader:
    """The one frame of a still picture."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    def frames(self, wanted: Sequence[int]) -> Iterator[Frame]:
        for _ in wanted:
            yield self._frame

    def close(self) -> None:
        pass
