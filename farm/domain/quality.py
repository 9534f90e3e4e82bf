"""What a rendered chunk must be like to count, and what is said of one that is not. Pure: scores in, flags out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class OnBreach(StrEnum):
    """What follows when a score is beyond its limit."""

    FLAG = "flag"  # the job carries the flag
    RERENDER = "rerender"  # another attempt, on another worker where there is one; flagged when that is no better


@dataclass(frozen=True)
class QualityLimits:
    """Limits of a chunk's scores; None: none. rerenders: attempts of a chunk that are given up for a score at most.

    What is broken rather than poor (frames missing or misplaced, not what was composed, black, frozen) has no limit
    here: it never counts.
    """

    landmarks_min: float | None = 0.5
    identity_min: float | None = None
    lip_agreement_min: float | None = None
    jitter_max: float | None = None
    border_error_max: float | None = None
    on_breach: OnBreach = OnBreach.FLAG
    rerenders: int = 1


def flags(scores: Mapping[str, float], limits: QualityLimits) -> tuple[str, ...]:
    """A name for each limit that the scores break; a score that is not there breaks none."""
    found: list[str] = []
    for name, low in (
        ("landmarks", limits.landmarks_min),
        ("identity", limits.identity_min),
        ("lip_agreement", limits.lip_agreement_min),
    ):
        if low is not None and scores.get(name, low) < low:
            found.append(f"{name}_low")
    for name, high in (("jitter", limits.jitter_max), ("border_error", limits.border_error_max)):
        if high is not None and scores.get(name, high) > high:
            found.append(f"{name}_high")
    return tuple(found)
