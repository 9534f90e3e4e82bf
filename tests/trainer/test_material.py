"""Prepared sets as the material of runs: what fits, what is refused and how; from buckets; on Ray; to a bundle."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from farm.errors import Rejected
from farm.nets import bundle
from farm.storage.s3 import connect
from tests.trainer.prepared import PREPARED
from trainer import material
from trainer.__main__ import app
from trainer.corpus import DatasetSetting
from trainer.dataset import open_dataset, read_setting
from trainer.loop import recipe_key
from trainer.prepare.run import prepare
from trainer.puppets.write import SIDECAR
from trainer.recipes import RECIPES, paper, tiny

READ = DatasetSetting("f" * 64, 224, 100, 4, 40, 8, "read")


def fitted(name: str, corpus: DatasetSetting) -> list[str]:
    return material.unfit(dataclasses.replace(RECIPES[name](), corpus=corpus))


def test_recipes_say_what_they_lack_all_at_once() -> None:
    assert fitted("open", READ) == []
    assert fitted("open_small", READ) == []
    assert fitted("paper", READ) == []
    (refusal,) = fitted("tiny", READ)
    assert "need true factors; dataset ffffffffffff has none" in refusal
    assert "scene readout" in refusal
    assert "term distillation" in refusal
    assert fitted("tiny", dataclasses.replace(READ, factors="true")) == []
    small = fitted("paper", dataclasses.replace(READ, size=64, frames=5, held_out=0))
    assert len(small) == 3
    bare = dataclasses.replace(paper(), corpus=READ, priors=("landmarks",))
    assert [line.split(" needs")[0] for line in material.unfit(bare)] == ["term perceptual", "term face"]
    untaught = dataclasses.replace(paper(), corpus=READ, priors=(*paper().priors, "readout"))
    assert "never taught" in material.unfit(untaught)[0]


def test_puppets_always_fit_and_a_real_recipe_asks_for_people(tmp_path: Path) -> None:
    for name in RECIPES:
        recipe = RECIPES[name]()
        if recipe.corpus is None:
            with pytest.raises(Rejected, match="python -m trainer prepare"):
                material.bound(recipe, str(tmp_path))
        else:
            assert material.bound(recipe, str(tmp_path)) == recipe


def test_checkpoints_belong_to_recipe_and_set_together(made: tuple[Path, dict]) -> None:
    bound = material.bound(RECIPES["open_small"](), str(made[0]))
    assert isinstance(bound.corpus, DatasetSetting)
    assert bound.corpus.version == made[1]["version"]
    other = dataclasses.replace(bound, corpus=dataclasses.replace(bound.corpus, version="0" * 64))
    assert recipe_key(bound) != recipe_key(other)
    assert material.told(bound) == f"dataset {made[1]['version']}"
    assert material.told(tiny()).startswith("puppets only")


def test_a_run_on_a_prepared_set_ends_in_a_bundle_that_names_it(made: tuple[Path, dict], tmp_path: Path) -> None:
    arguments = ["run", "--recipe", "open_small", "--data", str(made[0]), "--out", str(tmp_path)]
    for stage in RECIPES["open_small"]().stages:
        arguments += ["--steps", f"{stage.name}=1", "--set", f"stages.{stage.name}.batch=2"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    manifest = bundle.load(tmp_path / "bundle", torch.device("cpu")).manifest
    assert made[1]["version"] in manifest.source
    losses = [json.loads(line) for line in (tmp_path / "curves.jsonl").read_text().splitlines()]
    terms = {name for line in losses for name in line if "/" in name}
    assert {
        "generator/motion",
        "generator/gaze",
        "generator/adversarial",
        "lip/sync_seen",
        "eye/eye",
        "pose/pose",
    } <= terms


def test_the_paper_itself_asks_for_its_priors_on_a_set_that_fits(made: tuple[Path, dict], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["run", "--recipe", "paper", "--data", str(made[0]), "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "its pictures have 224 px, those of the set 64" in result.output
    told = json.loads((tmp_path / "status.json").read_text())
    assert told["error"]["code"] == "bad_dataset"


def test_without_sidecars_the_landmarks_stand_in(source: Path, tmp_path: Path) -> None:
    for path in source.glob("mp4/id00000/*/*"):
        if not path.name.endswith(SIDECAR):
            dest = tmp_path / "source" / path.relative_to(source)
            dest.parent.mkdir(parents=True)
            dest.write_bytes(path.read_bytes())
    report = prepare(str(tmp_path / "source"), str(tmp_path / "set"), PREPARED)
    assert report["factors"] == "read"
    assert report["held_out_identities"] == 0  # there is but one
    with pytest.raises(Rejected, match=r"need true factors.*has none"):
        material.bound(tiny(), str(tmp_path / "set"))


def test_a_bucket_holds_the_same_set_and_streams_it(
    made: tuple[Path, dict], source: Path, own_s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", own_s3_url)
    client = connect(own_s3_url)
    bucket = f"set-{os.urandom(4).hex()}"
    client.create_bucket(Bucket=bucket)
    for path in source.rglob("*"):
        if path.is_file():
            client.put_object(Bucket=bucket, Key=f"vox/{path.relative_to(source)}", Body=path.read_bytes())
    report = prepare(f"s3://{bucket}/vox", f"s3://{bucket}/set", PREPARED)
    assert report["version"] == made[1]["version"]

    at = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 9, 12, 3])
    near = open_dataset(str(made[0]), 64).train
    # Room for one clip of 160 kB: the others are fetched again and again, and nothing goes wrong.
    for kept in (170_000, 1 << 30):
        far = open_dataset(f"s3://{bucket}/set", 64, cache=tmp_path, kept_bytes=kept).train
        far.expect(torch.tensor([0, 1]))
        for _ in range(3):
            assert torch.equal(far.picture(*at), near.picture(*at))
            assert torch.equal(far.window(at[0], at[1].clamp_max(9)), near.window(at[0], at[1].clamp_max(9)))
        assert far.pictures._shelf._kept._held <= kept + 170_000  # type: ignore[attr-defined]
    second = far.part(1, 9)
    assert len(second) == 1
    assert torch.equal(second.picture(at[0] * 0, at[1]), near.picture(at[0] * 0 + 1, at[1]))
    assert torch.equal(second.window(at[0] * 0, at[1] % 10), near.window(at[0] * 0 + 1, at[1] % 10))
    with pytest.raises(Rejected, match="holds no manifest"):
        read_setting(f"s3://{bucket}/nothing")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Data's own, of its own settings
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_ray_data_makes_the_same_set(made: tuple[Path, dict], source: Path, tmp_path: Path) -> None:
    from trainer.ray_prepare import on_ray

    report = prepare(str(source), str(tmp_path), PREPARED, make=on_ray("local"))
    assert report["version"] == made[1]["version"]
