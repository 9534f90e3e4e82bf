"""Curves of a run that may have millions of steps: means over stretches of steps, a thousand or so a stage."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from farm.domain.run import Point

POINTS_A_STAGE: Final = 1000
LONGEST_LINE: Final = 1 << 20


@dataclass(frozen=True)
class Read:
    """points: whole stretches. bytes: how much of the text they used up; the rest is read again."""

    points: tuple[Point, ...]
    bytes: int


def stretch(steps: int) -> int:
    """Steps that one point stands for, of a stage of so many."""
    return max(1, -(-steps // POINTS_A_STAGE))


def read(text: bytes, steps_of: Mapping[str, int], ended: bool = False) -> Read:
    """Points of the whole lines of a piece of curves.jsonl that begins where the last one ended.

    steps_of: how long each stage is. ended: nothing will be added, so that an unfinished stretch is a point too. A line
    that is no JSON object with stage and step is passed over.
    """
    points: list[Point] = []
    gathered: list[dict[str, Any]] = []
    used = at = 0
    for line in text.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        entry = _entry(line)
        at += len(line)
        if entry is None:
            if not gathered:
                used = at
            continue
        if gathered and gathered[0]["stage"] != entry["stage"]:
            points.append(_point(gathered))
            gathered = []
            used = at - len(line)
        gathered.append(entry)
        size = stretch(steps_of.get(entry["stage"], 0))
        if (entry["step"] + 1) % size == 0 or entry["step"] + 1 == steps_of.get(entry["stage"]):
            points.append(_point(gathered))
            gathered = []
            used = at
    if ended and gathered:
        points.append(_point(gathered))
        used = at
    return Read(tuple(points), used)


def thin(points: Sequence[Point], most: int) -> tuple[Point, ...]:
    """At most `most` points of one stage, by means over neighbours; the newest is always among them."""
    if len(points) <= most:
        return tuple(points)
    size = -(-len(points) // most)
    return tuple(_merged(points[at : at + size]) for at in range(0, len(points), size))


def total(losses: Mapping[str, float | None]) -> float:
    return sum(abs(value) for value in losses.values() if value is not None)


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("stage"), str):
        return None
    step = entry.get("step")
    return entry if isinstance(step, int) and not isinstance(step, bool) and 0 <= step < 2**31 - 1 else None


def _point(entries: Sequence[Mapping[str, Any]]) -> Point:
    values = [{name: entry[name] for name in entry if name not in ("stage", "step")} for entry in entries]
    return Point(entries[0]["stage"], entries[-1]["step"] + 1, len(entries), _means(values, [1] * len(values)))


def _merged(points: Sequence[Point]) -> Point:
    steps = [point.steps for point in points]
    return Point(points[0].stage, points[-1].step, sum(steps), _means([point.losses for point in points], steps))


def _means(losses: Iterable[Mapping[str, Any]], weights: Sequence[int]) -> dict[str, float | None]:
    """Means by name; one that is no finite number makes its mean None."""
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for each, weight in zip(losses, weights, strict=True):
        for name, value in each.items():
            if isinstance(value, bool) or not isinstance(value, int | float | None):
                continue
            sums[name] = sums.get(name, 0.0) + (math.nan if value is None else value) * weight
            counts[name] = counts.get(name, 0) + weight
    means = {name: value / counts[name] for name, value in sums.items()}
    return {name: mean if math.isfinite(mean) else None for name, mean in means.items()}
