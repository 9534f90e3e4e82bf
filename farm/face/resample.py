"""The one sampler: planes through affine transforms, bicubic, anti-aliased when shrinking, every frame on its own.

A frame's result is the same to the last bit whatever else is in the batch and however it was grouped: positions and
weights are computed from absolute coordinates in float64, sums run in one fixed order, and no operation is used whose
rounding could depend on a tensor's shape (no matrix product, no convolution, no fused multiply-add).

Anti-aliasing: with s source samples to one output sample, the source is smoothed to the variance v (s^2 - 1): first by
whole cells of floor(s / 2) samples, then by a Gaussian for what is left. Total smoothing varies continuously with s, so
that a face that slowly comes nearer never jumps in sharpness. Interpolation is linear where its own smoothing (of
variance 1/6) has room in that, and takes so much less of a Gaussian; else cubic, which smooths nothing.

What only networks look at, to find faces and points, is sampled quickly: means of whole cells of floor(s / 1.25)
samples, and linear interpolation between them. Gradients flow through either way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from farm.face.planes import PlanesBatch, chroma_from_luma, rgb_from_codes

CAMERA = 0.2
"""v for pictures full of detail: 0.37 is passed at the output's Nyquist frequency."""
GENERATED = 0.06
"""v for pictures that hold little detail at their own Nyquist frequency: 0.74 is passed."""


def invert(transform_B23: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of affine transforms (..., 2, 3)."""
    linear = np.linalg.inv(transform_B23[..., :2]).astype(np.float64)
    return np.concatenate([linear, -linear @ transform_B23[..., 2:]], -1)


def chain(last_B23: NDArray[np.float64], first_B23: NDArray[np.float64]) -> NDArray[np.float64]:
    """The transform that applies `first`, then `last`; both broadcast."""
    linear = last_B23[..., :2] @ first_B23[..., :2]
    shift = last_B23[..., :2] @ first_B23[..., 2:] + last_B23[..., 2:]
    return np.concatenate([linear, shift], -1)


def apply(transform_B23: NDArray[np.float64], points_BK2: NDArray[np.float64]) -> NDArray[np.float64]:
    return points_BK2 @ transform_B23[..., :2].swapaxes(-1, -2) + transform_B23[..., None, :, 2]


def sample(
    planes: PlanesBatch,
    out_from_frame_B23: NDArray[np.float64],
    height: int,
    width: int,
    *,
    clamp: bool = True,
    variance: float = CAMERA,
    quick: bool = False,
) -> torch.Tensor:
    """R'G'B' of any patch of the frames: (B, 3, height, width) float32 in [0, 1] (beyond too when not clamped).

    out_from_frame: output pixel of a frame position, both with (0, 0) the centre of the first sample. Luma is sampled
    from the luma plane and chroma from the chroma planes, directly. Beyond the picture its edge samples repeat.
    """
    frame_from_out = invert(out_from_frame_B23)
    chroma_from_out = chain(chroma_from_luma(planes.picture), frame_from_out)
    y = warp((planes.y_BHW,), frame_from_out, height, width, variance=variance, quick=quick)
    uv = warp((planes.u_Bhw, planes.v_Bhw), chroma_from_out, height, width, variance=variance, quick=quick)
    out = rgb_from_codes(y[:, 0], uv[:, 0], uv[:, 1], planes.picture)
    return out.clamp(0, 1) if clamp else out


_LINEAR = 1 / 6
"""Variance of linear interpolation, in cells."""
_ROOM = 0.9 * _LINEAR


@dataclass(frozen=True)
class _Group:
    """Frames that are sampled together: same cell size (columns, rows), same interpolation, one common window of
    cells. gaussian_G2: variance of the smoothing of cells, along x and y."""

    frames: list[int]
    cell: tuple[int, int]
    is_linear: bool
    gaussian_G2: NDArray[np.float64]


def warp(
    sources: tuple[torch.Tensor, ...],
    source_from_out_B23: NDArray[np.float64],
    height: int,
    width: int,
    *,
    left: int = 0,
    top: int = 0,
    variance: float = CAMERA,
    quick: bool = False,
) -> torch.Tensor:
    """Samples C sources of one grid, (B, H, W) each, integer or float, at the pixels of an output window.

    Output pixel (row i, column j) lies at out coordinates (left + j, top + i). Returns (B, C, height, width) float32.
    Beyond a source its edge samples (or, where it is quick, cells) repeat.
    """
    steps_B2 = steps(source_from_out_B23)
    out = torch.empty((len(steps_B2), len(sources), height, width), dtype=torch.float32, device=sources[0].device)
    for group in _groups(steps_B2, variance, quick, together=sources[0].device.type != "cpu"):
        transform = source_from_out_B23[group.frames]
        done = _warp_group(sources, group, transform, (height, width, left, top), quick)
        if len(group.frames) == len(out):
            return done
        out[group.frames] = done
    return out


def _groups(steps_B2: NDArray[np.float64], variance: float, quick: bool, *, together: bool) -> list[_Group]:
    """On a CPU each frame alone reads the fewest samples; a GPU wants few, large launches."""
    cells_B2 = np.maximum(1, np.floor(steps_B2 / (1.25 if quick else 2) + 1e-9))
    # What the cells do not do of the smoothing, counted in cells.
    left_over = (variance * np.maximum(0.0, steps_B2**2 - 1) - (cells_B2**2 - 1) / 12) / cells_B2**2
    linear_B: NDArray[np.bool_] = np.logical_or((left_over >= _ROOM).all(1), quick)
    gaussian = np.maximum(0.0, left_over - _LINEAR * linear_B[:, None]) * (not quick)
    members: dict[tuple[int, int, bool, int], list[int]] = {}
    for i, (columns, rows) in enumerate(cells_B2.astype(int).tolist()):
        members.setdefault((columns, rows, bool(linear_B[i]), 0 if together else i), []).append(i)
    return [_Group(its, (key[0], key[1]), key[2], gaussian[its]) for key, its in members.items()]


def _warp_group(
    sources: tuple[torch.Tensor, ...],
    group: _Group,
    source_from_out_G23: NDArray[np.float64],
    window: tuple[int, int, int, int],
    quick: bool,
) -> torch.Tensor:
    height, width, left, top = window
    cell = np.array(group.cell, dtype=np.float64)
    # Cell c covers samples [c k, c k + k), its centre is at c k + (k - 1) / 2.
    to_cells = np.array([[1 / cell[0], 0, (1 - cell[0]) / 2 / cell[0]], [0, 1 / cell[1], (1 - cell[1]) / 2 / cell[1]]])
    transform = chain(to_cells, source_from_out_G23)
    taps_x, taps_y = _gaussian(group.gaussian_G2[:, 0]), _gaussian(group.gaussian_G2[:, 1])
    radius = np.array([taps_x.shape[1] - 1, taps_y.shape[1] - 1])

    corners = np.array([[x, y] for x in (left, left + width - 1) for y in (top, top + height - 1)], dtype=np.float64)
    at = apply(transform, np.broadcast_to(corners, (len(transform), 4, 2))).reshape(-1, 2)
    first = np.floor(at.min(0)).astype(int) - 1  # the window of cells that the interpolation reads
    last = np.floor(at.max(0)).astype(int) + 2
    if quick:  # the last cell that there is stands for all beyond it
        most = (np.array(sources[0].shape[:0:-1]) - 1) // group.cell
        first, last = np.clip(first, 0, most), np.clip(last, 0, most)

    parts = [_cells(source, group, first - radius, last + radius)[:, None] for source in sources]
    cells = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
    device = cells.device
    if quick:
        return linear(cells, _places(transform, window, first, (cells.shape[3], cells.shape[2])).to(device))
    cells = _blur(cells, torch.from_numpy(taps_x).to(device), 3)
    cells = _blur(cells, torch.from_numpy(taps_y).to(device), 2)

    a = torch.from_numpy(transform).to(device).view(-1, 2, 3, 1, 1)
    x = torch.arange(left, left + width, dtype=torch.float64, device=device)
    y = torch.arange(top, top + height, dtype=torch.float64, device=device).view(-1, 1)
    column = a[:, 0, 0] * x + (a[:, 0, 1] * y + a[:, 0, 2])
    row = a[:, 1, 0] * x + (a[:, 1, 1] * y + a[:, 1, 2])
    weights = _linear_weights if group.is_linear else _cubic_weights
    return _gather(cells, column, row, (int(first[0]), int(first[1])), weights)


def _places(
    cells_from_out_G23: NDArray[np.float64],
    window: tuple[int, int, int, int],
    first: NDArray[np.int_],
    count: tuple[int, int],
) -> torch.Tensor:
    """For `linear`: (G, height, width, 2) of an output window, on `count` cells that start at `first` (x, y)."""
    height, width, left, top = window
    per_edge = 2 / np.array(count)
    scale = np.concatenate([np.diag(per_edge), ((0.5 - first) * per_edge - 1)[:, None]], 1)
    unit = chain(scale, cells_from_out_G23)
    row = unit[:, None, :, 0] * np.arange(left, left + width)[:, None]
    column = unit[:, None, :, 1] * np.arange(top, top + height)[:, None] + unit[:, None, :, 2]
    return torch.from_numpy(row.astype(np.float32))[:, None] + torch.from_numpy(column.astype(np.float32))[:, :, None]


def linear(pictures_BCSS: torch.Tensor, places_Bhw2: torch.Tensor) -> torch.Tensor:
    """places: x, y; -1 and 1 are the outer edges of the pictures, which repeat beyond them."""
    return F.grid_sample(pictures_BCSS, places_Bhw2, mode="bilinear", padding_mode="border", align_corners=False)


def antialiased(pictures_BCHW: torch.Tensor, steps_B2: NDArray[np.float64], variance: float) -> torch.Tensor:
    """The pictures smoothed, each for sampling at every steps_B2-th (x, y) sample of it; edges repeat."""
    left_over = variance * np.maximum(0.0, steps_B2**2 - 1)
    for axis, dim in ((0, 3), (1, 2)):
        taps = _gaussian(left_over[:, axis])
        radius = taps.shape[1] - 1
        if radius:
            size = pictures_BCHW.shape[dim]
            wanted = torch.arange(-radius, size + radius, device=pictures_BCHW.device).clamp(0, size - 1)
            padded = pictures_BCHW.index_select(dim, wanted)
            pictures_BCHW = _blur(padded, torch.from_numpy(taps).to(padded.device), dim)
    return pictures_BCHW


def steps(source_from_out_B23: NDArray[np.float64]) -> NDArray[np.float64]:
    """B 2: source samples to one output sample, along the source's x and y."""
    return np.sqrt((source_from_out_B23[..., :2] ** 2).sum(-1))


def _gaussian(variance_G: NDArray[np.float64]) -> NDArray[np.float32]:
    """Half kernels (G, R + 1), each cut at its own 3 sigma and zero beyond, so that R does not change a frame's sum."""
    reach = np.ceil(3 * np.sqrt(variance_G))
    r = np.arange(int(reach.max()) + 1)
    weight = np.exp(-(r**2) / 2 / np.maximum(variance_G, 1e-12)[:, None]) * (r <= reach[:, None])
    return (weight / (2 * weight.sum(1) - weight[:, 0])[:, None]).astype(np.float32)


def _cells(source_BHW: torch.Tensor, group: _Group, first: NDArray[np.int_], last: NDArray[np.int_]) -> torch.Tensor:
    """Cells first..last (inclusive; x, y) of the group's frames, as means of their samples."""
    samples = source_BHW
    if len(group.frames) != len(samples):
        start = group.frames[0]
        samples = samples[start : start + 1] if len(group.frames) == 1 else samples[group.frames]
    for dim, axis in ((1, 1), (2, 0)):
        start, stop = int(first[axis]) * group.cell[axis], (int(last[axis]) + 1) * group.cell[axis]
        size = samples.shape[dim]
        if start >= 0 and stop <= size:
            samples = samples.narrow(dim, start, stop - start)
        else:
            wanted = torch.arange(start, stop, device=samples.device).clamp(0, size - 1)
            samples = samples.index_select(dim, wanted)
    columns, rows = group.cell
    if rows == columns == 1:
        return samples.float()
    exact = None if samples.is_floating_point() else torch.int32 if rows > 30 else torch.int16  # 30 * 1023 < 2^15
    samples = samples.to(exact or samples.dtype)
    total = samples[:, 0::rows].clone()
    for i in range(1, rows):
        total += samples[:, i::rows]
    sums = total[:, :, 0::columns].to(torch.int32 if exact else total.dtype, copy=True)
    for i in range(1, columns):
        sums += total[:, :, i::columns]
    return sums.float() * (1 / (rows * columns))


def _blur(cells_GCHW: torch.Tensor, taps_GR: torch.Tensor, dim: int) -> torch.Tensor:
    radius = taps_GR.shape[1] - 1
    if radius == 0:
        return cells_GCHW
    size = cells_GCHW.shape[dim] - 2 * radius
    weight = taps_GR.view(len(taps_GR), -1, 1, 1, 1)
    out = cells_GCHW.narrow(dim, radius, size) * weight[:, 0]
    for r in range(1, radius + 1):
        pair = cells_GCHW.narrow(dim, radius - r, size) + cells_GCHW.narrow(dim, radius + r, size)
        out += pair.mul_(weight[:, r])
    return out


def _gather(
    cells_GCHW: torch.Tensor,
    column_Ghw: torch.Tensor,
    row_Ghw: torch.Tensor,
    first: tuple[int, int],
    weights: Callable[[torch.Tensor], list[torch.Tensor]],
) -> torch.Tensor:
    """Interpolates at absolute cell coordinates, by as many neighbours as there are weights; cells start at `first`
    (x, y)."""
    (frames, channels), stride = cells_GCHW.shape[:2], cells_GCHW.shape[3]
    low_x, low_y = column_Ghw.floor(), row_Ghw.floor()
    weights_x = weights((column_Ghw - low_x).float())
    weights_y = weights((row_Ghw - low_y).float())
    before = len(weights_x) // 2 - 1  # neighbours before the one that lies just below
    # Places in a window of cells are small numbers: exact in float64.
    index = ((low_y - (first[1] + before)) * stride + (low_x - (first[0] + before))).long()
    index = index.view(frames, 1, -1).expand(frames, channels, -1)
    flat = cells_GCHW.reshape(frames, channels, -1)
    shape = (frames, channels, *column_Ghw.shape[1:])
    lines = []
    for j, weight_y in enumerate(weights_y):
        values = []
        for i, weight_x in enumerate(weights_x):
            start = j * stride + i
            value = flat.narrow(2, start, flat.shape[2] - start).gather(2, index)
            values.append(value.view(shape).mul_(weight_x[:, None]))
        lines.append(_added(values).mul_(weight_y[:, None]))
    return _added(lines)


def _added(terms: list[torch.Tensor]) -> torch.Tensor:
    """Their sum in order, written over the first."""
    for term in terms[1:]:
        terms[0] += term
    return terms[0]


def _linear_weights(part: torch.Tensor) -> list[torch.Tensor]:
    return [1 - part, part]


def _cubic_weights(part: torch.Tensor) -> list[torch.Tensor]:
    """Keys' cubic (a = -0.5) of the four neighbours."""
    return [
        ((1 - 0.5 * part) * part - 0.5) * part,
        (1.5 * part - 2.5) * part * part + 1,
        ((2 - 1.5 * part) * part + 0.5) * part,
        (0.5 * part - 0.5) * part * part,
    ]
