"""The four inference networks of one size, built together, and filled with checked weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from farm.errors import Rejected
from farm.nets.appearance import AppearanceEncoder
from farm.nets.audio import AudioEncoder
from farm.nets.generator import Generator
from farm.nets.motion import MotionEncoder
from farm.nets.sizes import Sizes


@dataclass(frozen=True)
class Networks:
    sizes: Sizes
    appearance: AppearanceEncoder
    motion: MotionEncoder
    audio: AudioEncoder
    generator: Generator

    def named(self) -> Mapping[str, nn.Module]:
        return {
            "appearance": self.appearance,
            "motion": self.motion,
            "audio": self.audio,
            "generator": self.generator,
        }


def build(sizes: Sizes) -> Networks:
    """Freshly initialised networks, in train mode, drawing on torch's global random state."""
    return Networks(sizes, AppearanceEncoder(sizes), MotionEncoder(sizes), AudioEncoder(sizes), Generator(sizes))


def build_empty(sizes: Sizes) -> Networks:
    """Networks without storage, to be filled: no time is lost on an initialisation that will be overwritten."""
    with torch.device("meta"):
        return build(sizes)


def fill(network: nn.Module, weights: Mapping[str, Tensor], file: str) -> None:
    """Give a network these weights. Raises Rejected, naming the file and the key, if one does not fit."""
    wanted = network.state_dict()
    for key in sorted(wanted.keys() - weights.keys()):
        raise Rejected("weights_key_missing", f"{file}: {key} is missing")
    for key in sorted(weights.keys() - wanted.keys()):
        raise Rejected("weights_key_unknown", f"{file}: {key} belongs to no part of this network")
    for key, tensor in weights.items():
        check(file, key, tensor, tuple(wanted[key].shape))
    network.load_state_dict({key: weights[key].to(wanted[key].dtype) for key in wanted}, assign=True)


def check(file: str, key: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Raises Rejected if a weight has another shape or holds numbers that are not finite."""
    if tuple(tensor.shape) != shape:
        raise Rejected("weights_shape_wrong", f"{file}: {key} has shape {tuple(tensor.shape)}, expected {shape}")
    if not torch.isfinite(tensor).all():
        raise Rejected("weights_not_finite", f"{file}: {key} holds values that are not finite")
