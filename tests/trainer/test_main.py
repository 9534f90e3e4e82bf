"""`python -m trainer run` from nothing to a bundle that the farm loads."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from farm.nets import bundle
from trainer import __main__ as command
from trainer.corpus import Corpus
from trainer.recipes import RECIPES, Recipe


def test_run_writes_a_bundle_that_says_what_it_is(
    recipe: Recipe, corpus: Corpus, corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(recipe, checkpoint_every=1)
    monkeypatch.setitem(RECIPES, "tiny", lambda: recipe)
    few = [f"--steps={stage.name}=2" for stage in recipe.stages]
    arguments = ["run", "--recipe", "tiny", "--data", str(corpus_folder), "--out", str(tmp_path), *few]
    result = CliRunner().invoke(command.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    loaded = bundle.load(tmp_path / "bundle", torch.device("cpu"))
    assert loaded.manifest.trained
    assert loaded.manifest.created_by == "trainer, recipe tiny"
    assert "puppets only" in loaded.manifest.source
    curves = json.loads((tmp_path / "bundle" / "curves.json").read_text())
    assert list(curves) == [stage.name for stage in recipe.stages]
    figures = json.loads((tmp_path / "bundle" / "evaluation.json").read_text())
    assert figures["footage"]["clips"] == 2
    assert figures == json.loads((tmp_path / "evaluation.json").read_text())
    assert set(figures["factor_variance"]["lip"]) == {"lip", "pose", "gaze", "blink", "expression"}
    assert isinstance(figures["stage1"]["psnr"], float)
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    early = json.loads((tmp_path / "after_appearance_motion.json").read_text())
    assert "stage1" in early
    assert "factor_variance" not in early
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["stage_number"], status["stages"], status["error"]) == ("succeeded", 6, 6, None)
    assert status["losses"].keys() == set(curves["expression_generator"])
    for name in ("readout", "appearance_motion", "lip", "expression_generator"):
        assert (tmp_path / "grids" / f"after_{name}.png").stat().st_size > 1000
    during = ["appearance_motion-0000001.png", "expression_generator-0000001.png", "sweeps-0000001.png"]
    assert sorted(path.name for path in (tmp_path / "grids").glob("*-0*.png")) == during
    drawn = (tmp_path / "plots" / "curves.svg").read_text()
    assert all(words in drawn for words in ("expression_generator", "generator/image: "))


def invoke(out: Path, *arguments: str) -> tuple[int, dict]:
    result = CliRunner().invoke(command.app, ["run", "--out", str(out), *arguments])
    place = out / "status.json"
    return result.exit_code, json.loads(place.read_text()) if place.exists() else {}


def test_wrong_overrides_are_refused_all_at_once(tmp_path: Path) -> None:
    wrong = ["--steps", "lip", "--steps", "x=1", "--set", "seed=often"]
    code, status = invoke(tmp_path, "--recipe", "tiny", *wrong)
    assert (code, status["state"], status["error"]["code"]) == (1, "failed", "bad_override")
    for part in ("'stages.lip' is not KEY=VALUE", "no key stages.x.steps", "seed: wants a whole number"):
        assert part in status["error"]["detail"]


def test_an_unknown_recipe_is_wrong_usage(tmp_path: Path) -> None:
    assert invoke(tmp_path, "--recipe", "none") == (2, {})


def test_paper_says_what_it_lacks(tmp_path: Path) -> None:
    code, status = invoke(tmp_path, "--recipe", "paper", "--priors", "/none")
    assert (code, status["error"]["code"]) == (1, "bad_dataset")
    assert "it wants people's videos" in status["error"]["detail"]


def test_a_broken_corpus_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    code, status = invoke(tmp_path / "out", "--recipe", "smoke", "--data", str(tmp_path / "data"))
    assert (code, status["error"]["code"]) == (1, "bad_dataset")


def test_a_stopped_run_goes_on_by_the_same_command(
    recipe: Recipe, corpus: Corpus, corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = dataclasses.replace(recipe, stages=recipe.stages[:1])
    monkeypatch.setitem(RECIPES, "tiny", lambda: short)
    steps = ["--recipe", "tiny", "--data", str(corpus_folder)]
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(command.Door, "stopping", lambda self: True)
    code, status = invoke(out, *steps)
    assert (code, status["state"], status["step"]) == (3, "stopped", 1)
    monkeypatch.undo()
    monkeypatch.setitem(RECIPES, "tiny", lambda: short)
    code, status = invoke(out, *steps)
    assert (code, status["state"], status["stage"], status["step"]) == (0, "succeeded", "readout", 4)
    assert len((out / "curves.jsonl").read_text().splitlines()) == 4


def test_recipes_are_listed_with_their_keys() -> None:
    listed = json.loads(CliRunner().invoke(command.app, ["recipes", "--json"]).output)["recipes"]
    assert {entry["name"] for entry in listed} == set(RECIPES)
    for entry in listed:
        steps = {key["name"]: key["default"] for key in entry["keys"] if key["name"].endswith(".steps")}
        assert steps == {f"stages.{stage['name']}.steps": stage["steps"] for stage in entry["stages"]}
    plain = CliRunner().invoke(command.app, ["recipes"]).output
    assert "stages.lip.steps" in plain
