"""A canary beside the champion: what their chunks' scores say, and when it is stopped. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from statistics import NormalDist
from typing import Final

from farm.domain.alias import DEFAULT_SHARE
from farm.domain.document import LATER
from farm.domain.gate import Direction, unknown
from farm.errors import Problem

FAILED: Final = "failed"
"""Beside the scores: share of ended attempts that failed for what a model can be blamed for."""
SHOWN: Final = 0.95
"""Confidence of the intervals that people see."""
FEWEST_JOBS: Final = 3
"""From so many jobs on there is an interval."""
MOST_JOBS: Final = 2_000
"""So many jobs of each version are looked at, the newest."""
LEAST_CONFIDENCE, MOST_CONFIDENCE = 0.5, 0.999999
SCORES: Final[Mapping[str, Direction]] = {
    "landmarks": Direction.UP,
    "identity": Direction.UP,
    "lip_agreement": Direction.UP,
    "face_found": Direction.UP,
    "jitter": Direction.DOWN,
    "border_error": Direction.DOWN,
    "frozen": Direction.DOWN,
    "black": Direction.DOWN,
    FAILED: Direction.DOWN,
}
"""What may be watched, and which way it is better (docs/quality.md)."""


@dataclass(frozen=True)
class Watched:
    """A score that may stop a canary. tolerance: how much worse it may be than the champion's."""

    score: str
    direction: Direction
    tolerance: float


@dataclass(frozen=True)
class Rules:
    """fewest_jobs: of each version, before anything is said. confidence: of the difference; high, because one looks
    again and again. share: of a new canary that is given none. stops: its share ends where it is worse; else that is
    only shown."""

    watched: tuple[Watched, ...]
    fewest_jobs: int = 8
    confidence: float = 0.999
    share: float = field(default=DEFAULT_SHARE, metadata=LATER)
    stops: bool = field(default=True, metadata=LATER)


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


def problems(rules: Rules) -> tuple[Problem, ...]:
    """What is wrong with rules that somebody sent, with pointers into `/rules`. NaN is in no range."""
    found: list[Problem] = []

    def within(value: float, least: float, most: float, pointer: str) -> None:
        if not least <= value <= most:
            found.append(Problem("out_of_range", f"{least:g} to {most:g}, not {value:g}", pointer))

    seen: set[str] = set()
    for k, watched in enumerate(rules.watched):
        at = f"/rules/watched/{k}"
        if watched.score not in SCORES:
            found.append(Problem("score_unknown", unknown(watched.score, SCORES), f"{at}/score"))
        if watched.score in seen:
            found.append(Problem("score_repeated", f"{watched.score} is watched already", f"{at}/score"))
        seen.add(watched.score)
        if not (math.isfinite(watched.tolerance) and watched.tolerance >= 0):
            found.append(Problem("out_of_range", "a tolerance is a finite number from 0", f"{at}/tolerance"))
    within(rules.fewest_jobs, FEWEST_JOBS, MOST_JOBS, "/rules/fewest_jobs")
    within(rules.confidence, LEAST_CONFIDENCE, MOST_CONFIDENCE, "/rules/confidence")
    within(rules.share, 0.0, 1.0, "/rules/share")
    return tuple(found)


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
