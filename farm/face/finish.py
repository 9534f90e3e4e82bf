"""A generated face made as sharp and as grainy as the picture that it goes into; bounded, and steady over time.

Both are measured in each frame alone, over thousands of samples, so that they neither depend on how a job is cut into
chunks nor flicker. Suffixes as in farm.face.planes; S the generated square, c cells of a coarse grid over it.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F

MOST_SHARPENED = 1.6
"""How much detail may be amplified: what the generator does not know cannot be made."""
_ROOM = 0.02  # by which sharpening may pass the brightest and the darkest neighbour: no ringing
_PLAIN = 0.004  # detail below this is noise

LEAST_GRAIN, MOST_GRAIN = 0.3, 6.0
"""Deviation of the grain, 8-bit codes: below it none is laid on."""
_TILE = 512
_BLOCK = 8
_QUIET = 0.3  # the share of blocks taken for plain surface; their energy is about 0.9 of the noise's mean
_QUIET_SHARE = 0.9


def sharpened(
    generated_B3SS: torch.Tensor, rough_B3cc: torch.Tensor, source_B3cc: torch.Tensor, inside_B1cc: torch.Tensor
) -> torch.Tensor:
    """The generated square with its fine detail amplified to the energy of the source's, where it has less.

    rough, source: both pictures on the coarse grid, whose finest octave is compared inside of the mask.
    """
    detail, wanted = (x - F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) for x in (rough_B3cc, source_B3cc))
    weight = mean(inside_B1cc).clamp(min=1e-6)
    has, should = (mean((x * x).mean(1, keepdim=True) * inside_B1cc) / weight + _PLAIN**2 for x in (detail, wanted))
    gain = (should / has).sqrt().clamp(1, MOST_SHARPENED)
    size = generated_B3SS.shape[-1]
    more = F.interpolate(detail, size=(size, size), mode="bilinear", align_corners=False)
    high = F.max_pool2d(generated_B3SS, 3, 1, 1) + _ROOM
    low = -F.max_pool2d(-generated_B3SS, 3, 1, 1) - _ROOM
    return (generated_B3SS + (gain - 1) * more).clamp(low, high)


def mean(values_BChw: torch.Tensor) -> torch.Tensor:
    """Mean over the grid by pairs: a plain sum's order of adding, and so its rounding, may depend on the batch."""
    while values_BChw.shape[-1] > 1:
        values_BChw = F.avg_pool2d(values_BChw, 2, ceil_mode=True, count_include_pad=False)
    return values_BChw


def grain(luma_hw: torch.Tensor, bit_depth: int) -> float:
    """Deviation of the noise of a part of a picture, in its codes; 0.0 where there is none to speak of.

    From mixed second differences, which straight edges and gradients leave no trace in, of the quieter blocks.
    """
    unit = 2.0 ** (bit_depth - 8)
    if min(luma_hw.shape) < 2 * _BLOCK + 1:
        return 0.0
    luma = luma_hw.to(torch.int16)
    across = luma[:, 1:] - luma[:, :-1]
    mixed = (across[1:] - across[:-1]).float()
    energy = F.avg_pool2d((mixed * mixed)[None], _BLOCK).flatten()
    quiet = energy.kthvalue(max(1, int(_QUIET * len(energy)))).values
    deviation = float((quiet / (4 * _QUIET_SHARE)).sqrt())
    return min(deviation, MOST_GRAIN * unit) if deviation >= LEAST_GRAIN * unit else 0.0


def noise(number: int, top: int, left: int, rows: int, columns: int, device: torch.device) -> torch.Tensor:
    """(rows, columns) of unit deviation: a part of frame `number`'s own field, wherever it is cut."""
    tile = _tile(str(device))
    down, right = ((number + 1) * 2654435761 >> shift & (_TILE - 1) for shift in (7, 19))
    row = (torch.arange(top + down, top + down + rows, device=device)) & (_TILE - 1)
    column = (torch.arange(left + right, left + right + columns, device=device)) & (_TILE - 1)
    return tile.index_select(0, row).index_select(1, column)


@cache
def _tile(device: str) -> torch.Tensor:
    dice = torch.Generator().manual_seed(20)
    return torch.randn(_TILE, _TILE, generator=dice).clamp(-3, 3).to(device)
