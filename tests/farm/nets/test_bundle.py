"""Bundles come back as they were saved, and a damaged one is refused by the name of its damage."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from farm.domain.factor import Factor
from farm.errors import Rejected
from farm.nets.bundle import Bundle, load, manifest_sha256, save, seeded
from farm.nets.manifest import MANIFEST, Manifest
from farm.nets.networks import build
from farm.nets.sizes import Sizes
from farm.nets.style import style, style_parts

CPU = torch.device("cpu")


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "bundle"))


def test_round_trip(tmp_path: Path) -> None:
    torch.manual_seed(0)
    networks = build(Sizes.tiny(96))
    manifest = Manifest(
        name="n",
        sizes=networks.sizes,
        licence="CC0",
        trained=True,
        created_by="a test",
        gains=dict.fromkeys(Factor, 1.1),
    )
    saved = save(tmp_path / "deep" / "bundle", manifest, networks)
    bundle = load(tmp_path / "deep" / "bundle", CPU, manifest_sha256(tmp_path / "deep" / "bundle"))
    assert bundle.manifest == saved == dataclasses.replace(manifest, files=saved.files)
    assert (bundle.sizes, bundle.gains[Factor.LIP]) == (networks.sizes, 1.1)
    for name, network in bundle.networks.named().items():
        before = networks.named()[name].state_dict()
        after = network.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_bundle_is_never_overwritten(folder: Path, tiny_bundle: Bundle) -> None:
    with pytest.raises(Rejected, match="bundle_exists"):
        save(folder, tiny_bundle.manifest, tiny_bundle.networks)
    assert load(folder, CPU).sha256 == tiny_bundle.sha256
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_pinned_manifest(folder: Path) -> None:
    with pytest.raises(Rejected, match=r"bundle_corrupt: manifest\.json"):
        load(folder, CPU, "0" * 64)


@pytest.mark.parametrize("network", ["appearance", "motion", "audio", "generator"])
def test_corrupt_file_is_named(folder: Path, network: str) -> None:
    path = folder / f"{network}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(Rejected, match=f"bundle_corrupt: {network}.safetensors"):
        load(folder, CPU)


@pytest.mark.parametrize("file", [MANIFEST, "audio.safetensors"])
def test_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(Rejected, match=f"bundle_missing: {file}"):
        load(folder, CPU)


def test_truncated_file_with_a_matching_hash(folder: Path) -> None:
    _replace(folder, "audio.safetensors", (folder / "audio.safetensors").read_bytes()[:1000])
    with pytest.raises(Rejected, match=r"weights_unreadable: audio\.safetensors"):
        load(folder, CPU)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda w: w.pop("model.fc.bias"), "weights_key_missing"),
        (lambda w: w.update(more=torch.zeros(1)), "weights_key_unknown"),
        (lambda w: w.update({"model.fc.bias": torch.zeros(3)}), "weights_shape_wrong"),
        (lambda w: w.update({"model.fc.bias": torch.full((128,), torch.inf)}), "weights_not_finite"),
    ],
)
def test_wrong_weights_are_named(folder: Path, change, code: str) -> None:
    weights = safetensors.torch.load_file(folder / "motion.safetensors")
    change(weights)
    _replace(folder, "motion.safetensors", safetensors.torch.save(weights))
    with pytest.raises(Rejected, match=rf"{code}: motion\.safetensors: (model\.fc\.bias|more)"):
        load(folder, CPU)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda m: m.update(format=2), "manifest_invalid"),
        (lambda m: m.update(surprise=1), "manifest_invalid"),
        (lambda m: m.pop("licence"), "manifest_invalid"),
        (lambda m: m.update(trained="yes"), "manifest_invalid"),
        (lambda m: m["gains"].pop("lip"), "manifest_invalid"),
        (lambda m: m["gains"].update(lip="loud"), "manifest_invalid"),
        (lambda m: m["preprocessing"].update(colour="bgr"), "manifest_invalid"),
        (lambda m: m["files"].update({"../../etc/passwd": "0"}), "manifest_invalid"),
        (lambda m: m["sizes"].update(depth=3), "sizes_invalid"),
        (lambda m: m["sizes"].update(image=70), "sizes_invalid"),
        (lambda m: m["sizes"].update(lip=True), "sizes_invalid"),
        (lambda m: m["sizes"].update(generator=[64, 64]), "sizes_invalid"),
        (lambda m: m["sizes"].update(map=2**62), "sizes_invalid"),
    ],
)
def test_wrong_manifest_is_refused(folder: Path, change, code: str) -> None:
    data = json.loads((folder / MANIFEST).read_bytes())
    change(data)
    (folder / MANIFEST).write_text(json.dumps(data))
    with pytest.raises(Rejected, match=code):
        load(folder, CPU)


def test_sizes_come_back() -> None:
    for sizes in (Sizes.full(), Sizes.tiny(128, identities=5)):
        assert Sizes.from_json(json.loads(json.dumps(sizes.to_json()))) == sizes


def test_seeded_is_its_seed(tmp_path: Path, tiny_bundle: Bundle) -> None:
    state = torch.random.get_rng_state()
    again = seeded(tmp_path / "again", Sizes.tiny(), seed=1, name="tiny")
    other = seeded(tmp_path / "other", Sizes.tiny(), seed=2, name="tiny")
    assert again == tiny_bundle.manifest
    assert other.files != again.files
    assert not again.trained
    assert torch.equal(torch.random.get_rng_state(), state)


def test_seeded_pictures_follow_every_code(tiny_bundle: Bundle) -> None:
    torch.manual_seed(0)
    sizes = tiny_bundle.sizes
    pictures = torch.nn.functional.interpolate(torch.randn(6, 3, 5, 5), size=(64, 64), mode="bilinear").tanh()
    with torch.inference_mode():
        appearance, app_map = tiny_bundle.appearance(pictures)
        codes = tiny_bundle.motion(pictures)
        lip = tiny_bundle.audio(torch.rand(6, 1, 80, 20))[1]
        style_BD = style(appearance, lip, codes.expression, codes.eye, codes.pose)
        image = tiny_bundle.generator(style_BD, app_map)
        assert 0.1 < image.std() < 0.8
        assert (image.abs() > 0.98).float().mean() < 0.1
        for name, part in style_parts(sizes).items():
            swapped = style_BD.clone()
            swapped[:, part] = swapped[:, part].roll(1, dims=0)
            assert (tiny_bundle.generator(swapped, app_map) - image).abs().mean() > 0.04, name
        assert (tiny_bundle.generator(style_BD, app_map.roll(1, dims=0)) - image).abs().mean() > 0.04


def _replace(folder: Path, file: str, content: bytes) -> None:
    """Swap a file, with the hash that makes the manifest agree."""
    (folder / file).write_bytes(content)
    data = json.loads((folder / MANIFEST).read_bytes())
    data["files"][file] = hashlib.sha256(content).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(data))
