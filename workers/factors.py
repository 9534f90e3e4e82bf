"""Which driver frames make the factor codes of an output frame, and how codes are smoothed and put together.

Plain arithmetic on numpy arrays, element by element in a fixed order, so that a code depends on its own taps alone and
never on where a chunk begins. Suffixes: N output frames, T driver frames, W taps, D code length.

Codes live in their driver's own frame index. The code of frame f is smoothed over the frames around it, reflected at
the ends of f's run (consecutive frames of one shot with the face). A frame without a face takes the code of the nearest
frame that has one (the earlier of two as near).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farm.domain.factor import Drive, Factor, Factors, Media
from farm.domain.job import JobSpec
from farm.domain.span import Span
from farm.domain.timeline import Timeline, driver_frame
from workers import sections

Index = NDArray[np.int64]
Code = NDArray[np.float32]

ALONE: Final = (1.0,)
MEAN_3: Final = (1 / 3,) * 3
MEAN_13: Final = (1 / 13,) * 13
GAUSSIAN_3: Final = (0.27406862, 0.45186276, 0.27406862)
"""A Gaussian of sigma 1 over three taps: PDFGC.md section 3's [.2741 .4519 .2741], summing to one."""

KERNELS: Final[dict[Factor, tuple[float, ...]]] = {
    Factor.LIP: GAUSSIAN_3,
    Factor.POSE: MEAN_3,
    Factor.GAZE: ALONE,
    Factor.BLINK: ALONE,
    Factor.EXPRESSION: MEAN_13,
}
HALO: Final = 6
"""Frames on each side of a frame that its codes can depend on (inside its run)."""

GAZE_DIMS: Final = (2, 3)
BLINK_DIMS: Final = (0, 1, 4, 5)
SOURCE: Final = 0
"""Video 0 of a plan is the source; driving videos follow in the order of `driver_media`."""
VOICE: Final = -1
"""The number under which the voice drives the lips; its "frames" are output frames."""


@dataclass(frozen=True)
class Clock:
    """When the frames of a driving video are shown: pts from 0, ticks of time_base seconds, until end_pts."""

    pts: Sequence[int]
    end_pts: int
    time_base: Fraction


@dataclass(frozen=True)
class Lane:
    """One driver of one factor: `taps_NW` are frames of video `video`, weighted by `kernel` and then by `weight_N`,
    which holds gains, blends and segments. Where it is 0, taps are those of a frame near by: they cost nothing."""

    video: int
    weight_N: Code
    kernel: tuple[float, ...]
    taps_NW: Index


def driver_media(*settings: Factors) -> tuple[Media, ...]:
    """Driving videos in the order of the settings, factors and drivers, each distinct media once
    (`PlanRecord.drivers`)."""
    parts = (setting for factors in settings for _, setting in factors.items())
    return tuple(dict.fromkeys(driver.media for setting in parts for driver in setting.drivers))


def nearest_faced(run_T: NDArray[np.int32]) -> Index:
    """For each frame the nearest one with a face (run >= 0), the earlier of two as near. ValueError without any."""
    faced = np.flatnonzero(run_T >= 0)
    if len(faced) == 0:
        raise ValueError("no frame has a face")
    at = np.arange(len(run_T))
    after = np.searchsorted(faced, at)
    later = faced[np.minimum(after, len(faced) - 1)]
    earlier = faced[np.maximum(after - 1, 0)]
    return np.where(np.abs(at - earlier) <= np.abs(later - at), earlier, later).astype(np.int64)


def run_bounds(run_T: NDArray[np.int32]) -> tuple[Index, Index]:
    """For each frame the first frame of its run and the one past its last; frames without a face are alone."""
    length = len(run_T)
    starts = np.ones(length, bool)
    starts[1:] = (run_T[1:] != run_T[:-1]) | (run_T[1:] < 0)
    first = np.flatnonzero(starts)
    number = np.cumsum(starts) - 1
    stop = np.append(first[1:], length)
    return first[number].astype(np.int64), stop[number].astype(np.int64)


def reflected(index: Index, start: Index, stop: Index) -> Index:
    """`index` folded into [start, stop) by reflection at the first and the last frame, which are not repeated."""
    last = stop - start - 1
    period = np.maximum(2 * last, 1)
    offset = np.mod(index - start, period)
    return start + np.where(last == 0, 0, np.minimum(offset, period - offset))


def taps(frames_N: Index, run_T: NDArray[np.int32], width: int) -> Index:
    """(N, width) driver frames that smooth the codes of `frames_N`, in the order of the kernel."""
    centre = nearest_faced(run_T)[frames_N]
    start, stop = run_bounds(run_T)
    offset = np.arange(width) - width // 2
    return reflected(centre[:, None] + offset, start[centre][:, None], stop[centre][:, None])


def audio_taps(outputs_N: Index, frames_total: int, width: int = len(GAUSSIAN_3)) -> Index:
    """(N, width) output frames that smooth the lip codes from audio, reflected at 0 and at the end of the job."""
    offset = np.arange(width) - width // 2
    zero = np.zeros(1, np.int64)
    return reflected(outputs_N[:, None] + offset, zero, zero + frames_total)


def lanes(
    spec: JobSpec,
    gains: Mapping[Factor, float],
    timeline: Timeline,
    span: Span,
    runs: Sequence[NDArray[np.int32]],
    clocks: Sequence[Clock],
) -> dict[Factor, tuple[Lane, ...]]:
    """Where each factor's code of output frames `span` comes from; () where it is canonical all through.

    gains: of the bundle, where a setting names none. runs, clocks: for each video of the plan. A still source has one
    frame, so "source" is its own static code.
    """
    media = driver_media(*spec.all_factors)
    outputs = range(span.start, span.stop)
    time_s = np.array([float(timeline.time_s(k)) for k in outputs])
    shares = sections.shares(spec.segments, time_s)
    shown: dict[int, Index] = {}

    def frames(video: int) -> Index:
        if video not in shown:
            if video == SOURCE:
                found = timeline.source_index[span.start : span.stop]
            else:
                clock = clocks[video]
                found = [driver_frame(timeline.time_s(k), clock.pts, clock.end_pts, clock.time_base) for k in outputs]
            shown[video] = np.asarray(found, np.int64)
        return shown[video]

    out: dict[Factor, tuple[Lane, ...]] = {}
    for factor, _ in spec.factors.items():
        weights: dict[int, NDArray[np.float64]] = {}
        for share, setting in zip(shares, sections.settings(factor, spec.factors, spec.segments), strict=True):
            gain = gains[factor] if setting.gain is None else setting.gain
            if setting.drive is Drive.SOURCE:
                weighted = [(SOURCE, 1.0)]
            elif setting.drive is Drive.AUDIO:
                weighted = [(VOICE, 1.0)]
            else:
                weighted = [(1 + media.index(driver.media), driver.weight) for driver in setting.drivers]
            for video, weight in weighted:
                weights[video] = weights.get(video, 0) + gain * weight * share
        kernel = KERNELS[factor]
        made = []
        for video, weight_N in sorted(weights.items()):
            at_work = np.where(weight_N != 0, 0, -1).astype(np.int32)
            if (at_work < 0).all():
                continue
            if video == VOICE:
                taps_NW = audio_taps(np.asarray(outputs, np.int64), len(timeline), len(kernel))
            else:
                taps_NW = taps(frames(video), runs[video], len(kernel))
            made.append(Lane(video, weight_N.astype(np.float32), kernel, taps_NW[nearest_faced(at_work)]))
        out[factor] = tuple(made)
    return out


def smoothed(codes_of: Callable[[Index], Code], lane: Lane, rows: slice) -> Code:
    """(N, D) codes of the lane's output frames `rows`; `codes_of` gives the raw codes (M, D) of M driver frames."""
    taps_NW = lane.taps_NW[rows]
    total = np.zeros((), np.float32)
    for column, weight in enumerate(lane.kernel):
        total = total + np.float32(weight) * codes_of(taps_NW[:, column])
    return np.asarray(total, np.float32)


def combined(parts: Sequence[tuple[Code, Code]], rows: int, width: int) -> Code:
    """The sum of parts (weight_N, code_ND); zeros (the canonical code) without parts."""
    total: Code = np.zeros((rows, width), np.float32)
    for weight_N, code in parts:
        total += weight_N[:, None] * code
    return total


def eye(gaze_N6: Code, blink_N6: Code) -> Code:
    """The eye code with gaze dims from one code and blink dims from another."""
    out = blink_N6.copy()
    out[:, GAZE_DIMS] = gaze_N6[:, GAZE_DIMS]
    return out
