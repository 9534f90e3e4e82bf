"""A run that begins where another stood; stages made side by side that become one; a run that makes no sense ends."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from trainer import curves, loop
from trainer.cast import Cast
from trainer.checkpoint import CAST, Checkpoints, Manifest, Place
from trainer.corpus import Corpus
from trainer.job import Job, seed_checkpoint
from trainer.out import open_out
from trainer.ray_run import merge
from trainer.recipes import Group, Recipe, Stage
from trainer.status import TrainingFailed


def keep(out: Path, recipe: Recipe, cast: Cast, stage: Stage, *, part: bool = False) -> None:
    number = recipe.stages.index(stage)
    checkpoints = Checkpoints(open_out(out).store, loop.recipe_key(recipe))
    tensors = loop._parts_of(cast, stage) if part else cast.state_dict()
    place = Place(number + 1, 0)
    checkpoints.save(Manifest(loop.recipe_key(recipe), stage.name, 4, place, part=part, ended=True), {CAST: tensors})
    checkpoints.wait()
    checkpoints.close()


def cast_of(recipe: Recipe, seed: int) -> Cast:
    torch.manual_seed(seed)
    return Cast(recipe)


def job(recipe: Recipe, out: Path, start: str) -> Job:
    return Job(recipe, "", str(out), Path(), 1, start)


def test_a_run_begins_where_another_one_stood_under_another_recipe(recipe: Recipe, tmp_path: Path) -> None:
    cast, stage = cast_of(recipe, 3), recipe.stages[1]
    keep(tmp_path / "a", recipe, cast, stage)
    changed = dataclasses.replace(recipe, seed=9, stages=recipe.stages[1:])
    start = f"{tmp_path}/a/checkpoints/{stage.name}-4"
    out = open_out(tmp_path / "b")
    seed_checkpoint(job(changed, tmp_path / "b", start), out)
    begun = Checkpoints(out.store, loop.recipe_key(changed))
    newest = begun.newest()
    assert newest is not None
    assert newest.place == Place(1, 0)  # that stage is the first here
    assert torch.equal(begun.load(newest)[CAST]["distil.weight"], cast.distil.weight)
    # A run that has a checkpoint of its own keeps to it.
    seed_checkpoint(job(changed, tmp_path / "b", "nowhere"), out)


def test_what_cannot_be_begun_from_is_said(recipe: Recipe, tmp_path: Path) -> None:
    stage = recipe.stages[0]
    keep(tmp_path / "a", recipe, cast_of(recipe, 0), stage)
    start = f"{tmp_path}/a/checkpoints/{stage.name}-4"
    smaller = dataclasses.replace(recipe, discriminator_width=8)
    other_stages = dataclasses.replace(recipe, stages=recipe.stages[1:])
    for number, (chosen, where) in enumerate(
        [(recipe, f"{tmp_path}/none/checkpoints/x-1"), (recipe, "x"), (smaller, start), (other_stages, start)]
    ):
        with pytest.raises(TrainingFailed, match="--resume-from") as failed:
            seed_checkpoint(job(chosen, tmp_path / "b", where), open_out(tmp_path / f"b{number}"))
        assert failed.value.code == "bad_override"


def test_stages_made_side_by_side_become_one_checkpoint(recipe: Recipe, tmp_path: Path) -> None:
    base, trained = cast_of(recipe, 0), cast_of(recipe, 1)
    numbers = [n for n, stage in enumerate(recipe.stages) if stage.scene in ("lip", "eye", "pose")]
    keep(tmp_path, recipe, base, recipe.stages[numbers[0] - 1])
    for number in numbers:
        keep(tmp_path, recipe, trained, recipe.stages[number], part=True)
        file = curves.CurveFile(tmp_path / curves.stage_curves(recipe.stages[number].name), "", 0)
        file.add(recipe.stages[number].name, 0, {"x": 1.0})
        file.close()
    out = open_out(tmp_path)
    checkpoints = Checkpoints(out.store, loop.recipe_key(recipe))
    merge(checkpoints, out, job(recipe, tmp_path, ""), numbers)
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.place == Place(numbers[-1] + 1, 0)
    merged = checkpoints.load(newest)[CAST]
    learned = {"lip": "motion.to_mouth", "eye": "motion.to_eye", "pose": "motion.to_headpose", "audio": "audio"}
    for key, value in base.state_dict().items():
        fresh = key.startswith(tuple(f"{part}." for part in learned.values())) or any(
            key.startswith(f"motion.{name}_embed.") for name in ("mouth", "eye", "headpose")
        )
        assert torch.equal(merged[key], trained.state_dict()[key] if fresh else value), key
    lines = list(curves.entries(tmp_path / curves.CURVES))
    assert [line["stage"] for line in lines] == [recipe.stages[number].name for number in numbers]
    assert not list(tmp_path.glob("curves.*.jsonl"))
    checkpoints.close()


def test_a_run_whose_losses_are_no_numbers_ends_and_keeps_no_such_checkpoint(
    recipe: Recipe, corpus: Corpus, tmp_path: Path
) -> None:
    stage = recipe.stages[0]
    wild = dataclasses.replace(stage.phases[0], groups=(Group("readout", 1e30),), warmup=0)
    recipe = dataclasses.replace(recipe, stages=(dataclasses.replace(stage, phases=(wild,)),), checkpoint_every=1)
    with pytest.raises(TrainingFailed, match="readout") as failed:
        loop.train(recipe, corpus, tmp_path)
    assert failed.value.code == "nan"
    checkpoints = Checkpoints(open_out(tmp_path).store, loop.recipe_key(recipe))
    for manifest in checkpoints.all():
        assert all(value.isfinite().all() for value in checkpoints.load(manifest)[CAST].values())
    checkpoints.close()
