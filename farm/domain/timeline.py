"""The timeline of an output: which source frame each output frame shows, and when (sync modes)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from farm.domain.job import SyncMode


@dataclass(frozen=True)
class Timeline:
    """Output frame k shows source frame `source_index[k]` from pts[k] on; the picture ends at `end_pts`.

    pts are ticks of `time_base` seconds, strictly increasing, pts[0] = 0. The voice runs from 0 over the same clock and
    is cut or padded with silence to `duration_s`.
    """

    source_index: tuple[int, ...]
    pts: tuple[int, ...]
    end_pts: int
    time_base: Fraction

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def duration_s(self) -> Fraction:
        return self.end_pts * self.time_base

    def time_s(self, index: int) -> Fraction:
        """Seconds at which output frame `index` appears."""
        return self.pts[index] * self.time_base


def build(mode: SyncMode, pts: Sequence[int], end_pts: int, time_base: Fraction, voice_s: Fraction) -> Timeline:
    """The timeline of a source (pts from 0, shown until end_pts) under a voice of `voice_s` seconds.

    cut_off ends with the shorter one, silence with the longer one; loop, bounce and remap end with the voice. A frame
    that starts before the end is kept whole, so that the picture never ends before the voice it belongs to.
    """
    if not pts or pts[0] != 0 or end_pts <= pts[-1] or any(b <= a for a, b in pairwise(pts)):
        raise ValueError("source pts must start at 0 and increase strictly up to end_pts")
    if voice_s <= 0:
        raise ValueError("the voice has no length")
    video_s = end_pts * time_base
    if mode is SyncMode.REMAP:
        return _remapped(pts, end_pts, time_base, voice_s)
    if mode is SyncMode.CUT_OFF:
        until_s = min(video_s, voice_s)
    elif mode is SyncMode.SILENCE:
        until_s = max(video_s, voice_s)
    else:
        until_s = voice_s
    order = _orders(mode, len(pts))
    lengths = [b - a for a, b in pairwise((*pts, end_pts))]
    indices: list[int] = []
    starts: list[int] = []
    at = 0
    step = round(end_pts / len(pts)) or 1
    for index in order:
        if at * time_base >= until_s:
            break
        indices.append(index)
        starts.append(at)
        held = mode is SyncMode.SILENCE and len(indices) > len(pts)
        at += step if held else lengths[index]
    return Timeline(tuple(indices), tuple(starts), at, time_base)


def _orders(mode: SyncMode, frames: int) -> Iterator[int]:
    """Source indices in the order that they are shown; endless where the mode repeats or holds."""
    yield from range(frames)
    while mode is SyncMode.SILENCE:
        yield frames - 1
    while mode is SyncMode.LOOP:
        yield from range(frames)
    while mode is SyncMode.BOUNCE:
        # The turning frames are not shown twice; a source of one frame has nothing else to show.
        yield from range(frames - 2, 0, -1) if frames > 1 else ()
        yield from range(frames)


def _remapped(pts: Sequence[int], end_pts: int, time_base: Fraction, voice_s: Fraction) -> Timeline:
    """Output frames at the source's average rate; each shows the source frame at its place in the stretched time."""
    rate = Fraction(len(pts)) / (end_pts * time_base)
    count = max(1, -(-(voice_s * rate).numerator // (voice_s * rate).denominator))
    indices: list[int] = []
    source = 0
    for k in range(count):
        at = Fraction(k * end_pts, count)
        while source + 1 < len(pts) and pts[source + 1] <= at:
            source += 1
        indices.append(source)
    return Timeline(tuple(indices), tuple(range(count)), count, 1 / rate)


def steady(frame_rate: Fraction, voice_s: Fraction) -> Timeline:
    """The timeline of a still picture under a voice: every frame shows source frame 0, at `frame_rate`."""
    if voice_s <= 0:
        raise ValueError("the voice has no length")
    count = max(1, -(-(voice_s * frame_rate).numerator // (voice_s * frame_rate).denominator))
    return Timeline((0,) * count, tuple(range(count)), count, 1 / frame_rate)


def driver_frame(time_s: Fraction, pts: Sequence[int], end_pts: int, time_base: Fraction) -> int:
    """The frame of a driving video shown at `time_s` of the output; a driver that is too short bounces."""
    length = end_pts
    at = time_s / time_base
    lap, within = divmod(at, length)
    if lap % 2:
        within = length - within
    return min(max(bisect_right(pts, within) - 1, 0), len(pts) - 1)
