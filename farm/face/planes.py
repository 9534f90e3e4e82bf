"""Pictures in torch as their own Y'CbCr planes, and the exact equations between code values and R'G'B'.

Equations (ITU-T H.273, section 8.3; the same as BT.601, BT.709 and BT.2020 non-constant luminance), n bits a sample:
    Y' = Kr R' + (1 - Kr - Kb) G' + Kb B'      Pb = (B' - Y') / (2 (1 - Kb))      Pr = (R' - Y') / (2 (1 - Kr))
    limited range:  Y = 2^(n-8) (219 Y' + 16)      Cb = 2^(n-8) (224 Pb + 128)
    full range:     Y = (2^n - 1) Y'               Cb = (2^n - 1) Pb + 2^(n-1)

Positions: (0, 0) is the centre of the first luma sample, x right, y down. Chroma sample (i, j) of 4:2:0 sits at luma
(2i, 2j + 0.5) and of 4:2:2 at (2i, j): "left", the default of MPEG-2 and H.264.

Legend of suffixes: B frames, C channels, H W luma rows and columns, h w rows and columns of another grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from farm.media.frame import Frame, PictureFormat, Plane

_KR_KB = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}


@dataclass(frozen=True)
class PlanesBatch:
    """B frames on one device. Samples are uint8 at 8 bits, int16 at 10 (torch computes little in uint16)."""

    y_BHW: torch.Tensor
    u_Bhw: torch.Tensor
    v_Bhw: torch.Tensor
    picture: PictureFormat

    def __len__(self) -> int:
        return self.y_BHW.shape[0]

    @property
    def device(self) -> torch.device:
        return self.y_BHW.device


@dataclass(frozen=True)
class Codes:
    """How code values stand for Y', Pb and Pr: code = zero + scale * value; peak is the largest code there is."""

    luma_zero: float
    luma_scale: float
    chroma_zero: float
    chroma_scale: float
    peak: int


def codes(picture: PictureFormat) -> Codes:
    unit = 2.0 ** (picture.bit_depth - 8)
    peak = 2**picture.bit_depth - 1
    if picture.full_range:
        return Codes(0.0, float(peak), 128 * unit, float(peak), peak)
    return Codes(16 * unit, 219 * unit, 128 * unit, 224 * unit, peak)


def ypbpr_from_rgb(matrix: str) -> NDArray[np.float64]:
    """3x3: (Y', Pb, Pr) = M (R', G', B'), R'G'B' and Y' in [0, 1], Pb and Pr in [-0.5, 0.5]."""
    kr, kb = _KR_KB[matrix]
    luma = np.array([kr, 1 - kr - kb, kb])
    blue = (np.array([0.0, 0.0, 1.0]) - luma) / (2 * (1 - kb))
    red = (np.array([1.0, 0.0, 0.0]) - luma) / (2 * (1 - kr))
    return np.stack([luma, blue, red])


def luma_of_rgb(matrix: str) -> tuple[float, float, float]:
    """The shares of R', G', B' in Y'."""
    kr, kb = _KR_KB[matrix]
    return kr, 1 - kr - kb, kb


def rgb_from_ypbpr(matrix: str) -> NDArray[np.float64]:
    """The inverse, written out so that grey stays exactly grey."""
    kr, kb = _KR_KB[matrix]
    kg = 1 - kr - kb
    return np.array(
        [
            [1.0, 0.0, 2 * (1 - kr)],
            [1.0, -2 * kb * (1 - kb) / kg, -2 * kr * (1 - kr) / kg],
            [1.0, 2 * (1 - kb), 0.0],
        ]
    )


def rgb_from_codes(y: torch.Tensor, u: torch.Tensor, v: torch.Tensor, picture: PictureFormat) -> torch.Tensor:
    """Code values of one common grid, (B, h, w) each, any number type -> R'G'B' (B, 3, h, w) float32, not clamped."""
    code = codes(picture)
    matrix = rgb_from_ypbpr(picture.matrix)
    luma = (y.float() - code.luma_zero) * (1 / code.luma_scale)
    pb = (u.float() - code.chroma_zero) * (1 / code.chroma_scale)
    pr = (v.float() - code.chroma_zero) * (1 / code.chroma_scale)
    red = luma + pr * float(matrix[0, 2])
    green = luma + pb * float(matrix[1, 1]) + pr * float(matrix[1, 2])
    blue = luma + pb * float(matrix[2, 1])
    return torch.stack([red, green, blue], dim=1)


def codes_from_rgb(rgb_B3hw: torch.Tensor, picture: PictureFormat) -> torch.Tensor:
    """R'G'B' in [0, 1] -> code values Y, Cb, Cr of the same grid, (B, 3, h, w) float32, neither rounded nor clamped."""
    code = codes(picture)
    kr, kb = _KR_KB[picture.matrix]
    red, green, blue = rgb_B3hw.float().unbind(1)
    luma = red * kr + green * (1 - kr - kb) + blue * kb
    pb = (blue - luma) * (1 / (2 * (1 - kb)))
    pr = (red - luma) * (1 / (2 * (1 - kr)))
    return torch.stack(
        [
            luma * code.luma_scale + code.luma_zero,
            pb * code.chroma_scale + code.chroma_zero,
            pr * code.chroma_scale + code.chroma_zero,
        ],
        dim=1,
    )


def to_device(frames: Sequence[Frame], picture: PictureFormat, device: torch.device) -> PlanesBatch:
    """Frames of one picture format as a batch. Raises ValueError on planes that do not fit the format."""
    if picture.chroma_x not in (0, 1) or picture.chroma_y not in (0, 1) or picture.bit_depth not in (8, 10):
        raise ValueError(f"unsupported picture format: {picture}")
    luma = (picture.height, picture.width)
    chroma = chroma_shape(picture)
    for frame in frames:
        if frame.y.shape != luma or frame.u.shape != chroma or frame.v.shape != chroma:
            raise ValueError(f"frame {frame.index} has planes {frame.y.shape} {frame.u.shape}, not {luma} {chroma}")

    def stack(planes: list[Plane]) -> torch.Tensor:
        samples = planes[0][None] if len(planes) == 1 and device.type == "cpu" else np.stack(planes)
        stacked = torch.from_numpy(samples if picture.bit_depth == 8 else samples.view(np.int16))
        if device.type == "cuda":
            # From pinned memory the copy goes on by itself; torch keeps the memory until it has arrived.
            return stacked.pin_memory().to(device, non_blocking=True)
        return stacked.to(device)

    return PlanesBatch(
        stack([frame.y for frame in frames]),
        stack([frame.u for frame in frames]),
        stack([frame.v for frame in frames]),
        picture,
    )


def to_frames(planes: PlanesBatch, like: Sequence[Frame]) -> list[Frame]:
    """The batch as frames again, with the indices and times of `like`."""

    def unstack(samples: torch.Tensor) -> Plane:
        if samples.device.type == "cuda":
            # Into pinned memory, at the full speed of the bus; and only this thread's stream is waited for.
            there = torch.empty(samples.shape, dtype=samples.dtype, pin_memory=True)
            there.copy_(samples, non_blocking=True)
            torch.cuda.current_stream(samples.device).synchronize()
            samples = there
        out = samples.cpu().numpy()
        return out if planes.picture.bit_depth == 8 else out.view(np.uint16)

    y, u, v = unstack(planes.y_BHW), unstack(planes.u_Bhw), unstack(planes.v_Bhw)
    return [Frame(f.index, f.pts, y[i], u[i], v[i]) for i, f in zip(range(len(planes)), like, strict=True)]


def chroma_shape(picture: PictureFormat) -> tuple[int, int]:
    """Rows and columns of the chroma planes."""
    return -(-picture.height // 2**picture.chroma_y), -(-picture.width // 2**picture.chroma_x)


def chroma_from_luma(picture: PictureFormat) -> NDArray[np.float64]:
    """2x3: the chroma plane's sample coordinates of a position given in luma samples."""
    step_x, step_y = 2**picture.chroma_x, 2**picture.chroma_y
    return np.array([[1 / step_x, 0.0, 0.0], [0.0, 1 / step_y, -(step_y - 1) / 2 / step_y]])


def rgb(planes: PlanesBatch, region: tuple[int, int, int, int] | None = None) -> torch.Tensor:
    """R'G'B' at luma resolution, (B, 3, h, w) float32 in [0, 1]; chroma interpolated linearly from where it is sited.

    region: left, top, right, bottom, half open, inside the picture; the whole picture when None.
    """
    left, top, right, bottom = region or (0, 0, planes.picture.width, planes.picture.height)
    transform = chroma_from_luma(planes.picture)

    def linear(samples: torch.Tensor, start: int, stop: int, row: int) -> torch.Tensor:
        dim = 2 - row
        at = torch.arange(start, stop, dtype=torch.float64) * transform[row, row] + transform[row, 2]
        at = at.clamp(0, samples.shape[dim] - 1)
        low = at.floor().long()
        high = (low + 1).clamp(max=samples.shape[dim] - 1)
        part = (at - low).float().view((-1, 1) if row else (-1,)).to(samples.device)
        a = samples.index_select(dim, low.to(samples.device)).float()
        b = samples.index_select(dim, high.to(samples.device)).float()
        return a * (1 - part) + b * part

    u, v = (linear(linear(c, left, right, 0), top, bottom, 1) for c in (planes.u_Bhw, planes.v_Bhw))
    return rgb_from_codes(planes.y_BHW[:, top:bottom, left:right], u, v, planes.picture).clamp(0, 1)
