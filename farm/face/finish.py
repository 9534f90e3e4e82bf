"""A generated face made as sharp and as grainy as the picture that it goes into; bounded, and steady over time.

Both are measured in each frame alone, over thousands of samples, so that they neither depend on how a job is cut into
chunks nor flicker. Suffixes as in farm.face.planes; S the generated square, g a grid over it.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F

MOST_SHARPENED = 1.4
"""How much detail may be amplified: what the generator does not know cannot be made."""
_ROOM = 0.02  # by which sharpening may pass the brightest and the darkest neighbour: no ringing
_PLAIN = 0.004  # detail below this is noise

LEAST_GRAIN, MOST_GRAIN = 0.45, 6.0
"""Deviation of the grain, 8-bit codes: below the least, which rounding alone comes near, none is laid on."""
_TILE = 512
_BLOCK = 8
_QUIET = 0.3  # the share of blocks taken for plain surface; their energy is about 0.9 of the noise's mean
_QUIET_SHARE = 0.9


def sharpened(generated_B3SS: torch.Tensor, source_B3gg: torch.Tensor, inside_B1gg: torch.Tensor) -> torch.Tensor:
    """The generated square with its finest detail amplified towards the energy of the source's, where it has less.

    source: the same square of the frame, on a grid g about twice as fine as small generators make; the two are compared
    inside of the mask.
    """
    grid, size = source_B3gg.shape[-1], generated_B3SS.shape[-1]
    seen = _resized(generated_B3SS, grid)
    detail, wanted = (x - F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) for x in (seen, source_B3gg))
    has, should = (_energy(x, inside_B1gg) for x in (detail, wanted))
    gain = (should / has).sqrt().clamp(1, MOST_SHARPENED)
    if size < grid:  # its own finest octave, which the grid shows spread out
        detail = generated_B3SS - F.avg_pool2d(generated_B3SS, 3, 1, 1, count_include_pad=False)
    more = _resized(detail, size)
    high = F.max_pool2d(generated_B3SS, 3, 1, 1) + _ROOM
    low = -F.max_pool2d(-generated_B3SS, 3, 1, 1) - _ROOM
    return (generated_B3SS + (gain - 1) * more).clamp(low, high)


def _energy(detail_B3gg: torch.Tensor, inside_B1gg: torch.Tensor) -> torch.Tensor:
    """(B, 1, 1, 1) beyond what plain surface has too: that is grain, no sharpness."""
    energy = (detail_B3gg * detail_B3gg).mean(1, keepdim=True)
    blocks, held = (F.avg_pool2d(x, _BLOCK).flatten(1) for x in (energy, inside_B1gg))
    in_order = torch.where(held > 0.5, blocks, torch.inf).sort(1).values
    rank = (_QUIET * (held > 0.5).sum(1, keepdim=True)).long()
    quiet = in_order.gather(1, rank).view(-1, 1, 1, 1)
    whole = mean(energy * inside_B1gg) / mean(inside_B1gg).clamp(min=1e-6)
    return (whole - quiet).clamp(min=0) + _PLAIN**2


def _resized(x_B3hh: torch.Tensor, size: int) -> torch.Tensor:
    if x_B3hh.shape[-1] > size:
        return F.adaptive_avg_pool2d(x_B3hh, size)
    if x_B3hh.shape[-1] < size:
        return F.interpolate(x_B3hh, size=(size, size), mode="bilinear", align_corners=False)
    return x_B3hh


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
