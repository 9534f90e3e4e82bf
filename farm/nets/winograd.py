"""3x3 convolution with a quarter of the multiplications: Winograd's F(4x4, 3x3) (Lavin & Gray 2016, section 4.2).

A 6x6 patch of the input gives a 4x4 tile of the output: both are transformed, and between them stand 36 products
where the direct way has 144. The products of all tiles and channels are 36 plain matrix products. In float32 on a CPU;
the transforms lose too much in bfloat16, and GPUs have libraries that choose for themselves.
H, W sides, C/O channels in and out, T tiles of a block, R its rows of tiles, Q tiles a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from farm.nets.packed import is_packable

TILE: Final = 4
PATCH: Final = 6
BLOCK_TILES: Final = 400
"""Tiles worked on at a time: enough for full-speed matrix products, few enough for the caches."""
LEAST_CHANNELS: Final = 64
LEAST_SIDE: Final = 28
"""Below these the transforms cost more than the multiplications they save."""

# Interpolation at 0, 1, -1, 2, -2 and infinity.
_INPUT: Final = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL: Final = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT: Final = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


class Workspace:
    """Memory that layers use in turn: one thread's, and overwritten by the next layer."""

    def __init__(self) -> None:
        self._flat: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Uninitialised float32, the same memory at every call with this name."""
        wanted = 1
        for length in shape:
            wanted *= length
        if name not in self._flat or self._flat[name].numel() < wanted:
            self._flat[name] = torch.empty(wanted)
        return self._flat[name][:wanted].view(shape)


class WinogradConv:
    """conv2d with padding 1 of one picture of side x side pixels, a multiple of 4. No gradients.

    conv.inside_HWC.copy_(x_HWC)
    for rows, tiles in conv.blocks():
        y_HWO.view(side // 4, 4, side // 4, 4, -1)[rows] = tiles
    """

    def __init__(self, weight_OC33: Tensor, side: int, workspace: Workspace) -> None:
        if side % TILE:
            raise ValueError(f"{side} is not a multiple of {TILE}")
        out, channels = weight_OC33.shape[:2]
        kernel = torch.tensor(_KERNEL, dtype=torch.float64)
        products = torch.einsum("ai,bj,ocij->abco", kernel, kernel, weight_OC33.double())
        self._weight_36CO = products.reshape(PATCH * PATCH, channels, out).float().contiguous()
        self._input_6x6 = _kron(_INPUT)
        self._output_6x6 = _kron(_OUTPUT)
        self._workspace = workspace
        self._count = side // TILE
        self._padded = torch.zeros(side + 2, side + 2, channels)
        self.inside_HWC = self._padded[1:-1, 1:-1]
        """Where the input goes; the zeros around it stay."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self._weight_36CO, self._padded

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """(rows of tiles, their output (R, 4, Q, 4, O)), all rows once; valid until the next one is asked for."""
        patch, count, take = PATCH * PATCH, self._count, self._workspace.take
        _, channels, out = self._weight_36CO.shape
        row, pixel, _ = self._padded.stride()
        step = max(1, BLOCK_TILES // count)
        for start in range(0, count, step):
            rows = slice(start, min(start + step, count))
            high = rows.stop - rows.start
            tiles = high * count
            patches = take("patches", PATCH, PATCH, high, count, channels)
            patches.copy_(
                self._padded.as_strided(
                    (PATCH, PATCH, high, count, channels),
                    (row, pixel, TILE * row, TILE * pixel, 1),
                    TILE * start * row,
                )
            )
            seen = take("seen", patch, tiles, channels)
            torch.mm(self._input_6x6, patches.view(patch, -1), out=seen.view(patch, -1))
            made = take("made", patch, tiles, out)
            torch.bmm(seen, self._weight_36CO, out=made)
            # The patches are used up: their memory takes the output.
            tiled = take("patches", TILE * TILE, tiles * out)
            torch.mm(self._output_6x6, made.view(patch, -1), out=tiled)
            yield rows, tiled.view(TILE, TILE, high, count, out).permute(2, 0, 3, 1, 4)


def goes_by_winograd(weight_OCkk: Tensor, side: int) -> bool:
    """Whether this convolution of one picture is faster by Winograd than oneDNN's direct one. side: of the picture."""
    return (
        weight_OCkk.dtype is torch.float32
        and weight_OCkk.shape[-1] == 3
        and is_packable(weight_OCkk)
        and side % TILE == 0
        and side >= LEAST_SIDE
        and min(weight_OCkk.shape[:2]) >= LEAST_CHANNELS
    )


def _kron(rows: tuple[tuple[float, ...], ...]) -> Tensor:
    """The transform of both directions at once, on a flattened patch."""
    once = torch.tensor(rows, dtype=torch.float32)
    return torch.kron(once, once)
