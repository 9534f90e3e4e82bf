"""The `paper` recipe against the paper's table (PDFGC.md, section 4), figure by figure; the others hang together."""

from __future__ import annotations

import dataclasses
import json

import pytest

from farm.nets.sizes import Sizes
from trainer.recipes import RECIPES, VOXCELEB2_CLIPS, Phase, Recipe, Stage, paper
from trainer.stages import SCENES, TERMS

# stage, batch, epochs, {part: rate} of the first phase, decay factor, every
TABLE = [
    ("appearance_motion", 24, 50, {"appearance": 5e-5, "trunk": 5e-5, "generator0": 5e-5}, 0.5, 80_000),
    ("lip", 32, 30, {"lip": 1e-5, "audio": 1e-5}, 0.93, 200_000),
    ("eye", 128, 30, {"eye": 1e-5}, 0.5, 80_000),
    ("pose", 128, 30, {"pose": 1e-5}, 0.5, 80_000),
    ("expression_generator", 16, 50, {"expression": 1e-5, "generator": 2e-5}, 0.5, 80_000),
]


@pytest.mark.parametrize(("stage", "row"), list(zip(paper().stages, TABLE, strict=True)), ids=[row[0] for row in TABLE])
def test_paper_has_the_papers_figures(stage: Stage, row: tuple) -> None:
    name, batch, epochs, rates, factor, every = row
    phase = stage.phases[0]
    assert (stage.name, stage.batch) == (name, batch)
    assert stage.steps == -(-epochs * 1_092_009 // batch)
    assert {group.part: group.rate for group in phase.groups} == rates
    assert (phase.decay.factor, phase.decay.every, phase.decay.cosine) == (factor, every, False)


def test_paper_discriminators_and_the_freeze_of_expression() -> None:
    first, last = paper().stages[0], paper().stages[-1]
    assert _rates(first.phases[1]) == {"discriminator": 5e-6}
    assert _rates(last.phases[1]) == {"discriminator": 3.5e-6}
    until = {group.part: group.until for group in last.phases[0].groups}
    assert until == {"expression": 40_000, "generator": None}
    assert VOXCELEB2_CLIPS == 1_092_009


def test_paper_weights_and_optimisers_of_burkov_et_al_and_the_published_defaults() -> None:
    first, last = paper().stages[0], paper().stages[-1]
    assert _weights(first.phases[0]) == {
        "perceptual": 3e-2,
        "face": 0.6e-2,
        "adversarial": 1,
        "feature_match": 10,
        "motion": 1,
    }
    for phase in first.phases:
        assert (phase.betas, phase.epsilon, phase.weight_decay) == ((0, 0.999), 1e-5, 0)
    weights = _weights(last.phases[0])
    assert {name: weights[name] for name in ("image", "feature_match", "perceptual", "face", "adversarial")} == {
        "image": 1,
        "feature_match": 10,
        "perceptual": 10,
        "face": 5,
        "adversarial": 1,
    }
    assert {"decorrelation", "lip_sync", "gaze", "motion"} <= weights.keys()
    for phase in last.phases:
        assert (phase.betas, phase.weight_decay) == ((0, 0.99), 1e-3)
    assert first.average == last.average == 0.999


def test_paper_choices() -> None:
    recipe = paper()
    assert recipe.sizes == Sizes.full()
    assert (recipe.choices.negatives, recipe.choices.window, recipe.choices.bank) == (8, 13, 512)
    assert recipe.discriminator_width == 64
    augmentation = recipe.choices.motion_augmentation
    assert (augmentation.scale, augmentation.scale_probability) == (0.2, 0.5)
    assert (augmentation.brightness, augmentation.contrast, augmentation.saturation, augmentation.hue) == (
        0.5,
        0.4,
        0.4,
        0.4,
    )
    # What we add to the paper is off.
    assert not recipe.choices.decorrelate_all
    assert not recipe.choices.warm_start
    assert recipe.choices.loose_share == recipe.choices.visual_lip_share == 0


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_names_scenes_and_terms_that_are_there(name: str) -> None:
    recipe = RECIPES[name]()
    assert recipe.name == name
    for stage in recipe.stages:
        assert stage.scene in SCENES
        for phase in stage.phases:
            assert {term.name for term in phase.terms} <= TERMS.keys()
    assert json.loads(json.dumps(dataclasses.asdict(recipe)))["name"] == name


def test_recipes_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        paper().seed = 3  # type: ignore[misc]
    assert isinstance(paper(), Recipe)


def _rates(phase: Phase) -> dict[str, float]:
    return {group.part: group.rate for group in phase.groups}


def _weights(phase: Phase) -> dict[str, float]:
    return {term.name: term.weight for term in phase.terms}
