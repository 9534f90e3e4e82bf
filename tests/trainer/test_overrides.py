"""Declared keys of recipes: every number has one, each lands where it says, and nothing else changes."""

from __future__ import annotations

import dataclasses
import json

import pytest

from farm.errors import Rejected
from trainer.overrides import declared, overridden
from trainer.recipes import RECIPES, tiny


@pytest.mark.parametrize("name", RECIPES)
def test_keys_are_unique_typed_and_hold_the_recipes_own_values(name: str) -> None:
    recipe = RECIPES[name]()
    keys = declared(recipe)
    assert len({key.name for key in keys}) == len(keys)
    assert json.loads(json.dumps([dataclasses.asdict(key) for key in keys]))
    kinds = {"int": int, "float": (int, float), "bool": bool}
    for key in keys:
        assert key.default is None or isinstance(key.default, kinds[key.type]), key
    changes = [f"{key.name}={key.default}" for key in keys if key.default is not None]
    assert overridden(recipe, changes) == recipe


def test_a_change_lands_where_it_says_and_nowhere_else() -> None:
    recipe = overridden(
        tiny(),
        [
            "stages.lip.steps=3",
            "stages.lip.phases.lip.groups.audio.rate=0.5",
            "stages.expression_generator.phases.generator.groups.expression.until=none",
            "stages.expression_generator.phases.generator.terms.decorrelation.weight=0",
            "choices.window_augmentation.turn_deg=2",
            "corpus.clips=7",
        ],
    )
    lip, last = recipe.stages[2], recipe.stages[-1]
    assert (lip.steps, lip.phases[0].groups[1].rate, lip.phases[0].groups[0].rate) == (3, 0.5, 1.5e-3)
    assert last.phases[0].groups[0].until is None
    assert {term.name: term.weight for term in last.phases[0].terms}["decorrelation"] == 0
    assert recipe.choices.window_augmentation.turn_deg == 2
    assert recipe.choices.motion_augmentation == tiny().choices.motion_augmentation
    assert recipe.corpus is not None
    assert recipe.corpus.clips == 7
    assert recipe.stages[:2] == tiny().stages[:2]


def test_sizes_names_and_scenes_are_the_recipes_own() -> None:
    for change in ("name=x", "sizes.lip=3", "stages.lip.scene=eye", "priors=vgg19", "corpus.version=9"):
        with pytest.raises(Rejected, match="has no key"):
            overridden(tiny(), [change])
