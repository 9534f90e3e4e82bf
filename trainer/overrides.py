"""What a run may change of a recipe: every number and switch in it, named by its place; nothing else.

    stages.lip.steps, stages.lip.phases.lip.groups.audio.rate, stages.lip.phases.lip.terms.sync_seen.weight,
    choices.temperature, corpus.clips, seed

Sizes of networks, names, scenes and priors are the recipe's own: with others it would be another recipe.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Final

from farm.domain import override
from farm.domain.override import Key, Value
from trainer.recipes import Recipe

_KEPT: Final = frozenset({"sizes", "priors", "version", "size"})
_AT_LEAST_ONE: Final = frozenset(
    (
        "batch",
        "checkpoint_every",
        "every",
        "clips",
        "held_out",
        "frames",
        "loose",
        "bank",
        "window",
        "discriminator_width",
    )
)


def declared(recipe: Recipe) -> list[Key]:
    """Every key of the recipe, with its type and the recipe's own value."""
    return [
        Key(name, kind, value, None if kind == "bool" else _minimum(name), optional)
        for name, kind, optional, value in _leaves(recipe, "")
    ]


def overridden(recipe: Recipe, changes: Iterable[str]) -> Recipe:
    """The recipe with texts `key=value` put in. Raises Rejected("bad_override"), which names all that is wrong."""
    values = override.parse(changes, declared(recipe))
    return _changed(recipe, "", values) if values else recipe


def _minimum(name: str) -> float:
    return 1.0 if name.rpartition(".")[2] in _AT_LEAST_ONE else 0.0


def _leaves(part: Any, prefix: str) -> Iterator[tuple[str, str, bool, Value]]:
    """(key, type, optional, value), in the order of the fields."""
    hints = typing.get_type_hints(type(part))
    for field in dataclasses.fields(part):
        value, name = getattr(part, field.name), f"{prefix}{field.name}"
        if field.name in _KEPT:
            continue
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{name}.")
        elif _members(value):
            for member in value:
                yield from _leaves(member, f"{name}.{_called(member)}.")
        else:
            kinds = _kinds(hints[field.name])
            if kinds:
                yield name, kinds[0], "None" in kinds, value


def _changed(part: Any, prefix: str, values: dict[str, Value]) -> Any:
    """The dataclass with the values under its prefix put in, all the way down."""
    new = {}
    for field in dataclasses.fields(part):
        value, name = getattr(part, field.name), f"{prefix}{field.name}"
        if name in values:
            new[field.name] = values[name]
        elif dataclasses.is_dataclass(value):
            new[field.name] = _changed(value, f"{name}.", values)
        elif _members(value):
            new[field.name] = tuple(_changed(member, f"{name}.{_called(member)}.", values) for member in value)
    return dataclasses.replace(part, **new)


def _members(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and dataclasses.is_dataclass(value[0])


def _called(member: Any) -> str:
    """Groups go by the part that they train, all else by name."""
    return getattr(member, "part", None) or member.name


def _kinds(hint: Any) -> list[str]:
    """Names of the types that a number or switch may have, "None" last; empty for anything else."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kinds = ["None" if option is types.NoneType else getattr(option, "__name__", "") for option in options]
    known = [kind for kind in ("bool", "int", "float") if kind in kinds]
    return [*known, *(["None"] if "None" in kinds else [])] if known else []
