"""Takes the landmarks' tremble out of a measured motion without lagging behind it.

Zero-phase: every value is read off a straight line fitted to its neighbours on both sides with Gaussian weights. At
the ends of a run the fit goes on with the neighbours there are: unlike a reflection, that neither pins the noise of
the last frame nor drags a moving face back. Two such fits, of a long and a short window, are mixed: where they differ
by more than the measured noise explains, the face truly moves and the short one leads (a Wiener gain); where it is
still, the long one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LONG_S, _SHORT_S = 0.16, 0.04  # standard deviations of the two windows


def steady(
    values_TC: NDArray[np.float64], frames_per_s: float, *, floor: float, long_s: float = _LONG_S
) -> NDArray[np.float64]:
    """Smooths the C channels of one run together. floor: the least noise to reckon with, in the values' unit."""
    if len(values_TC) < 3:
        return values_TC.copy()
    long, short = long_s * frames_per_s, max(_SHORT_S * frames_per_s, 0.7)
    still, lively = line_fit(values_TC, long), line_fit(values_TC, short)
    noise = max(_noise(values_TC), floor)
    expected = (noise * _difference_norm(long, short)) ** 2 * values_TC.shape[1]
    energy = ((lively - still) ** 2).sum(1, keepdims=True)
    energy = np.maximum(line_mean(energy, long / 2), 1e-30)
    gain = np.clip(1 - 2.5 * expected / energy, 0.0, 1.0)
    return still + gain * (lively - still)


def line_fit(values_TC: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Gaussian-weighted straight lines through the neighbours, each read at its own frame. sigma in frames."""
    ones = np.ones((len(values_TC), 1))
    offsets, weights = _window(sigma)
    s0, s1, s2 = (_sums(ones, weights * offsets**n) for n in range(3))
    t0, t1 = (_sums(values_TC, weights * offsets**n) for n in range(2))
    spread = s0 * s2 - s1**2
    sloped = spread > 1e-9
    return np.where(sloped, (s2 * t0 - s1 * t1) / np.where(sloped, spread, 1.0), t0 / s0)


def line_mean(values_TC: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    _, weights = _window(sigma)
    return _sums(values_TC, weights) / _sums(np.ones((len(values_TC), 1)), weights)


def reach(sigma: float) -> int:
    """Frames on each side that a fit can depend on."""
    return int(np.ceil(3 * sigma))


def _window(sigma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    offsets = np.arange(-reach(sigma), reach(sigma) + 1, dtype=np.float64)
    return offsets, np.exp(-(offsets**2) / (2 * sigma**2))


def _sums(values_TC: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """sum over d of kernel[d] values[t + d], with nothing beyond the ends."""
    before = len(kernel) // 2
    columns = [np.convolve(column, kernel[::-1])[before : before + len(values_TC)] for column in values_TC.T]
    return np.stack(columns, 1)


def _difference_norm(long: float, short: float) -> float:
    """Standard deviation of (short fit - long fit) of white noise of deviation 1, away from the ends."""
    middle = reach(max(long, short))
    impulse = np.zeros((2 * middle + 1, 1))
    impulse[middle] = 1
    return float(np.linalg.norm(line_mean(impulse, short) - line_mean(impulse, long)))


def _noise(values_TC: NDArray[np.float64]) -> float:
    """White noise's deviation from third differences: smooth motion hardly shows in them. 0 when too few frames."""
    if len(values_TC) < 8:
        return 0.0
    third = np.abs(np.diff(values_TC, 3, axis=0))
    return float(np.median(third) / 0.6745 / np.sqrt(20))
