"""The judge that ships, the commands on the bundle that ships, on filmed clips, and the ablation, all very small."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from farm.cli.app import run as dubfarm
from trainer import __main__ as command
from trainer import ablation, footage, judging, readout, report
from trainer.corpus import FACTORS, Corpus
from trainer.metrics_lips import bare
from trainer.priors import PriorMissing
from trainer.puppets.speech import mouth_shapes, say
from trainer.recipes import RECIPES, Recipe
from trainer.subject import CONTROLLED
from trainer.syncnet import FILE, open_syncnet

runner = CliRunner()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("judged")


def test_the_judge_reads_people_that_it_never_saw(data: Path) -> None:
    judge = readout.load()
    on = footage.puppets(data, 64, 3, frames=24)
    read = judge.read(on.clips.picture(torch.arange(3).repeat_interleave(8), 24 + torch.arange(8).repeat(3)))
    true = on.clips.factors[:, 24:].flatten(0, 1)
    assert read.shape == (24, len(FACTORS))
    values = readout.r2_where_shown(read, true)
    assert values["yaw"] > 0.8
    assert values["jaw"] > 0.7
    assert sum(values.values()) / len(values) > 0.5
    assert judge.card["seed"] != RECIPES["tiny"]().seed
    assert judge.card["width"] != 16
    assert set(judge.card["r2"]) == {"life", "apart"}


def test_footage_knows_its_phonemes_and_voices(data: Path) -> None:
    on = footage.puppets(data, 64, 3, frames=24)
    assert on.phonemes is not None
    assert on.voices is not None
    assert [len(voice) for voice in on.voices] == [24 * 640] * 3
    jaws = {"open": [], "closed": []}
    for clip, phonemes in enumerate(on.phonemes):
        for start_s, name in phonemes:
            frame = round(25 * start_s) + 1
            if 0 <= frame < 24 and bare(name) in "aAmbp":
                jaws["open" if bare(name) in "aA" else "closed"].append(float(on.clips.factors[clip, frame, 0]))
    assert np.mean(jaws["open"]) > 0.3 + np.mean(jaws["closed"])


def test_another_judges_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / readout.WEIGHTS).write_bytes((readout.FOLDER / readout.WEIGHTS).read_bytes())
    card = json.loads((readout.FOLDER / readout.CARD).read_text())
    (tmp_path / readout.CARD).write_text(json.dumps({**card, "width": card["width"] + 8}))
    with pytest.raises((ValueError, RuntimeError)):
        readout.load(tmp_path)


def test_the_shipped_bundle_is_evaluated_by_one_command(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`dubfarm models evaluate`, which starts the trainer in a process of its own and passes on what that says."""
    home, tmp_path = tmp_path / "home", tmp_path / "out"
    (home / ".cache" / "dubfarm").mkdir(parents=True)
    (home / ".cache" / "dubfarm" / "corpus").symlink_to(data)
    monkeypatch.setenv("HOME", str(home))
    assert dubfarm(["models", "evaluate", "--scope", "smoke", "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found == json.loads((tmp_path / "evaluation.json").read_text())
    assert set(found["factor_variance"]) == set(found["factor_variance"]["lip"]) == set(CONTROLLED)
    for name in ("psnr", "nlse_c", "pose_error", "expression_mse", "pose_mse"):
        assert isinstance(found[name], float), name
    for path in ("lip_sync.at_0", "leak.largest", "dci.completeness", "fid.distance", "retrieval.lip", "lmd.mouth"):
        assert isinstance(dict(report.flat("", found))[f".{path}"], float), path
    assert found["unseen_language"]["closed_open"].keys() >= {"at_0", "far"}
    assert found["evaluation_set"].startswith("puppets ")
    assert found["lacking"].keys() >= {"syncnet", "stage1"}
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 7
    assert page.count("<svg") >= 3
    assert "http://" not in page.replace("http://www.w3.org", "")
    text = (tmp_path / "report.md").read_text()
    assert "| lip |" in text
    assert "the reader's own R²" in text
    for title in (tmp_path / "grids").iterdir():
        assert title.read_bytes().startswith(b"\x89PNG")


def test_wrong_wishes_of_evaluate(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert runner.invoke(command.app, ["evaluate", "--scope", "huge"]).exit_code == 2
    lost = runner.invoke(command.app, ["evaluate", "--bundle", str(tmp_path)])
    assert lost.exit_code == 1
    assert "bundle_missing" in lost.stderr
    (tmp_path / "manifest.json").write_text("{")
    assert dubfarm(["models", "evaluate", str(tmp_path)]) == 1
    assert "manifest_invalid" in capfd.readouterr().err
    nothing = runner.invoke(command.app, ["evaluate", "--clips", str(tmp_path), "--scope", "smoke"])
    assert nothing.exit_code == 1
    assert "has no videos" in nothing.stderr


def test_filmed_clips_are_evaluated_by_landmarks(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    wrote = runner.invoke(
        command.app, ["puppets", "--out", str(tmp_path / "clips"), "--clips", "1", "--seconds", "2.4", "--size", "192"]
    )
    assert wrote.exit_code == 0, wrote.output
    arguments = ["evaluate", "--clips", str(tmp_path / "clips"), "--scope", "smoke", "--json"]
    result = runner.invoke(command.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["footage"]["factors"].startswith("read off the filmed frames")
    assert isinstance(found["psnr"], float)
    assert "closed_open" in found["lacking"]


def test_a_contact_sheet_of_puppets(tmp_path: Path) -> None:
    arguments = ["sheet", str(tmp_path / "sheet.png"), "--people", "1", "--size", "32", "--steps", "2"]
    assert runner.invoke(command.app, arguments).exit_code == 0
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_ablation_repeats_the_last_stage_only_and_goes_on(
    recipe: Recipe, corpus: Corpus, corpus_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(recipe, stages=tuple(dataclasses.replace(s, steps=2) for s in recipe.stages))
    monkeypatch.setitem(RECIPES, "tiny", lambda: recipe)
    monkeypatch.setattr(ablation, "CONFIGURATIONS", ablation.CONFIGURATIONS[:2])
    monkeypatch.setattr(ablation, "TABLE_4", ablation.TABLE_4[:2])
    monkeypatch.setattr(ablation, "TABLE_5", ())
    arguments = ["ablate", "--recipe", "tiny", "--seeds", "1", "--last", "2", "--scope", "smoke"]
    arguments += ["--data", str(corpus_folder), "--out", str(tmp_path)]
    first = runner.invoke(command.app, arguments, catch_exceptions=False)
    assert first.exit_code == 0, first.output
    table = json.loads((tmp_path / "ablation.json").read_text())
    assert list(table["table_4"]) == ["none", "in-window"]
    row = table["table_4"]["none"]
    assert row["paper_nlse_c"] == 0.486
    assert isinstance(row["NLSE-C"]["mean"], float)
    stages = [json.loads(line)["stage"] for line in (tmp_path / "none-seed0" / "curves.jsonl").read_text().splitlines()]
    assert set(stages) == {"expression_generator"}
    assert "expression_generator" not in (tmp_path / "shared" / "curves.jsonl").read_text()
    again = runner.invoke(command.app, arguments, catch_exceptions=False)
    assert "seed 1 of 1" not in again.stderr
    assert "| none |" in (tmp_path / "ablation.md").read_text()


def test_variants_differ_as_the_table_says() -> None:
    base = RECIPES["tiny"]()
    for configuration in ablation.CONFIGURATIONS:
        made = ablation.variant(base, base.stages[-1], configuration, 1)
        terms = {term.name for phase in made.stages[0].phases for term in phase.terms}
        assert (ablation.DECORRELATION in terms) is configuration.decorrelated
        assert (made.choices.window, len(made.stages), made.seed) == (configuration.window, 1, base.seed + 1000)
    assert [c.paper_nlse_c for c in ablation.TABLE_4] == [0.486, 0.034, 0.045, 0.007]
    assert sorted(c.window for c in ablation.TABLE_5) == [7, 13, 25]


class _Sync(torch.nn.Module):
    def forward(self, frames: torch.Tensor, wave: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return frames.mean((1, 3, 4)), wave.unflatten(1, (5, -1)).mean(2)


def test_a_users_syncnet_is_a_program_of_frames_and_wave(tmp_path: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=64)
    given = (torch.zeros(2, 3, 5, 8, 8), torch.zeros(2, 3200))
    program = torch.export.export(_Sync(), given, dynamic_shapes=({0: batch}, {0: batch}))
    torch.export.save(program, tmp_path / FILE)
    network = open_syncnet(tmp_path)
    assert network is not None
    level = torch.randn(30)
    pictures = level[:, None, None, None].expand(30, 3, 8, 8)
    mouth, voice = network.embeddings(pictures, level.repeat_interleave(640).numpy())
    assert mouth.shape == voice.shape == (26, 5)
    assert torch.allclose(mouth, voice, atol=1e-5)
    assert open_syncnet(tmp_path / "nowhere") is None
    (tmp_path / FILE).write_bytes(b"no")
    with pytest.raises(PriorMissing, match=r"is not a torch\.export program"):
        open_syncnet(tmp_path)


def test_unseen_languages_are_heard_by_their_mouths() -> None:
    from trainer.puppets.sentences import _WORDS, UNSEEN

    assert not UNSEEN.keys() & _WORDS.keys()
    for language, words in UNSEEN.items():
        shapes = mouth_shapes(say(" ".join(words.split()[:6]), f"{language}+m5"))
        assert shapes[:, 0].max() > 0.5, language


def test_the_default_bundle_is_there() -> None:
    assert (judging.SHIPPED / "manifest.json").is_file()
