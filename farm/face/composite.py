"""Generated faces back into their frames, with no visible seam and nothing else touched.

Colour is matched in the crop: what the source differs from the generated picture along the mask's border is spread
smoothly over the inside (a membrane, as in gradient-domain cloning: Perez et al. 2003, Farbman et al. 2009), so that
the border shows no step while the generated detail stays. It is sharpened and given grain as the source has them
(farm.face.finish). The corrected picture is turned into the source's Y'CbCr, resampled to the luma and the chroma grid
each, and mixed in by the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from farm.face.align import SIDE, scaled
from farm.face.finish import grain, mean, noise, sharpened
from farm.face.mask import GRID, MaskBatch, Shapes, Window, around, falloff, masks, places, shapes, window
from farm.face.planes import (
    PlanesBatch,
    chroma_from_luma,
    chroma_shape,
    codes,
    codes_from_rgb,
    luma_of_rgb,
    rgb_from_codes,
)
from farm.face.resample import GENERATED, antialiased, apply, chain, invert, linear, steps, warp
from farm.media.frame import PictureFormat

_CELL_VARIANCE = GENERATED / 4 + 1 / 12  # of chroma, as that of luma which is seen twice as fine and then averaged
_ROUNDS = 6  # smoothing rounds at each level of the membrane
_LUMA_TIMES, _CHROMA_TIMES = 3, 2  # enlargement of the square before linear interpolation
_STRANGE = 0.2  # of R'G'B': a step beyond the usual one that is no matter of light
_STRIP = 2**16  # luma samples


def paste(
    planes: PlanesBatch,
    generated_B3SS: torch.Tensor,
    crop_from_frame_B23: NDArray[np.float64],
    points_BK2: NDArray[np.float32],
    has_face_B: NDArray[np.bool_],
    numbers: Sequence[int] | None = None,
    *,
    jaw_BJ2: NDArray[np.float32] | None = None,
    share_B: NDArray[np.float32] | None = None,
) -> PlanesBatch:
    """Frames with the generated squares (R'G'B' in [-1, 1]) laid over the face.

    numbers: of the frames in the job, each with a grain of its own; None: no grain is laid on. Samples where the mask
    is 0, and whole frames without a face, keep their very integers. points: farm.face.points, frame pixels. jaw: of
    the generated faces (farm.face.jaw), which the mask then holds whole. share: of the generated face in each frame,
    1 where None. Each frame's result is the same to the last bit whatever else is in the batch.
    """
    faces = np.flatnonzero(has_face_B).tolist()
    y, u, v = planes.y_BHW.clone(), planes.u_Bhw.clone(), planes.v_Bhw.clone()
    out = PlanesBatch(y, u, v, planes.picture)
    if not faces:
        return out
    region = shapes(
        crop_from_frame_B23[faces],
        points_BK2[faces],
        planes.device,
        None if jaw_BJ2 is None else jaw_BJ2[faces],
        None if share_B is None else share_B[faces],
    )
    matched = _matched(_take(planes, faces), generated_B3SS[faces].float() * 0.5 + 0.5, region)
    patch = _patch(matched, region.crop_from_frame_B23, planes.picture)
    grains = (
        None if numbers is None else [_Grain(numbers[k], _grain(planes, region, i, k)) for i, k in enumerate(faces)]
    )
    for members, part in _parts(region, planes):
        laid_on = None if grains is None else [grains[i] for i in members]
        _mix(out, [faces[i] for i in members], patch.take(members), region.take(members), part, laid_on)
    return out


def mask(
    picture: PictureFormat,
    crop_from_frame_B23: NDArray[np.float64],
    points_BK2: NDArray[np.float32],
    has_face_B: NDArray[np.bool_],
    device: torch.device | None = None,
    jaw_BJ2: NDArray[np.float32] | None = None,
    share_B: NDArray[np.float32] | None = None,
) -> MaskBatch:
    """The very masks that `paste` uses, over whole frames."""
    device = device or torch.device("cpu")
    luma = torch.zeros(len(has_face_B), picture.height, picture.width, device=device)
    chroma = torch.zeros(len(has_face_B), *chroma_shape(picture), device=device)
    region = shapes(crop_from_frame_B23, points_BK2, device, jaw_BJ2, share_B)
    for i in np.flatnonzero(has_face_B).tolist():
        part = window(region, i, picture)
        if part is not None:
            parts = masks(region.take([i]), around(region.take([i]), part), picture)
            for whole, share, step_x, step_y in (
                (luma, parts[0], 0, 0),
                (chroma, parts[1], picture.chroma_x, picture.chroma_y),
            ):
                inside = _slices(part, step_x, step_y)
                target = whole[(i, *inside)]
                target.copy_(share[0, : target.shape[0], : target.shape[1]])
    return MaskBatch(luma, chroma)


def _parts(region: Shapes, planes: PlanesBatch) -> list[tuple[list[int], Window]]:
    """Which faces are mixed in together and where: all in one window on a GPU if that fits; on a CPU each alone, in
    strips whose intermediate values stay in its cache."""
    found = [(i, window(region, i, planes.picture)) for i in range(len(region.reach_BN))]
    alone = [([i], part) for i, part in found if part is not None]
    if planes.device.type == "cpu":
        return [(members, strip) for members, part in alone for strip in part.strips(_STRIP)]
    if len(alone) < 2:
        return alone
    union = alone[0][1]
    for _, part in alone[1:]:
        union = union | part
    if union.area > 2 * max(part.area for _, part in alone):
        return alone
    return [([i for members, _ in alone for i in members], union)]


@dataclass(frozen=True)
class _Grain:
    """A frame's number in its job, and the deviation of its source's noise, codes."""

    number: int
    deviation: float


def _grain(planes: PlanesBatch, region: Shapes, face: int, frame: int) -> float:
    part = window(region, face, planes.picture)
    return 0.0 if part is None else grain(planes.y_BHW[(frame, *_slices(part, 0, 0))], planes.picture.bit_depth)


def _mix(
    out: PlanesBatch,
    frames: list[int],
    patch: _Patch,
    region: Shapes,
    part: Window,
    grains: list[_Grain] | None,
) -> None:
    """Writes one window of the given frames of `out`."""
    picture = out.picture
    wide = around(region, part)
    luma, chroma = masks(region, wide, picture)
    crop_from_chroma = chain(region.crop_from_frame_B23, invert(chroma_from_luma(picture)))
    for planes, source, share, step_x, step_y in (
        ((out.y_BHW,), patch.luma_B1RR, luma, 0, 0),
        ((out.u_Bhw, out.v_Bhw), patch.chroma_B2rr, chroma, picture.chroma_x, picture.chroma_y),
    ):
        inside = _slices(part, step_x, step_y)
        rows, columns = planes[0][(0, *inside)].shape  # an odd picture ends before its window
        grid = wide[:, :rows, 1 : columns + 1]
        if step_x or step_y:
            grid = places(crop_from_chroma, inside[1].start, inside[0].start, rows, columns, out.device)
        new = linear(source, grid)
        if grains is not None and planes[0] is out.y_BHW:
            for i, own in enumerate(grains):
                if own.deviation:
                    new[i, 0] += own.deviation * noise(own.number, part.top, part.left, rows, columns, out.device)
        for channel, plane in enumerate(planes):
            for i, frame in enumerate(frames):
                old = plane[(frame, *inside)]
                before = old.float()
                # Where the mask is 0 this is `before` + 0.5, and what is behind the point is dropped.
                mixed = (new[i, channel] - before).mul_(share[i, :rows, :columns]).add_(before).add_(0.5)
                old.copy_(mixed.clamp_(0, codes(picture).peak))


@dataclass(frozen=True)
class _Patch:
    """Generated faces as code values, smoothed for the grids of luma and chroma where these are coarser than the
    square, and enlarged so that linear interpolation of them comes close to a cubic one of the square itself."""

    luma_B1RR: torch.Tensor
    chroma_B2rr: torch.Tensor

    def take(self, faces: list[int]) -> _Patch:
        if len(faces) == len(self.luma_B1RR):
            return self
        return _Patch(self.luma_B1RR[faces], self.chroma_B2rr[faces])


def _patch(rgb_B3SS: torch.Tensor, crop_from_frame_B23: NDArray[np.float64], picture: PictureFormat) -> _Patch:
    size = rgb_B3SS.shape[-1]
    code = codes_from_rgb(rgb_B3SS, picture)
    from_luma = scaled(crop_from_frame_B23, size)
    from_chroma = chain(from_luma, invert(chroma_from_luma(picture)))

    def enlarged(channels: torch.Tensor, source_from_out: NDArray[np.float64], times: int) -> torch.Tensor:
        channels = antialiased(channels, steps(source_from_out), GENERATED)
        # Only with antialias is torch's bicubic the one that keeps ramps straight (a = -0.5); there is nothing to blur.
        return F.interpolate(channels, size=(times * size, times * size), mode="bicubic", antialias=True)

    return _Patch(enlarged(code[:, :1], from_luma, _LUMA_TIMES), enlarged(code[:, 1:], from_chroma, _CHROMA_TIMES))


def _slices(part: Window, step_x: int, step_y: int) -> tuple[slice, slice]:
    return slice(part.top >> step_y, part.bottom >> step_y), slice(part.left >> step_x, part.right >> step_x)


def _take(planes: PlanesBatch, frames: list[int]) -> PlanesBatch:
    if len(frames) == len(planes):
        return planes
    return PlanesBatch(planes.y_BHW[frames], planes.u_Bhw[frames], planes.v_Bhw[frames], planes.picture)


def _matched(planes: PlanesBatch, generated_B3SS: torch.Tensor, region: Shapes) -> torch.Tensor:
    """The generated squares (R'G'B' in [0, 1]) with their colours led to the source's along the mask's border."""
    size, picture = generated_B3SS.shape[-1], planes.picture
    luma_B1gg, source_B3cc = _looked_at(planes, region.crop_from_frame_B23)
    rough_B3cc = F.adaptive_avg_pool2d(generated_B3SS, GRID)
    seen = _seen(picture, region.crop_from_frame_B23, GRID, planes.device)[:, None]
    field, inside = region.field_BGG[:, None], falloff(region.field_BGG)[:, None]
    border = (1 - inside) * (field < 0.1) * seen
    inside = F.interpolate(inside * seen, size=luma_B1gg.shape[-2:], mode="nearest")
    generated_B3SS = sharpened(generated_B3SS, luma_B1gg, inside, luma_of_rgb(picture.matrix))
    gain, middle = _gain(source_B3cc, rough_B3cc, border)
    step = source_B3cc - ((rough_B3cc - middle) * gain + middle)
    step = _spread(step, border * _usual(step, border))
    step = F.interpolate(step, size=(size, size), mode="bilinear", align_corners=False)
    return (generated_B3SS - middle) * gain + middle + step


def _looked_at(planes: PlanesBatch, crop_from_frame_B23: NDArray[np.float64]) -> tuple[torch.Tensor, torch.Tensor]:
    """The squares of the source: luma in [0, 1] on a grid of twice the cells, which shows its detail, and the cells in
    R'G'B', not clamped."""
    picture, code = planes.picture, codes(planes.picture)
    frame_from_fine, frame_from_cells = (invert(scaled(crop_from_frame_B23, side)) for side in (2 * GRID, GRID))
    luma = warp((planes.y_BHW,), frame_from_fine, 2 * GRID, 2 * GRID, variance=GENERATED)
    from_cells = chain(chroma_from_luma(picture), frame_from_cells)
    chroma = warp((planes.u_Bhw, planes.v_Bhw), from_cells, GRID, GRID, variance=_CELL_VARIANCE)
    source = rgb_from_codes(F.avg_pool2d(luma, 2)[:, 0], chroma[:, 0], chroma[:, 1], picture)
    return (luma - code.luma_zero) * (1 / code.luma_scale), source


def _gain(
    source_B3cc: torch.Tensor, generated_B3cc: torch.Tensor, weights_B1cc: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Contrast of the source against the generated picture along the border, a channel each, and the generated mean.

    A tint scales light skin more than dark hair; a membrane alone would carry hair's small step into the forehead. The
    ratio of deviations is trusted as far as the two pictures show the same there (squared correlation); a border of
    one plain colour tells nothing, and leaves the contrast alone.
    """
    mass = mean(weights_B1cc).clamp(min=1e-6)
    source_mean, middle = (mean(x * weights_B1cc) / mass for x in (source_B3cc, generated_B3cc))
    a, b = source_B3cc - source_mean, generated_B3cc - middle
    power_a, power_b, both = (mean(x * weights_B1cc) / mass for x in (a * a, b * b, a * b))
    plain = 0.03**2
    ratio = ((power_a + plain) / (power_b + plain)).sqrt().clamp(0.7, 1.43)
    trust = (both.clamp(min=0) / ((power_a + plain) * (power_b + plain)).sqrt()) ** 2
    return 1 + trust * (ratio - 1), middle


def _usual(step_B3cc: torch.Tensor, border_B1cc: torch.Tensor) -> torch.Tensor:
    """1 where the border's step is much like most of the border's, towards 0 where it is quite another.

    There a background of one colour in the source meets something else in the generated picture, as beside a turned
    head: led over the membrane, that colour would run into the cheek.
    """
    trust = torch.ones_like(border_B1cc)
    for _ in range(2):
        weight = border_B1cc * trust
        centre = mean(step_B3cc * weight) / mean(weight).clamp(min=1e-6)
        off = (step_B3cc - centre).abs().amax(1, keepdim=True)
        trust = 1 / (1 + (off / _STRANGE) ** 4)
    return trust


def _seen(
    picture: PictureFormat, crop_from_frame_B23: NDArray[np.float64], cells: int, device: torch.device
) -> torch.Tensor:
    """1 where a cell of the square lies wholly inside the picture, else 0: beyond it there is no source to match."""
    at = (np.arange(cells) + 0.5) * (SIDE / cells) - 0.5
    grid = np.stack(np.broadcast_arrays(at, at[:, None]), -1).reshape(-1, 2)
    frame_from_crop = invert(crop_from_frame_B23)
    in_frame = apply(frame_from_crop, np.broadcast_to(grid, (len(frame_from_crop), *grid.shape)))
    cell = np.abs(frame_from_crop[:, :, :2]).sum(-1)[:, None] * (SIDE / cells / 2)
    inside = (in_frame >= cell) & (in_frame <= np.array([picture.width - 1, picture.height - 1]) - cell)
    return torch.from_numpy(inside.all(-1).reshape(-1, cells, cells).astype(np.float32)).to(device)


def _spread(values_BChw: torch.Tensor, weights_B1hw: torch.Tensor) -> torch.Tensor:
    """Membrane through the weighted cells: weight 1 holds the value, weight 0 takes the mean of its neighbours.

    Coarse to fine, so that a few rounds of averaging at each level come close to the harmonic solution.
    """
    mass = values_BChw * weights_B1hw
    levels = [(mass, weights_B1hw)]
    while levels[-1][0].shape[-1] > 1:
        mass, weight = (F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False) for x in levels[-1])
        levels.append((mass, weight))
    mass, weight = levels[-1]
    out = mass / weight.clamp(min=1e-6)
    for mass, weight in reversed(levels[:-1]):
        # A coarse cell that holds any border at all knows its value better than its neighbours do.
        known = (weight * 4).clamp(max=1)
        value = mass / weight.clamp(min=1e-6)
        out = F.interpolate(out, size=mass.shape[-2:], mode="bilinear", align_corners=False)
        held, free = _together(value * known), _together((1 - known).expand_as(value))
        side_by_side = _together(out)
        for _ in range(_ROUNDS):
            side_by_side = F.avg_pool2d(side_by_side, 3, 1, 1, count_include_pad=False).mul_(free).add_(held)
        out = side_by_side.reshape(out.shape).contiguous()
    return out


def _together(values_BChw: torch.Tensor) -> torch.Tensor:
    """All as channels of one picture, channels last: so neighbours are averaged much faster, to the same bits."""
    batch, channels, height, width = values_BChw.shape
    return values_BChw.reshape(1, batch * channels, height, width).contiguous(memory_format=torch.channels_last)
