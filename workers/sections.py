"""How much of each of a job's factor settings an output frame takes: its own, and those of its segments.

A share is a function of the frame's absolute time alone. Where a segment begins or ends, shares pass smoothly from one
setting to the other; codes are then interpolated with them, as the paper interpolates expressions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from farm.domain.factor import Factor, Factors, FactorSegment, FactorSetting


def shares(segments: Sequence[FactorSegment], time_s_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """(1 + segments, N) shares that sum to one: the job's own setting first, then each segment's."""
    ease = _eases(segments)
    risen = np.zeros((len(segments), len(time_s_N)))
    for row, segment in enumerate(segments):
        rise = _risen(time_s_N, segment.start_s, ease[row][0])
        risen[row] = rise * (1 - _risen(time_s_N, segment.stop_s, ease[row][1]))
    own = np.maximum(1 - risen.sum(0), 0)
    total = own + risen.sum(0)
    return np.concatenate([own[None], risen]) / total


def settings(factor: Factor, own: Factors, segments: Sequence[FactorSegment]) -> tuple[FactorSetting, ...]:
    """The settings of one factor, in the order of the rows of `shares`."""
    return tuple(dict(factors.items())[factor] for factors in (own, *(segment.factors for segment in segments)))


def _eases(segments: Sequence[FactorSegment]) -> list[tuple[float, float]]:
    """Seconds of the change at each end: no longer than the segment, and the same on both sides of a common edge."""
    wanted = [min(segment.ease_s, segment.stop_s - segment.start_s) for segment in segments]
    starts = {segment.start_s: ease for segment, ease in zip(segments, wanted, strict=True)}
    stops = {segment.stop_s: ease for segment, ease in zip(segments, wanted, strict=True)}
    return [
        (min(ease, stops.get(segment.start_s, ease)), min(ease, starts.get(segment.stop_s, ease)))
        for segment, ease in zip(segments, wanted, strict=True)
    ]


def _risen(time_s_N: NDArray[np.float64], at_s: float, ease_s: float) -> NDArray[np.float64]:
    if ease_s <= 0:
        return (time_s_N >= at_s).astype(np.float64)
    t = np.clip((time_s_N - at_s) / ease_s + 0.5, 0, 1)
    return t * t * (3 - 2 * t)
