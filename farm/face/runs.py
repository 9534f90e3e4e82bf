"""From scores of single frames to steady runs: hysteresis, short gaps, what is too short to count."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

ENTER, LEAVE = 0.6, 0.35
GAP = 3
SHORT = 3
FADE_S = 0.12
"""How long a face that is lost, or found, inside a shot takes to go over into the source's own."""


def turned(yaw_deg: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 for a face turned less than 50 degrees, 0 from 70 on, LEAVE..ENTER between about 58 and 63."""
    return np.clip((70 - np.abs(yaw_deg)) / 20, 0, 1).astype(np.float32)


def steady(score_T: NDArray[np.float32], shot_T: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Found from ENTER on, until below LEAVE; every shot starts anew."""
    found = np.zeros(len(score_T), bool)
    for start, stop in stretches(shot_T):
        inside = False
        for t in range(start, stop):
            inside = score_T[t] >= (LEAVE if inside else ENTER)
            found[t] = inside
    return found


def bridged(found_T: NDArray[np.bool_], shot_T: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Gaps of at most GAP frames inside a shot closed; then runs shorter than SHORT dropped, unless the shot is."""
    out = found_T.copy()
    for start, stop in stretches(shot_T):
        known = np.flatnonzero(found_T[start:stop]) + start
        for before, after in pairwise(known):
            if after - before <= GAP + 1:
                out[before:after] = True
        for first, end in stretches(out[start:stop].astype(np.int32)):
            if out[start + first] and end - first < min(SHORT, stop - start):
                out[start + first : start + end] = False
    return out


def runs(found_T: NDArray[np.bool_], shot_T: NDArray[np.int32]) -> NDArray[np.int32]:
    """-1 without the face, else the number of the run."""
    run = np.full(len(found_T), -1, np.int32)
    number = 0
    for start, stop in stretches(shot_T):
        for first, end in stretches(found_T[start:stop].astype(np.int32)):
            if found_T[start + first]:
                run[start + first : start + end] = number
                number += 1
    return run


def share(run_T: NDArray[np.int32], shot_T: NDArray[np.int32], frames_per_s: float) -> NDArray[np.float32]:
    """How much of the generated face is shown: 0 without it, 1 with it, in even steps where a run begins or ends.

    Not where a shot does, nor the video: there the picture changes anyhow.
    """
    steps = max(1, round(FADE_S * frames_per_s))
    out = (run_T >= 0).astype(np.float32)
    whole = stretches(shot_T)
    starts, stops = {start for start, _ in whole}, {stop for _, stop in whole}
    for start, stop in stretches(run_T):
        if run_T[start] >= 0:
            rise = np.arange(1, stop - start + 1, dtype=np.float32) / np.float32(steps + 1)
            if start not in starts:
                out[start:stop] = np.minimum(out[start:stop], rise)
            if stop not in stops:
                out[start:stop] = np.minimum(out[start:stop], rise[::-1])
    return out


def filled(values_TX: NDArray[np.float32], known_T: NDArray[np.bool_], run_T: NDArray[np.int32]) -> None:
    """Put straight lines between known values, inside runs, where none is known; in place."""
    for t in np.flatnonzero((run_T >= 0) & ~known_T):
        before, after = t - 1, t + 1
        while before >= 0 and run_T[before] == run_T[t] and not known_T[before]:
            before -= 1
        while after < len(run_T) and run_T[after] == run_T[t] and not known_T[after]:
            after += 1
        has_before = before >= 0 and run_T[before] == run_T[t]
        has_after = after < len(run_T) and run_T[after] == run_T[t]
        if has_before and has_after:
            share = (t - before) / (after - before)
            values_TX[t] = (1 - share) * values_TX[before] + share * values_TX[after]
        elif has_before or has_after:
            values_TX[t] = values_TX[before if has_before else after]


def stretches(values_T: NDArray[np.int32]) -> list[tuple[int, int]]:
    """[start, stop) of equal neighbours, in order, covering everything."""
    if not len(values_T):
        return []
    edges = np.flatnonzero(np.diff(values_T)) + 1
    return list(zip([0, *edges.tolist()], [*edges.tolist(), len(values_T)], strict=True))
