"""What a run is trained on: puppets, drawn as the recipe says, or a set that `prepare` made; and whether they fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Final

from farm.errors import Rejected
from trainer.corpus import Corpus, CorpusSetting, DatasetSetting, open_corpus
from trainer.dataset import is_dataset, open_dataset, read_setting
from trainer.recipes import Recipe

_JUDGES: Final = {
    "motion": ("readout", "landmarks", "deep3d", "emoca"),
    "gaze": ("readout", "landmarks", "l2cs"),
    "perceptual": ("vgg19", "efficientnet_lite0"),
    "face": ("vggface",),
}
"""Priors that a term can be judged by: one at least."""
_TAUGHT: Final = frozenset({"distillation", "eye_read", "steer"})
"""Terms that teach true factors: what the landmarks read would teach their errors."""


def bound(recipe: Recipe, data: str) -> Recipe:
    """The recipe with the prepared set at `data`, where there is one, in place of its puppets.

    Checkpoints belong to recipe and data together. Raises Rejected("bad_dataset") that names all that does not fit.
    """
    if is_dataset(data):
        recipe = dataclasses.replace(recipe, corpus=read_setting(data)[0])
    wrong = unfit(recipe)
    if wrong:
        raise Rejected("bad_dataset", f"recipe {recipe.name} cannot be trained on {data}: " + "; ".join(wrong))
    return recipe


def opened(recipe: Recipe, data: str, done: Callable[[int, int], None] | None = None) -> Corpus:
    """The corpus of a bound recipe. done: called with (clips ready, clips) while puppets are drawn."""
    if isinstance(recipe.corpus, CorpusSetting):
        return open_corpus(Path(data), recipe.corpus, done)
    return open_dataset(data, recipe.sizes.image)


def unfit(recipe: Recipe) -> list[str]:
    """Everything that keeps the recipe from running on its material, in words."""
    if recipe.corpus is None:
        return ["it wants people's videos, as python -m trainer prepare leaves them, and no such set lies there"]
    corpus, choices = recipe.corpus, recipe.choices
    terms = {term.name for stage in recipe.stages for phase in stage.phases for term in phase.terms}
    scenes = {stage.scene for stage in recipe.stages}
    wrong = [
        f"term {term} needs one of {', '.join(judges)} among the recipe's priors"
        for term, judges in _JUDGES.items()
        if term in terms and not set(judges) & set(recipe.priors)
    ]
    if "readout" in recipe.priors and "readout" not in scenes:
        wrong.append("its prior readout is never taught: it has no stage of that scene")
    if corpus.size < recipe.sizes.image:
        wrong.append(f"its pictures have {recipe.sizes.image} px, those of the set {corpus.size}")
    if corpus.frames < 1 + choices.negatives and "lip" in scenes:
        wrong.append(f"lips are learned from {1 + choices.negatives} frames of a clip, the set's have {corpus.frames}")
    if corpus.clips < 1 or corpus.held_out < 1:
        wrong.append(f"{corpus.clips} clips to train on and {corpus.held_out} held out: one of each at least")
    if isinstance(corpus, DatasetSetting) and corpus.factors != "true":
        needs = [f"scene {name}" for name in sorted(scenes & {"readout"})]
        needs += [f"term {name}" for name in sorted(terms & _TAUGHT)]
        if needs:
            needing = f"{' and '.join(needs)} need{'s' if len(needs) == 1 else ''} true factors"
            wrong.append(f"{needing}; dataset {corpus.key} has none (recipes open and open_small do without)")
    return wrong


def kind(recipe: Recipe) -> str:
    return "puppets" if isinstance(recipe.corpus, CorpusSetting) else "dataset"


def told(recipe: Recipe) -> str:
    """Where a bundle's pictures came from, for its manifest."""
    if isinstance(recipe.corpus, CorpusSetting):
        return f"puppets only (corpus {recipe.corpus.key})"
    return f"dataset {recipe.corpus.version if recipe.corpus else 'unknown'}"
