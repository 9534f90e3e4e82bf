"""Overrides of a training recipe's declared keys, `key=value`: what is wrong with them is said all at once.

The keys come from the recipe itself (`trainer.overrides`) or, where there is no torch, from a listing of them
(`python -m trainer recipes --json`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from farm.errors import Problem, Rejected

Value = int | float | bool | None

_WORDS: Final = {"true": True, "false": False}


@dataclass(frozen=True)
class Key:
    """A setting of a recipe that a run may change. type: "int", "float" or "bool"; no value lies under `minimum`.

    optional: "none" switches it off. default: the recipe's own value.
    """

    name: str
    type: str
    default: Value
    minimum: float | None = None
    optional: bool = False


def parse(changes: Iterable[str], keys: Iterable[Key]) -> dict[str, Value]:
    """Values by key from texts `key=value`. Raises Rejected("bad_override") with a problem for every wrong one."""
    values: dict[str, str] = {}
    problems = []
    for change in changes:
        name, equals, text = change.partition("=")
        name = name.strip()
        if not equals or not name:
            problems.append(_problem("", f"{change!r} is not KEY=VALUE"))
        elif name in values:
            problems.append(_problem(name, f"{name} is given twice"))
        else:
            values[name] = text.strip()
    return check(values, keys, problems)


def check(
    changes: Mapping[str, str | Value], keys: Iterable[Key], problems: list[Problem] | None = None
) -> dict[str, Value]:
    """The same for values that are typed already (JSON) or texts."""
    declared = {key.name: key for key in keys}
    problems = list(problems or [])
    values: dict[str, Value] = {}
    for name, value in changes.items():
        key = declared.get(name)
        if key is None:
            near = get_close_matches(name, declared, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(_problem(name, f"the recipe has no key {name}{hint}"))
            continue
        try:
            values[name] = _value(key, value)
        except ValueError as error:
            problems.append(_problem(name, f"{name}: {error}"))
    if problems:
        raise Rejected("bad_override", "; ".join(problem.detail for problem in problems), problems=tuple(problems))
    return values


def _value(key: Key, given: str | Value) -> Value:
    if given is None or (isinstance(given, str) and given.lower() in ("none", "null")):
        if key.optional:
            return None
        raise ValueError(f"wants {_wanted(key)}, not none")
    if key.type == "bool":
        value = _WORDS.get(given.lower()) if isinstance(given, str) else given
        if isinstance(value, bool):
            return value
        raise ValueError(f"wants true or false, not {given!r}")
    if isinstance(given, bool):
        raise ValueError(f"wants {_wanted(key)}, not {given!r}")
    try:
        value = (int if key.type == "int" else float)(given)
    except ValueError:
        raise ValueError(f"wants {_wanted(key)}, not {given!r}") from None
    if value != (float(given) if not isinstance(given, str) else value) or not math.isfinite(value):
        raise ValueError(f"wants {_wanted(key)}, not {given!r}")
    if key.minimum is not None and value < key.minimum:
        raise ValueError(f"is at least {key.minimum:g}, not {given}")
    return value


def _wanted(key: Key) -> str:
    kind = {"int": "a whole number", "float": "a number", "bool": "true or false"}[key.type]
    return f"{kind} or none" if key.optional else kind


def _problem(name: str, detail: str) -> Problem:
    return Problem("bad_override", detail, f"/overrides/{name}" if name else "/overrides")
