"""How much of each sample is replaced: a soft region of the face, built in crop coordinates.

The region is the convex hull of the face oval, drawn in a little at the sides and let out below the chin, where a
jaw that opens further than the source's needs room. It never reaches the edge of the crop square. Its border falls off
smoothly over a width that is constant in crop pixels, and so grows and shrinks with the face.

The hull is written as half planes: field(p) = max over directions n of (n . p - reach(n)), in crop pixels, negative
inside. This needs no order of points, holds for any head turn, and moves as smoothly as the points do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from farm.face.align import SIDE
from farm.face.points import FACE_OVAL
from farm.face.resample import apply, chain, invert
from farm.media.frame import PictureFormat

FEATHER = 20.0
"""Width of the falloff, crop pixels."""
_SIDES, _TOP, _CHIN = 1.0, -1.0, 22.0  # how far the mask's outer edge lies beyond the oval, crop pixels
_MARGIN = 3.0  # outermost crop pixels that are never used
_DIRECTIONS = 32
_GRID = 112  # the field is computed on this grid and interpolated: it is nearly linear


@dataclass(frozen=True)
class MaskBatch:
    """Share of the generated picture in each sample, 0 (untouched) to 1; float32, whole frames."""

    luma_BHW: torch.Tensor
    chroma_Bhw: torch.Tensor


@dataclass(frozen=True)
class Window:
    """Part of a picture in luma samples, half open; starts at even positions and may end beyond an odd picture."""

    left: int
    top: int
    right: int
    bottom: int

    def __or__(self, other: Window) -> Window:
        return Window(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )

    @property
    def area(self) -> int:
        return (self.right - self.left) * (self.bottom - self.top)

    def strips(self, area: int) -> list[Window]:
        """The window cut across into strips of about that many samples, an even number of rows each."""
        rows = max(2, area // (self.right - self.left) // 2 * 2)
        tops = range(self.top, self.bottom, rows)
        return [Window(self.left, top, self.right, min(top + rows, self.bottom)) for top in tops]


@dataclass(frozen=True)
class Shapes:
    """The regions of B faces."""

    crop_from_frame_B23: NDArray[np.float64]
    reach_BN: NDArray[np.float64]
    field_BGG: torch.Tensor

    def take(self, frames: list[int]) -> Shapes:
        return Shapes(self.crop_from_frame_B23[frames], self.reach_BN[frames], self.field_BGG[frames])


def shapes(crop_from_frame_B23: NDArray[np.float64], points_BK2: NDArray[np.floating], device: torch.device) -> Shapes:
    oval = apply(crop_from_frame_B23, points_BK2[:, list(FACE_OVAL)].astype(np.float64))
    directions = _directions()
    down = directions[:, 1]
    let_out = _SIDES + (_CHIN - _SIDES) * np.maximum(0, down) ** 2 + (_TOP - _SIDES) * np.maximum(0, -down) ** 2
    reach = (oval @ directions.T).max(1) + let_out
    return Shapes(crop_from_frame_B23, reach, field(reach, _GRID, device))


def field(reach_BN: NDArray[np.float64], grid: int, device: torch.device) -> torch.Tensor:
    """Crop pixels to the region's outer edge, negative inside, on grid x grid cells of the square: (B, grid, grid)."""
    at = (np.arange(grid) + 0.5) * (SIDE / grid) - 0.5
    directions = _directions()
    planes = directions[:, 0, None, None] * at + directions[:, 1, None, None] * at[:, None]
    hull = torch.from_numpy(planes.astype(np.float32)).to(device) - torch.from_numpy(reach_BN.astype(np.float32)).to(
        device
    ).view(*reach_BN.shape, 1, 1)
    middle = (SIDE - 1) / 2
    from_middle = np.abs(at - middle)
    square = np.maximum(from_middle, from_middle[:, None]) - (SIDE / 2 - _MARGIN)
    return torch.maximum(hull.amax(1), torch.from_numpy(square.astype(np.float32)).to(device))


def falloff(field: torch.Tensor) -> torch.Tensor:
    """0 from the region's edge on, 1 from FEATHER crop pixels inside, smooth between."""
    t = (field * (-1 / FEATHER)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def window(shapes: Shapes, frame: int, picture: PictureFormat) -> Window | None:
    """The part of the picture that holds every sample with a mask above 0; None when there is none."""
    quarter = _DIRECTIONS // 4
    right, bottom, left, top = shapes.reach_BN[frame, ::quarter] * np.array([1, 1, -1, -1])
    low = np.maximum([left, top], _MARGIN - 0.5)
    high = np.minimum([right, bottom], SIDE - _MARGIN - 0.5)
    if (low >= high).any():
        return None
    corners = np.array([[x, y] for x in (low[0], high[0]) for y in (low[1], high[1])])
    at = apply(invert(shapes.crop_from_frame_B23[frame]), corners)
    # One more sample each way: a chroma sample takes part in the mask of its luma neighbours.
    first = np.maximum(np.floor(at.min(0)) - 2, 0).astype(int) // 2 * 2
    last = np.minimum(np.ceil(at.max(0)) + 3, [picture.width, picture.height]).astype(int)
    last = first + (last - first + 1) // 2 * 2
    if (first >= last).any():
        return None
    return Window(int(first[0]), int(first[1]), int(last[0]), int(last[1]))


def masks(shapes: Shapes, part: Window, picture: PictureFormat) -> tuple[torch.Tensor, torch.Tensor]:
    """Luma and chroma masks of a window: (B, h, w) each. A chroma sample has the mean of the luma around its site."""
    # One column more on the left: a chroma sample sited left reaches to it.
    height, width = part.bottom - part.top, part.right - part.left + 1
    grid = places(shapes.crop_from_frame_B23, part.left - 1, part.top, height, width, shapes.field_BGG.device)
    wide = falloff(linear(shapes.field_BGG[:, None], grid)[:, 0])
    luma = chroma = wide[:, :, 1:]
    if picture.chroma_x:
        chroma = wide[:, :, 1:-1:2] * 0.5 + (wide[:, :, 0:-1:2] + wide[:, :, 2::2]) * 0.25
    if picture.chroma_y:
        chroma = (chroma[:, 0::2] + chroma[:, 1::2]) * 0.5
    return luma, chroma


def places(
    crop_from_out_B23: NDArray[np.float64], left: int, top: int, height: int, width: int, device: torch.device
) -> torch.Tensor:
    """Where a window's samples lie in the square, as `grid_sample` has it (-1 and 1 are its edges): (B, h, w, 2)."""
    unit = chain(np.array([[2 / SIDE, 0, 1 / SIDE - 1], [0, 2 / SIDE, 1 / SIDE - 1]]), crop_from_out_B23)
    x = torch.arange(left, left + width, dtype=torch.float64, device=device)
    y = torch.arange(top, top + height, dtype=torch.float64, device=device).view(-1, 1)
    a = torch.from_numpy(unit).to(device).view(-1, 2, 3, 1, 1)
    out = torch.empty(len(unit), height, width, 2, device=device)
    for axis in (0, 1):
        torch.add((a[:, axis, 0] * x), (a[:, axis, 1] * y + a[:, axis, 2]), out=out[..., axis])
    return out


def linear(pictures_BCSS: torch.Tensor, places_Bhw2: torch.Tensor) -> torch.Tensor:
    return F.grid_sample(pictures_BCSS, places_Bhw2, mode="bilinear", padding_mode="border", align_corners=False)


def _directions() -> NDArray[np.float64]:
    """Right, then clockwise as seen (y is down): index N/4 is down, N/2 left, 3N/4 up."""
    turn = np.arange(_DIRECTIONS) * (2 * np.pi / _DIRECTIONS)
    return np.stack([np.cos(turn), np.sin(turn)], 1)
