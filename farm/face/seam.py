"""How visible the border of a pasted face is, as a number."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from farm.face.planes import PlanesBatch


def border_error(source: PlanesBatch, pasted: PlanesBatch, mask_BHW: torch.Tensor) -> torch.Tensor:
    """Mean absolute luma step across the mask's border beyond the source's own, per frame (B), in 8-bit codes.

    At each border sample the step is the mean luma of the near inside (weighted by the mask) less that of the near
    outside; near means within the border's own width w = (area with 0 < mask < 1) / (length of the border), the length
    being the sum of the mask's gradient. The score is the mean over the border of |step after - step before|: 0 for an
    untouched frame, d for a hard-edged patch that is d codes too bright.
    """
    unit = 2.0 ** (source.picture.bit_depth - 8)
    out = []
    for before, after, mask in zip(source.y_BHW, pasted.y_BHW, mask_BHW, strict=True):
        rows, columns = (torch.nonzero(mask.amax(dim) > 0).flatten() for dim in (1, 0))
        if len(rows) == 0:
            out.append(mask.new_zeros(()))
            continue
        border = (mask > 0) & (mask < 1)
        length = (mask.diff(dim=0)[:, :-1] ** 2 + mask.diff(dim=1)[:-1] ** 2).sqrt().sum()
        width = max(1, round(float(border.sum() / length)))
        part = (
            slice(max(0, int(rows[0]) - width), int(rows[-1]) + width + 1),
            slice(max(0, int(columns[0]) - width), int(columns[-1]) + width + 1),
        )
        change = (after[part].float() - before[part].float()) / unit
        inside = mask[part]
        step = _mean_near(change, inside, width) - _mean_near(change, 1 - inside, width)
        middle = (inside > 0.25) & (inside < 0.75)
        middle = middle if bool(middle.any()) else inside >= 0.5
        out.append(step[middle].abs().mean())
    return torch.stack(out)


def _mean_near(values_HW: torch.Tensor, weights_HW: torch.Tensor, reach: int) -> torch.Tensor:
    # Sums of running sums: a window costs the same however wide it is.
    sums = torch.stack([values_HW * weights_HW, weights_HW]).double()
    for dim in (1, 2):
        size = sums.shape[dim]
        running = F.pad(sums.cumsum(dim), (1, 0) if dim == 2 else (0, 0, 1, 0))
        at = torch.arange(size, device=sums.device)
        last, first = (at + reach + 1).clamp(max=size), (at - reach).clamp(min=0)
        sums = running.index_select(dim, last) - running.index_select(dim, first)
    # What is left of sums of nothing is rounding.
    return torch.where(sums[1] > 1e-6, sums[0] / sums[1].clamp(min=1e-6), 0.0)
