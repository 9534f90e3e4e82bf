"""What may be trained and what is measured of it: the trainer's recipes with their declared keys, and its metrics, from
a listing kept beside this file.

The API has no torch and cannot ask the trainer. `make recipes` writes the listing anew; a test compares it with the
trainer's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from farm.domain import override
from farm.domain.limits import InputLimits
from farm.domain.override import Key, Value
from farm.domain.run import Dataset, RunSpec, resume_point
from farm.errors import Problem, Rejected
from farm.storage import guard

LISTING: Final = Path(__file__).with_name("recipes.json")


@dataclass(frozen=True)
class Stage:
    name: str
    steps: int
    batch: int


@dataclass(frozen=True)
class Declared:
    """A recipe as the API knows it. needs_data: it has no puppets of its own."""

    name: str
    about: str
    stages: tuple[Stage, ...]
    keys: tuple[Key, ...]
    needs_data: bool


@cache
def declared() -> Mapping[str, Declared]:
    return {
        entry["name"]: Declared(
            entry["name"],
            entry["about"],
            tuple(Stage(**stage) for stage in entry["stages"]),
            tuple(Key(**key) for key in entry["keys"]),
            not any(key["name"].startswith("corpus.") for key in entry["keys"]),
        )
        for entry in json.loads(LISTING.read_text())["recipes"]
    }


@cache
def metrics() -> frozenset[str]:
    """Dotted paths of the numbers that the trainer's evaluations have; `name.*`: whatever is below name."""
    return frozenset(json.loads(LISTING.read_text())["metrics"])


def checked(spec: RunSpec, limits: InputLimits) -> RunSpec:
    """The spec with its overrides' values in their declared types. limits: where data may lie.

    Raises Rejected("invalid") with everything that is wrong: recipe_unknown, bad_override, dataset_missing,
    the codes of farm.storage.guard at /dataset/uri, resume_from_invalid.
    """
    problems: list[Problem] = []
    recipe = declared().get(spec.recipe)
    overrides: Mapping[str, Value] = spec.overrides
    if recipe is None:
        known = ", ".join(sorted(declared()))
        problems.append(Problem("recipe_unknown", f"there is no recipe {spec.recipe!r}: one of {known}", "/recipe"))
    else:
        try:
            overrides = override.check(spec.overrides, recipe.keys)
        except Rejected as error:
            problems += error.problems
        if recipe.needs_data and spec.dataset.uri is None:
            detail = f"recipe {spec.recipe} trains on a prepared set: name its uri"
            problems.append(Problem("dataset_missing", detail, "/dataset"))
    problems += _data(spec.dataset, limits)
    if spec.resume_from is not None and resume_point(spec.resume_from) is None:
        detail = "run_…, for its newest checkpoint, or run_…/<stage>-<step>"
        problems.append(Problem("resume_from_invalid", detail, "/resume_from"))
    if problems:
        raise Rejected("invalid", f"{len(problems)} problems", problems=tuple(problems))
    return replace(spec, overrides=dict(overrides))


def steps_of(spec: RunSpec) -> Mapping[str, int]:
    """How long each stage of a run is, overrides counted."""
    recipe = declared().get(spec.recipe)
    if recipe is None:
        return {}
    found = {stage.name: stage.steps for stage in recipe.stages}
    for name, value in spec.overrides.items():
        parts = name.split(".")
        if len(parts) == 3 and parts[0] == "stages" and parts[2] == "steps" and isinstance(value, int):
            found[parts[1]] = value
    return found


def _data(dataset: Dataset, limits: InputLimits) -> Iterator[Problem]:
    if dataset.uri is None:
        if dataset.manifest_sha256 is not None:
            yield Problem("dataset_missing", "a manifest's SHA-256 names a version of the set at uri", "/dataset/uri")
        return
    try:
        target = guard.check_uri(dataset.uri, limits)
        if target.scheme not in ("s3", "file"):
            raise Rejected("uri_scheme_refused", "a data set is at s3://bucket/prefix or file:///folder")
    except Rejected as error:
        yield Problem(error.code, error.detail, "/dataset/uri")
