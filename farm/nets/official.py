"""Import of the authors' published inference weights: four .pth files -> a bundle (PDFGC.md, section 2).

The networks' attribute names are the official keys; only the generator's convolution weights lose a leading axis of 1.
Weights that inference never uses (the mapping network, the replaced constant input, heads of other tasks) are not kept.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor

from farm.errors import Rejected
from farm.nets import bundle
from farm.nets.manifest import OFFICIAL_GAINS, Manifest
from farm.nets.networks import build_empty, check, fill
from farm.nets.sizes import Sizes

FILES: Final[Mapping[str, str]] = MappingProxyType(
    {name: f"{name}_model.pth" for name in ("appearance", "motion", "audio", "generator")}
)
IDENTITIES: Final = 5995
LICENCE: Final = (
    "the authors' readme (github.com/Dorniwang/PD-FGC-inference) puts the software under CC-BY-4.0 and is silent on "
    "the weights, which were trained on VoxCeleb2: ask the authors before commercial use"
)
WRAPPERS: Final = ("state_dict", "model_state_dict", "params", "g_ema", "net", "model")


def import_official(
    source: Path, dest: Path, *, name: str = "official", licence: str = LICENCE, identities: bool = False
) -> Manifest:
    """Read the four files in `source`, write a bundle to `dest`.

    identities: keep the appearance network's identity head. Raises Rejected: weights_file_missing, weights_unreadable,
    weights_key_missing, weights_shape_wrong, weights_not_finite (each naming the file and the key), bundle_exists.
    """
    sizes = Sizes.full(identities=IDENTITIES if identities else 0)
    for file in FILES.values():
        if not (source / file).is_file():
            raise Rejected("weights_file_missing", f"{file} is not in {source}")
    networks = build_empty(sizes)
    origins = []
    for network_name, network in networks.named().items():
        file = FILES[network_name]
        weights = read(source / file)
        if network_name == "generator":
            _check_dead_weights(file, weights, sizes)
        fill(network, _wanted(file, weights, network.state_dict()), file)
        origins.append(f"{file} sha256:{_sha256(source / file)}")
    manifest = Manifest(
        name=name,
        sizes=sizes,
        licence=licence,
        trained=True,
        created_by="official import",
        source="; ".join(origins),
        gains=dict(OFFICIAL_GAINS),
    )
    return bundle.save(dest, manifest, networks)


def read(path: Path) -> Mapping[str, Tensor]:
    """The flat state dict of a .pth file, out of its wrapper if it has one. Never runs code from the file."""
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise Rejected("weights_unreadable", f"{path.name}: {reason}") from error
    weights = _unwrapped(data)
    if not weights:
        raise Rejected("weights_unreadable", f"{path.name} holds no weights")
    prefix = "module."  # what DistributedDataParallel puts before every key
    if all(key.startswith(prefix) for key in weights):
        weights = {key.removeprefix(prefix): tensor for key, tensor in weights.items()}
    return weights


def _unwrapped(data: object) -> Mapping[str, Tensor]:
    if not isinstance(data, Mapping):
        return {}
    tensors = {str(key): value for key, value in data.items() if isinstance(value, Tensor)}
    if tensors:
        return tensors
    inside = [data[key] for key in WRAPPERS if isinstance(data.get(key), Mapping)]
    inside += [value for value in data.values() if isinstance(value, Mapping)]
    return next((found for value in inside if (found := _unwrapped(value))), {})


def _wanted(file: str, weights: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights that our network keeps, shapes checked as the file has them."""
    taken: dict[str, Tensor] = {}
    for key, empty in ours.items():
        if key not in weights:
            if key.endswith("num_batches_tracked"):
                taken[key] = torch.zeros((), dtype=torch.int64)
                continue
            raise Rejected("weights_key_missing", f"{file}: {key} is missing")
        tensor = weights[key]
        styled = key.endswith(".conv.weight") and empty.dim() == 4
        check(file, key, tensor, (1, *empty.shape) if styled else tuple(empty.shape))
        taken[key] = tensor[0] if styled else tensor
    return taken


def _check_dead_weights(file: str, weights: Mapping[str, Tensor], sizes: Sizes) -> None:
    """The official loader needs these too: a file without them is not the one that it claims to be."""
    shapes: dict[str, tuple[int, ...]] = {"input.input": (1, sizes.map, sizes.map_side, sizes.map_side)}
    for layer in range(1, 9):
        shapes[f"style.{layer}.weight"] = (sizes.style, sizes.style)
        shapes[f"style.{layer}.bias"] = (sizes.style,)
    for key, shape in shapes.items():
        if key not in weights:
            raise Rejected("weights_key_missing", f"{file}: {key} is missing")
        check(file, key, weights[key], shape)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
