"""A bundle made ready to render with on one device: what workers keep in memory.

The generator's weights become a `Synthesis`, the encoders' are folded and packed, what only training needs is dropped.
B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from farm.domain.factor import Factor
from farm.nets.appearance import AppearanceEncoder
from farm.nets.bundle import Bundle
from farm.nets.encoders import ReadyAudio, ReadyMotion
from farm.nets.graphs import Graphed
from farm.nets.manifest import Manifest
from farm.nets.motion import MotionCodes
from farm.nets.sizes import Sizes
from farm.nets.synthesis import Synthesis

TOLERANCE: Final = 1e-4
"""Float32 on a CPU: how far a picture in [-1, 1] may move with the batch size or the number of threads, where the
deterministic mode is off. A step of 8 bits is 0.0078."""


@dataclass(frozen=True)
class Ready:
    """dtype: what the encoders compute in, and their inputs must have; the generator's is its own.

    motion: pictures (B, 3, S, S) -> MotionCodes. audio: mel windows (B, 1, 80, 20) -> feature, lip.
    """

    manifest: Manifest
    sha256: str
    device: torch.device
    dtype: torch.dtype
    appearance: AppearanceEncoder
    motion: Callable[[Tensor], MotionCodes]
    audio: Callable[[Tensor], tuple[Tensor, Tensor]]
    generator: Synthesis
    weight_bytes: int

    @property
    def sizes(self) -> Sizes:
        return self.manifest.sizes

    @property
    def gains(self) -> Mapping[Factor, float]:
        return self.manifest.gains


def ready(loaded: Bundle, dtype: torch.dtype = torch.float32, *, deterministic: bool = False) -> Ready:
    """loaded is used up: its networks are changed. Load it in float32, on the device. dtype: of the generator, and on a
    GPU of the encoders: on a CPU they are a sixth of the work, and codes keep their precision.

    deterministic: every frame goes through the networks alone, so that its bits are the same in batches of any size,
    for the same dtype, device and number of threads.
    """
    networks = loaded.networks
    networks.appearance.fc = None
    generator = Synthesis(networks.generator, dtype, loaded.sizes.appearance, deterministic=deterministic)
    dtype = dtype if loaded.device.type == "cuda" else torch.float32
    networks.appearance.to(dtype=dtype)
    motion = ReadyMotion(networks.motion, loaded.sizes, dtype, deterministic=deterministic)
    audio = ReadyAudio(networks.audio, dtype, deterministic=deterministic)
    weight_bytes = sum(p.numel() * p.element_size() for p in networks.appearance.parameters())
    return Ready(
        loaded.manifest,
        loaded.sha256,
        loaded.device,
        dtype,
        networks.appearance,
        in_pieces(Graphed(motion), motion.together),
        in_pieces(Graphed(audio), audio.together),
        generator,
        weight_bytes + motion.weight_bytes + audio.weight_bytes + generator.weight_bytes,
    )


def in_pieces(network: Callable[[Tensor], Any], most: int | None) -> Callable[[Tensor], Any]:
    """The network, given so many items of the batch at a time; None for all. It returns a tuple or a NamedTuple of
    tensors."""

    def run(x: Tensor) -> Any:
        if most is None or len(x) <= most:
            return network(x)
        results = [network(piece) for piece in x.split(most)]
        columns = [torch.cat(column) for column in zip(*results, strict=True)]
        return type(results[0])(*columns) if hasattr(results[0], "_fields") else tuple(columns)

    return run
