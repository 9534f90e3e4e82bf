"""How much of each sample is replaced: a soft region of the face, built in crop coordinates.

The region is the convex hull of the face oval, drawn in a little at the sides and let out below the chin, where a
jaw that opens further than the source's needs room; where it opens further than that, the region follows it. It never
reaches the edge of the crop square. Its border falls off smoothly over a width in crop pixels, and so grows and shrinks
with the face. Eyes, brows, nose, lips and chin lie wholly inside of the falloff, for a brow that is half the old one
and half the new one is seen as two: where they come close to the oval or to the edge of the square, as on a turned
head, the falloff is narrower, and the region larger.

The hull is written as half planes: field(p) = max over directions n of (n . p - reach(n)) / width(n), in falloffs,
negative inside. This needs no order of points, holds for any head turn, and moves as smoothly as the points do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from farm.face.align import SIDE
from farm.face.points import FACE_OVAL, FEATURES
from farm.face.resample import apply, chain, invert, linear
from farm.media.frame import PictureFormat

FEATHER, NARROW = 20.0, 10.0
"""Width of the falloff, crop pixels: the usual, and the least."""
_ROOM = 4.0  # between a feature's points and the falloff: brows and lips are wider than their points say
_SIDES, _TOP, _CHIN = 1.0, -1.0, 24.0  # how far the mask's outer edge lies beyond the oval, crop pixels
_OPENS = 32.0  # by how much a jaw may at most lie below the source's: points of what is no face are not followed
_MARGIN = 3.0  # outermost crop pixels that are never used
_DIRECTIONS = 32
GRID = 56
"""Cells of the square that the field is computed on, and interpolated between: it is nearly linear, and never less."""


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
    """The regions of B faces. reach: where the mask becomes 0 along each of N directions, crop pixels; width: of the
    falloff there. The last four directions are the sides of the square. share: what the mask is inside."""

    crop_from_frame_B23: NDArray[np.float64]
    reach_BN: NDArray[np.float64]
    width_BN: NDArray[np.float64]
    field_BGG: torch.Tensor
    share_B: NDArray[np.float32]

    def take(self, frames: list[int]) -> Shapes:
        return Shapes(
            self.crop_from_frame_B23[frames],
            self.reach_BN[frames],
            self.width_BN[frames],
            self.field_BGG[frames],
            self.share_B[frames],
        )


def shapes(
    crop_from_frame_B23: NDArray[np.float64],
    points_BK2: NDArray[np.floating],
    device: torch.device,
    jaw_BJ2: NDArray[np.float32] | None = None,
    share_B: NDArray[np.float32] | None = None,
) -> Shapes:
    """points: the source's, frame pixels. jaw: the generated face's (farm.face.jaw), crop pixels, not a number where it
    is not known. share: 1 where None."""
    in_crop = apply(crop_from_frame_B23, points_BK2.astype(np.float64))
    directions = _directions()
    down = directions[:, 1]
    let_out = _SIDES + (_CHIN - _SIDES) * np.maximum(0, down) ** 2 + (_TOP - _SIDES) * np.maximum(0, -down) ** 2
    oval, features = ((in_crop[:, list(group)] @ directions.T).max(1) for group in (FACE_OVAL, FEATURES))
    if jaw_BJ2 is not None:
        jaw = np.minimum(np.nan_to_num(jaw_BJ2 @ directions.T, nan=-np.inf).max(1), oval + _OPENS)
        features = np.where(down > 0.5, np.maximum(features, jaw), features)
    whole = features + _ROOM
    reach = np.maximum(oval + let_out, whole + NARROW)
    reach[:, _DIRECTIONS:] = directions[_DIRECTIONS:].sum(1) * (SIDE - 1) / 2 + SIDE / 2 - _MARGIN
    width = np.clip(reach - whole, NARROW, FEATHER)
    share_B = np.ones(len(reach), np.float32) if share_B is None else share_B
    return Shapes(crop_from_frame_B23, reach, width, _field(reach, width, device), share_B)


def _field(reach_BN: NDArray[np.float64], width_BN: NDArray[np.float64], device: torch.device) -> torch.Tensor:
    """Falloffs to the region's outer edge, negative inside: (B, GRID, GRID)."""
    at = (np.arange(GRID) + 0.5) * (SIDE / GRID) - 0.5
    directions = _directions()
    planes = directions[:, 0, None, None] * at + directions[:, 1, None, None] * at[:, None]
    planes, reach, slope = (
        torch.from_numpy(values.astype(np.float32)).to(device)
        for values in (planes, reach_BN[:, :, None, None], 1 / width_BN[:, :, None, None])
    )
    return (planes - reach).mul_(slope).amax(1)


def falloff(field: torch.Tensor) -> torch.Tensor:
    """0 from the region's edge on, 1 from one falloff inside, smooth between."""
    t = (-field).clamp(0, 1)
    return t * t * (3 - 2 * t)


def window(shapes: Shapes, frame: int, picture: PictureFormat) -> Window | None:
    """The part of the picture that holds every sample with a mask above 0; None when there is none."""
    quarter = _DIRECTIONS // 4
    right, bottom, left, top = shapes.reach_BN[frame, :_DIRECTIONS:quarter] * np.array([1, 1, -1, -1])
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


def around(shapes: Shapes, part: Window) -> torch.Tensor:
    """`places` of a window's luma samples, and of one column more on the left: (B, h, 1 + w, 2)."""
    height, width = part.bottom - part.top, part.right - part.left + 1
    return places(shapes.crop_from_frame_B23, part.left - 1, part.top, height, width, shapes.field_BGG.device)


def masks(shapes: Shapes, around: torch.Tensor, picture: PictureFormat) -> tuple[torch.Tensor, torch.Tensor]:
    """Luma and chroma masks of a window: (B, h, w) each. A chroma sample has the mean of the luma around its site:
    one that is sited left reaches to the column before the window."""
    wide = falloff(linear(shapes.field_BGG[:, None], around)[:, 0])
    if (shapes.share_B != 1).any():
        wide.mul_(torch.from_numpy(shapes.share_B).to(wide.device)[:, None, None])
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
    # A column's share and a row's, each from absolute positions, added only then: the same bits however it is cut.
    across = unit[:, :, :1] * np.arange(left, left + width)
    down = unit[:, :, 1:2] * np.arange(top, top + height) + unit[:, :, 2:]
    across, down = (torch.from_numpy(part.astype(np.float32)).to(device) for part in (across, down))
    return (across[:, :, None] + down[..., None]).permute(0, 2, 3, 1)


def _directions() -> NDArray[np.float64]:
    """Right, then clockwise as seen (y is down): a quarter round is down, half left; then right, down, left, up."""
    turn = np.arange(_DIRECTIONS) * (2 * np.pi / _DIRECTIONS)
    around = np.stack([np.cos(turn), np.sin(turn)], 1)
    return np.concatenate([around, np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])])
