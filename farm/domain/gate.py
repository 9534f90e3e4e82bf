"""The gate before promotion: rules as data, and what they say of a version beside the champion. Pure."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from farm.errors import Problem

EVALUATION_SET: Final = "evaluation_set"
"""Key of an evaluation that says what it was measured on: two evaluations of different sets cannot be compared."""
MOST_RULES: Final = 50


class Direction(StrEnum):
    """Which way a metric is better."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True)
class Rule:
    """metric: dotted path into the evaluation (`readout_r2.unified.jaw`). margin: how much worse than the champion it
    may be (negative: how much better it must be); None: not compared. bound: the worst value that passes at all."""

    metric: str
    direction: Direction
    margin: float | None = None
    bound: float | None = None


@dataclass(frozen=True)
class Gate:
    """All rules must hold."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Finding:
    """What a rule said. needed: the worst value that would have passed; None where the metric was not judged."""

    metric: str
    value: float | None
    champion: float | None
    needed: float | None
    passed: bool
    reason: str


@dataclass(frozen=True)
class Decision:
    """reasons: why not, in words; empty when it passed. champion: id of the version that it was compared with."""

    passed: bool
    champion: str | None
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Measured:
    """A version as the gate sees it."""

    version_id: str
    name: str
    trained: bool
    evaluation: Mapping[str, object] | None


DEFAULT: Final = Gate(
    (
        Rule("psnr", Direction.UP, margin=0.3),
        Rule("lip_sync.at_0", Direction.UP, margin=0.05),
        Rule("retrieval.lip", Direction.UP, margin=0.05),
        Rule("leak.largest", Direction.DOWN, margin=0.05),
    )
)
"""Of models without a gate of their own (docs/evaluation.md says what the metrics are)."""


def problems(gate: Gate, known: Collection[str]) -> tuple[Problem, ...]:
    """What is wrong with a gate that somebody sent, with pointers into `/rules`. known: dotted paths of the numbers
    that evaluations have; `name.*` stands for whatever is below name."""
    found: list[Problem] = []
    if len(gate.rules) > MOST_RULES:
        found.append(Problem("length_wrong", f"a gate has at most {MOST_RULES} rules", "/rules"))
    seen: set[str] = set()
    for k, rule in enumerate(gate.rules):
        at = f"/rules/{k}"
        if not rule.metric or not all(rule.metric.split(".")):
            found.append(Problem("metric_invalid", f"{rule.metric!r} is no dotted path", f"{at}/metric"))
        elif not _is_known(rule.metric, known):
            found.append(Problem("metric_unknown", unknown(rule.metric, known), f"{at}/metric"))
        if rule.metric in seen:
            found.append(Problem("metric_repeated", f"{rule.metric} has a rule already", f"{at}/metric"))
        seen.add(rule.metric)
        if rule.margin is None and rule.bound is None:
            found.append(Problem("rule_empty", "a rule has a margin, a bound or both", at))
        for name, value in (("margin", rule.margin), ("bound", rule.bound)):
            if value is not None and not math.isfinite(value):
                found.append(Problem("out_of_range", f"{name} is a finite number", f"{at}/{name}"))
    return tuple(found)


def _is_known(metric: str, known: Collection[str]) -> bool:
    parts = metric.split(".")
    return metric in known or any(f"{'.'.join(parts[:n])}.*" in known for n in range(1, len(parts)))


def unknown(name: str, known: Collection[str]) -> str:
    """What to say of a name that is not among those known: what is near it, and all; families as `name.… (count)`."""
    families: dict[str, list[str]] = {}
    for one in sorted(known):
        families.setdefault(one.partition(".")[0], []).append(one)
    names = (of[0] if len(of) == 1 else f"{family}.… ({len(of)})" for family, of in families.items())
    near = difflib.get_close_matches(name, known, n=3)
    like = f"; near it: {', '.join(near)}" if near else ""
    return f"nothing is measured as {name!r}{like}; known: {', '.join(names)}"


def decide(gate: Gate, candidate: Measured, champion: Measured | None) -> Decision:
    """Whether `candidate` may take over from `champion` (None: there is none yet).

    Bounds always hold. Margins are against the champion, on the same evaluation set; an untrained champion, one that
    the candidate is itself, or none at all, has nothing to be compared with.
    """
    beside = champion
    if champion is not None and (champion.version_id == candidate.version_id or not champion.trained):
        beside = None
    name = None if champion is None else champion.version_id
    if candidate.evaluation is None:
        if beside is None:
            return Decision(True, name, ())
        return Decision(False, name, ("it was never evaluated, and the champion is a trained version",))
    if beside is not None and (why := _incomparable(candidate.evaluation, beside)):
        return Decision(False, name, (why,))
    findings = tuple(_judge(rule, candidate.evaluation, beside) for rule in gate.rules)
    reasons = tuple(f"{one.metric}: {one.reason}" for one in findings if not one.passed)
    return Decision(not reasons, name, reasons, findings)


def _incomparable(evaluation: Mapping[str, object], champion: Measured) -> str | None:
    if champion.evaluation is None:
        return f"the champion, {champion.name}, was never evaluated: evaluate it first"
    ours, theirs = evaluation.get(EVALUATION_SET), champion.evaluation.get(EVALUATION_SET)
    if ours is None or theirs is None:
        whose = "its evaluation" if ours is None else "the champion's evaluation"
        return f"{whose} does not say what it was measured on ({EVALUATION_SET}): it cannot be compared"
    if ours != theirs:
        return f"measured on {ours}, the champion on {theirs}: evaluate both on the same held-out set"
    return None


def _judge(rule: Rule, evaluation: Mapping[str, object], champion: Measured | None) -> Finding:
    value = number_at(evaluation, rule.metric)
    theirs = None if champion is None or champion.evaluation is None else number_at(champion.evaluation, rule.metric)
    sign = 1 if rule.direction is Direction.UP else -1
    if rule.bound is None and champion is None:
        return Finding(rule.metric, value, None, None, True, "there is no champion to compare it with")
    if value is None:
        return Finding(rule.metric, None, theirs, None, False, "its evaluation has no such number")
    if rule.margin is not None and champion is not None and theirs is None:
        return Finding(rule.metric, value, None, None, False, "the champion's evaluation has no such number")
    limits: list[tuple[float, str]] = []
    if rule.bound is not None:
        limits.append((rule.bound, f"the bound is {rule.bound:g}"))
    if rule.margin is not None and theirs is not None:
        kind = "may be worse by" if rule.margin >= 0 else "must be better by"
        limits.append((theirs - sign * rule.margin, f"the champion has {theirs:g} and it {kind} {abs(rule.margin):g}"))
    needed, why = max(limits, key=lambda limit: sign * limit[0])
    passed = sign * value >= sign * needed
    words = "at least" if sign > 0 else "at most"
    return Finding(rule.metric, value, theirs, needed, passed, f"{value:g}; needed {words} {needed:g}: {why}")


def numbers(evaluation: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    """Dotted paths of all numbers in an evaluation; names with a dot in them cannot be told by one."""
    for name, value in evaluation.items():
        if "." in name or not name:
            continue
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + name


def number_at(evaluation: Mapping[str, object], path: str) -> float | None:
    """The finite number at a dotted path; None where there is none."""
    here: object = evaluation
    for part in path.split("."):
        if not isinstance(here, Mapping):
            return None
        here = here.get(part)
    if isinstance(here, bool) or not isinstance(here, int | float):
        return None
    try:
        value = float(here)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None
