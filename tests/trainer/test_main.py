"""`python -m trainer run` from nothing to a bundle that the farm loads."""

from __future__ import annotations

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
    assert figures["held_out_identities"] == 2
    assert set(figures["jaw_by_shift"]) == {"-4", "-2", "0", "2", "4"}
    for name in ("readout", "appearance_motion", "lip", "expression_generator"):
        assert (tmp_path / f"after_{name}.png").stat().st_size > 1000


@pytest.mark.parametrize(
    "arguments", [["--recipe", "none"], ["--recipe", "tiny", "--steps", "lip"], ["--recipe", "tiny", "--steps", "x=1"]]
)
def test_a_wrong_wish_is_refused(arguments: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(command.app, ["run", "--out", str(tmp_path), *arguments])
    assert result.exit_code == 2


def test_paper_says_what_it_lacks(tmp_path: Path) -> None:
    result = CliRunner().invoke(command.app, ["run", "--recipe", "paper", "--out", str(tmp_path), "--priors", "/none"])
    assert "vgg19: no file /none/vgg19.pth" in str(result.exception)
