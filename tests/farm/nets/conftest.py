"""Official weight files, made up: the real keys and shapes, numbers by PDFGC.md's recipe (its parity fixture)."""

from __future__ import annotations

import ast
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from farm.nets.bundle import Bundle, load, manifest_sha256, seeded
from farm.nets.generator import binomial
from farm.nets.official import FILES, import_official
from farm.nets.sizes import Sizes

FIXTURES = Path(__file__).parents[2] / "fixtures" / "pdfgc"
Shapes = Mapping[str, tuple[int, ...]]


@pytest.fixture(scope="session")
def official_shapes() -> Mapping[str, Shapes]:
    """network -> key -> shape, as the authors' files have them."""
    return {name: _shapes(name) for name in FILES}


@pytest.fixture(scope="session")
def official_bundle(official_shapes: Mapping[str, Shapes], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Full size, imported from four written .pth files."""
    source, dest = tmp_path_factory.mktemp("official"), tmp_path_factory.mktemp("imported") / "bundle"
    for name, shapes in official_shapes.items():
        torch.save({key: _recipe(key, shape) for key, shape in shapes.items()}, source / FILES[name])
    import_official(source, dest, identities=True)
    bundle = load(dest, torch.device("cpu"), manifest_sha256(dest))
    for file in (*source.iterdir(), *dest.iterdir()):
        file.unlink()  # 900 MB
    return bundle


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "bundle"
    seeded(folder, Sizes.tiny(), seed=1, name="tiny")
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tiny_folder: Path) -> Bundle:
    return load(tiny_folder, torch.device("cpu"))


def _shapes(name: str) -> Shapes:
    lines = (FIXTURES / f"keys_{name}.txt").read_text().splitlines()
    return {key: ast.literal_eval(shape) for key, shape, _ in (line.split("\t") for line in lines)}


def _recipe(key: str, shape: tuple[int, ...]) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    if key.endswith(".kernel"):
        return binomial()
    z = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
    return torch.from_numpy(np.asarray(_scaled(key, z), np.float32))


def _scaled(key: str, z: np.ndarray) -> np.ndarray:
    if key.endswith("running_mean"):
        return 0.1 * z
    if key.endswith("running_var"):
        return 0.5 + np.abs(z)
    if key.startswith("noises."):
        return z
    if key.endswith("noise.weight"):
        return 0.1 * z
    if key.endswith("modulation.bias"):
        return 1 + 0.1 * z
    if key.endswith("bias"):
        return 0.1 * z
    if z.ndim == 1:
        return 1 + 0.1 * z
    if key.startswith("style."):
        return z / np.float32(0.01)
    if key.endswith("modulation.weight") or key == "input.input" or (z.ndim == 5 and key.endswith("conv.weight")):
        return z
    return z / np.sqrt(np.float32(z[0].size))
