"""Overrides of declared keys: what is right becomes values, what is wrong is said all at once."""

from __future__ import annotations

import pytest

from farm.domain.override import Key, check, parse
from farm.errors import Rejected

KEYS = [
    Key("seed", "int", 1, minimum=0),
    Key("choices.temperature", "float", 0.1, minimum=0),
    Key("choices.warm_start", "bool", False),
    Key("stages.lip.average", "float", None, minimum=0, optional=True),
]


def test_texts_become_values_of_the_declared_types() -> None:
    values = parse(["seed=3", "choices.temperature=1e-2", "choices.warm_start=True", "stages.lip.average=none"], KEYS)
    assert values == {"seed": 3, "choices.temperature": 0.01, "choices.warm_start": True, "stages.lip.average": None}
    assert isinstance(values["seed"], int)
    assert parse([], KEYS) == {}


def test_typed_values_are_checked_alike() -> None:
    assert check({"seed": 4, "choices.temperature": 1, "choices.warm_start": False}, KEYS) == {
        "seed": 4,
        "choices.temperature": 1.0,
        "choices.warm_start": False,
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("seed", "is not KEY=VALUE"),
        ("=3", "is not KEY=VALUE"),
        ("sed=3", "did you mean seed"),
        ("seed=3.5", "wants a whole number"),
        ("seed=none", "wants a whole number, not none"),
        ("seed=-1", "is at least 0"),
        ("choices.temperature=nan", "wants a number"),
        ("choices.temperature=inf", "wants a number"),
        ("choices.warm_start=1", "wants true or false"),
        ("stages.lip.average=x", "wants a number or none"),
    ],
)
def test_a_wrong_change_is_refused(change: str, said: str) -> None:
    with pytest.raises(Rejected, match=said) as refused:
        parse([change], KEYS)
    assert refused.value.code == "bad_override"


@pytest.mark.parametrize(("name", "value"), [("seed", 1.5), ("seed", True), ("choices.warm_start", 1), ("seed", None)])
def test_a_wrong_typed_value_is_refused(name: str, value: float | None) -> None:
    with pytest.raises(Rejected):
        check({name: value}, KEYS)


def test_all_errors_come_at_once() -> None:
    with pytest.raises(Rejected) as refused:
        parse(["seed=x", "nothing=1", "seed=2", "choices.warm_start=maybe"], KEYS)
    assert [problem.pointer for problem in refused.value.problems] == [
        "/overrides/seed",
        "/overrides/seed",
        "/overrides/nothing",
        "/overrides/choices.warm_start",
    ]
