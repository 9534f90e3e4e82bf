"""A generated face made as sharp and as grainy as the picture that it goes into; bounded, and steady over time.

Both are measured in each frame alone, over thousands of samples, so that they neither depend on how a job is cut into
chunks nor flicker. Suffixes as in farm.face.planes; S the generated square, g a grid over it.
"""

from __future__ import annotations

from collections.abc import Callable
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


def sharpened(
    generated_B3SS: torch.Tensor,
    source_B1gg: torch.Tensor,
    inside_B1gg: torch.Tensor,
    luma: tuple[float, float, float],
) -> torch.Tensor:
    """The generated square with its finest detail amplified towards the energy of the source's, where it has less.

    source: luma of the same square of the frame, in [0, 1] as the generated one's, on a grid g about twice as fine as
    small generators make; the two are compared inside of the mask. luma: the shares of R', G', B' in it.
    """
    grid, size = source_B1gg.shape[-1], generated_B3SS.shape[-1]
    red, green, blue = (channel[:, None] * share for channel, share in zip(generated_B3SS.unbind(1), luma, strict=True))
    seen = _resized(red + green + blue, grid)
    has, should = (_energy(x - near_mean(x), inside_B1gg) for x in (seen, source_B1gg))
    gain = (should / has).sqrt().clamp(1, MOST_SHARPENED)
    # Of a small picture its own finest octave, which the grid shows spread out.
    rough = generated_B3SS if size < grid else _resized(generated_B3SS, grid)
    more = _resized(rough - near_mean(rough), size)
    high, low = (_near(generated_B3SS, most) for most in (torch.maximum, torch.minimum))
    return (generated_B3SS + (gain - 1) * more).clamp(low - _ROOM, high + _ROOM)


def near_mean(x_BChw: torch.Tensor) -> torch.Tensor:
    """Mean of the 3 x 3 samples around each that there are: sums of whole lines, several times as fast as pooling."""
    height, width = x_BChw.shape[-2:]
    ones = x_BChw.new_ones(height, width)
    return _near(x_BChw, torch.add) * (1 / _near(ones, torch.add))


def _near(x_hw: torch.Tensor, put_together: Callable[..., torch.Tensor]) -> torch.Tensor:
    """Of the 3 x 3 samples around each: along the rows, then along the columns."""
    for dim in (-1, -2):
        size = x_hw.shape[dim]
        out = x_hw.clone()
        for here, there in ((1, 0), (0, 1)):
            part = out.narrow(dim, here, size - 1)
            put_together(part, x_hw.narrow(dim, there, size - 1), out=part)
        x_hw = out
    return x_hw


def _energy(detail_B1gg: torch.Tensor, inside_B1gg: torch.Tensor) -> torch.Tensor:
    """(B, 1, 1, 1) beyond what plain surface has too: that is grain, no sharpness."""
    energy = detail_B1gg * detail_B1gg
    blocks, held = (F.avg_pool2d(x, _BLOCK).flatten(1) for x in (energy, inside_B1gg))
    in_order = torch.where(held > 0.5, blocks, torch.inf).sort(1).values
    rank = (_QUIET * (held > 0.5).sum(1, keepdim=True)).long()
    quiet = in_order.gather(1, rank).view(-1, 1, 1, 1)
    whole = mean(energy * inside_B1gg) / mean(inside_B1gg).clamp(min=1e-6)
    return (whole - quiet).clamp(min=0) + _PLAIN**2


def _resized(x_BChh: torch.Tensor, size: int) -> torch.Tensor:
    if x_BChh.shape[-1] > size:
        return F.adaptive_avg_pool2d(x_BChh, size)
    if x_BChh.shape[-1] < size:
        return F.interpolate(x_BChh, size=(size, size), mode="bilinear", align_corners=False)
    return x_BChh


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
