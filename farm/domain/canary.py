"""A canary beside the champion: what their chunks' scores say, and when it is stopped. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from statistics import NormalDist
from typing import Final

from farm.domain.gate import Direction

FAILED: Final = "failed"
"""Beside the scores: share of ended attempts that failed for what a model can be blamed for."""
SHOWN: Final = 0.95
"""Confidence of the intervals that people see."""
FEWEST_JOBS: Final = 3
"""From so many jobs on there is an interval."""


@dataclass(frozen=True)
class Watched:
    """A score that may stop a canary. tolerance: how much worse it may be than the champion's."""

    score: str
    direction: Direction
    tolerance: float


@dataclass(frozen=True)
class Rules:
    """fewest_jobs: of each version, before anything is said. confidence: of the difference; high, because one looks
    again and again."""

    watched: tuple[Watched, ...]
    fewest_jobs: int = 8
    confidence: float = 0.999


DEFAULT: Final = Rules(
    (
        Watched("landmarks", Direction.UP, 0.02),
        Watched("identity", Direction.UP, 0.02),
        Watched("lip_agreement", Direction.UP, 0.05),
        Watched("jitter", Direction.DOWN, 0.5),
        Watched("border_error", Direction.DOWN, 0.5),
        Watched(FAILED, Direction.DOWN, 0.05),
    )
)


@dataclass(frozen=True)
class Sums:
    """Of one score of one version, over jobs: n chunks with the score and s their sum, in each job."""

    jobs: int
    n: float
    s: float
    nn: float
    ns: float
    ss: float


@dataclass(frozen=True)
class Mean:
    """Mean over chunks, and its interval: chunks of one job are alike, so that jobs are what is counted as drawn."""

    mean: float
    low: float | None
    high: float | None
    jobs: int
    chunks: int


@dataclass(frozen=True)
class Beside:
    """One score of two versions. worse: the canary is, beyond the tolerance and beyond doubt."""

    score: str
    champion: Mean | None
    canary: Mean | None
    difference: float | None
    worse: bool
    reason: str


@dataclass(frozen=True)
class Comparison:
    """champion, canary: version ids. since: of jobs submitted from then on; None: of all."""

    champion: str
    canary: str
    since: datetime | None
    share: float | None
    scores: tuple[Beside, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(one.reason for one in self.scores if one.worse)


def mean_of(sums: Sums, confidence: float = SHOWN) -> Mean:
    mean = sums.s / sums.n
    half = None
    if sums.jobs >= FEWEST_JOBS:
        half = quantile(confidence, sums.jobs - 1) * math.sqrt(_variance(sums))
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return Mean(mean, low, high, sums.jobs, round(sums.n))


def compare(rules: Rules, champion: Mapping[str, Sums], canary: Mapping[str, Sums]) -> tuple[Beside, ...]:
    """Every score that either has, the watched ones first."""
    watched = {one.score: one for one in rules.watched}
    others = sorted((champion.keys() | canary.keys()) - watched.keys())
    names = [name for name in watched if name in champion or name in canary] + others
    return tuple(_beside(rules, watched.get(name), name, champion.get(name), canary.get(name)) for name in names)


def _beside(rules: Rules, watched: Watched | None, name: str, ours: Sums | None, theirs: Sums | None) -> Beside:
    """ours: the champion's. theirs: the canary's."""
    means = tuple(None if sums is None else mean_of(sums) for sums in (ours, theirs))
    if ours is None or theirs is None:
        return Beside(name, means[0], means[1], None, False, "")
    difference = theirs.s / theirs.n - ours.s / ours.n
    if watched is None or min(ours.jobs, theirs.jobs) < max(rules.fewest_jobs, FEWEST_JOBS):
        return Beside(name, means[0], means[1], difference, False, "")
    one, other = _variance(ours), _variance(theirs)
    freedom = _freedom(one, ours.jobs - 1, other, theirs.jobs - 1)
    half = quantile(rules.confidence, freedom) * math.sqrt(one + other)
    sign = 1 if watched.direction is Direction.UP else -1
    worse = sign * difference + half < -watched.tolerance
    reason = (
        f"{name}: {theirs.s / theirs.n:.4g} in {theirs.jobs} jobs, the champion's {ours.s / ours.n:.4g} in {ours.jobs};"
        f" worse by {abs(difference):.4g} ± {half:.2g}, {watched.tolerance:g} is tolerated"
    )
    return Beside(name, means[0], means[1], difference, worse, reason if worse else "")


def _variance(sums: Sums) -> float:
    """Of a ratio of sums over jobs drawn as clusters (Cochran, Sampling Techniques, 3rd ed., section 6.3)."""
    mean = sums.s / sums.n
    squares = max(0.0, sums.ss - 2 * mean * sums.ns + mean * mean * sums.nn)
    return squares * sums.jobs / (sums.jobs - 1) / sums.n**2


def _freedom(one: float, its: int, other: float, others: int) -> float:
    """Welch and Satterthwaite's degrees of freedom of a difference of means."""
    if one + other == 0:
        return its + others
    return (one + other) ** 2 / (one**2 / its + other**2 / others)


def quantile(confidence: float, freedom: float) -> float:
    """Of Student's t, two-sided: Abramowitz & Stegun 26.7.5; within 1% from 7 degrees on, 4% at 2."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
