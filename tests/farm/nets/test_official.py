"""The importer takes what the official loaders take, and names what it refuses."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from farm.errors import Rejected
from farm.nets.generator import binomial
from farm.nets.networks import build_empty
from farm.nets.official import FILES, IDENTITIES, import_official, read
from farm.nets.sizes import Sizes

Shapes = Mapping[str, tuple[int, ...]]


def blank(shapes: Shapes) -> dict[str, Tensor]:
    """Zeros that take no room: every element of a tensor is the same one."""
    return {k: binomial() if k.endswith(".kernel") else torch.zeros(()).expand(s) for k, s in shapes.items()}


@pytest.fixture
def source(official_shapes: Mapping[str, Shapes], tmp_path: Path) -> Path:
    for name, shapes in official_shapes.items():
        torch.save(blank(shapes), tmp_path / FILES[name])
    return tmp_path


def test_every_key_that_we_keep_is_official(official_shapes: Mapping[str, Shapes]) -> None:
    """And what we leave is just what inference never computes."""
    left = {}
    for name, network in build_empty(Sizes.full(identities=IDENTITIES)).named().items():
        ours = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        official = {
            k: s[1:] if k.endswith(".conv.weight") and len(s) == 5 else s for k, s in official_shapes[name].items()
        }
        assert ours.items() <= official.items()
        left[name] = official.keys() - ours.keys()
    style = {f"style.{layer}.{part}" for layer in range(1, 9) for part in ("weight", "bias")}
    assert left == {
        "appearance": {"model.fc.weight", "model.fc.bias"},
        "motion": set(),
        "audio": set(),
        "generator": {*style, "input.input"},
    }


@pytest.mark.parametrize(
    ("network", "key"),
    [
        ("appearance", "model.layer3.4.conv2.weight"),
        ("motion", "model.m0.b2_plus_1.bn1.running_var"),
        ("audio", "model.layer2.0.se.fc.2.bias"),
        ("generator", "convs.6.conv.blur.kernel"),
        ("generator", "style.5.bias"),
        ("generator", "noises.noise_10"),
    ],
)
def test_missing_key_is_named(source: Path, network: str, key: str) -> None:
    path = source / FILES[network]
    torch.save({k: v for k, v in read(path).items() if k != key}, path)
    _refused(source, "weights_key_missing", FILES[network], key)


@pytest.mark.parametrize(
    ("network", "key", "shape"),
    [
        ("appearance", "conv1x1.weight", (512, 2048)),
        ("motion", "headpose_embed.1.weight", (7, 512)),
        ("audio", "mouth_embed.1.bias", (512,)),
        ("generator", "convs.6.conv.weight", (512, 512, 3, 3)),
        ("generator", "input.input", (1, 512, 4, 4)),
    ],
)
def test_wrong_shape_is_named(source: Path, network: str, key: str, shape: tuple[int, ...]) -> None:
    path = source / FILES[network]
    torch.save({**read(path), key: torch.zeros(shape)}, path)
    _refused(source, "weights_shape_wrong", FILES[network], key, str(shape))


def test_numbers_must_be_finite(source: Path) -> None:
    path = source / FILES["motion"]
    torch.save({**read(path), "model.fc.bias": torch.full((512,), torch.nan)}, path)
    _refused(source, "weights_not_finite", FILES["motion"], "model.fc.bias")


def test_missing_file_is_named(source: Path) -> None:
    (source / "audio_model.pth").unlink()
    _refused(source, "weights_file_missing", "audio_model.pth")


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "anything"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrapped_state_dicts_are_unwrapped(tmp_path: Path, wrapper: str, prefix: str) -> None:
    weights = {"conv1x1.bias": torch.arange(3.0), "fc.bias": torch.ones(2)}
    prefixed = {prefix + key: tensor for key, tensor in weights.items()}
    torch.save({"epoch": 4, wrapper: prefixed, "loss": {"last": 0.5}}, tmp_path / "a.pth")
    found = read(tmp_path / "a.pth")
    assert found.keys() == weights.keys()
    assert torch.equal(found["conv1x1.bias"], weights["conv1x1.bias"])


def test_extra_keys_are_ignored(source: Path) -> None:
    """All official loaders skip keys they do not know; only the last file is made to fail here."""
    for network, extra in (
        ("audio", "model.layer4_exp.0.conv1.weight"),
        ("motion", "classifier.weight"),
        ("generator", "ema"),
    ):
        path = source / FILES[network]
        torch.save({**read(path), extra: torch.zeros(3)}, path)
    path = source / FILES["generator"]
    torch.save({k: v for k, v in read(path).items() if k != "conv1.noise.weight"}, path)
    _refused(source, "weights_key_missing", FILES["generator"], "conv1.noise.weight")


def test_code_in_a_file_is_not_run(source: Path) -> None:
    """weights_only: a pickled object of any class is refused."""
    torch.save(nn.Linear(2, 2), source / FILES["appearance"])
    _refused(source, "weights_unreadable", FILES["appearance"])


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps({"a": 1}, protocol=2)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(Rejected) as caught:
        read(tmp_path / "a.pth")
    assert caught.value.code == "weights_unreadable"
    assert "a.pth" in caught.value.detail


def _refused(source: Path, code: str, *named: str) -> None:
    with pytest.raises(Rejected) as caught:
        import_official(source, source / "bundle")
    assert caught.value.code == code
    assert all(text in caught.value.detail for text in named), caught.value.detail
    assert not (source / "bundle").exists()
