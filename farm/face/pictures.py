"""Square, turned cut-outs of pictures, for the networks to look at: from frames' own planes or from RGB tensors.

A square is (centre x, centre y, side, angle): luma pixels of the picture, (0, 0) the centre of the top-left sample,
angle in radians, clockwise as seen, of the square's own x axis. squares_N4 are float64 and carry no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from farm.face.planes import chroma_from_luma, rgb_from_codes
from farm.media.frame import Frame, PictureFormat, Plane

Outside = Literal["black", "edge"]
Squares = NDArray[np.float64]

# From sample centres to distances from the outer edge.
_HALF = np.array([[0, 0, 0.5]])


class Pictures(Protocol):
    """B pictures of one size."""

    width: int
    height: int
    device: torch.device

    def __len__(self) -> int: ...

    def crops(self, index: Sequence[int], squares_N4: Squares, size: int, outside: Outside) -> Tensor:
        """rgb_N3SS in [0, 1] of square n of picture index[n], averaged first when it shrinks."""
        ...


class FramePictures:
    """Frames as they were decoded; only the parts that are asked for are converted and moved to the device."""

    def __init__(self, frames: Sequence[Frame], picture: PictureFormat, device: torch.device) -> None:
        self.width, self.height, self.device = picture.width, picture.height, device
        self._frames = frames
        self._picture = picture

    def __len__(self) -> int:
        return len(self._frames)

    def crops(self, index: Sequence[int], squares_N4: Squares, size: int, outside: Outside) -> Tensor:
        if not len(index):
            return torch.zeros(0, 3, size, size, device=self.device)
        chroma = chroma_from_luma(self._picture)
        crops: list[Tensor] = []
        for number, square in zip(index, squares_N4, strict=True):
            frame = self._frames[number]
            place = picture_from_crop(square)
            place_chroma = chroma[:, :2] @ place + np.pad(chroma[:, 2:], ((0, 0), (2, 0)))
            luma = self._sample([frame.y], place, size)
            crops.append(torch.cat([luma, self._sample([frame.u, frame.v], place_chroma, size)]))
        yuv_N3SS = torch.stack(crops)
        rgb = rgb_from_codes(yuv_N3SS[:, 0], yuv_N3SS[:, 1], yuv_N3SS[:, 2], self._picture).clamp(0, 1)
        return _blacken(rgb, squares_N4, self.width, self.height) if outside == "black" else rgb

    def _sample(self, planes: Sequence[Plane], place: NDArray[np.float64], size: int) -> Tensor:
        shrink, (top, bottom), (left, right) = _part(place, size, *planes[0].shape)
        part = np.stack([plane[top:bottom, left:right] for plane in planes])
        part_CHW = torch.from_numpy(part.astype(np.int16) if part.dtype == np.uint16 else part).to(self.device)
        return _sample(part_CHW.float(), place - [[0, 0, left], [0, 0, top]], size, shrink)


class TensorPictures:
    """images_B3HW in [0, 1]. Gradients flow from the crops to them."""

    def __init__(self, images_B3HW: Tensor) -> None:
        self.height, self.width = int(images_B3HW.shape[2]), int(images_B3HW.shape[3])
        self.device = images_B3HW.device
        self._images = images_B3HW

    def __len__(self) -> int:
        return int(self._images.shape[0])

    def crops(self, index: Sequence[int], squares_N4: Squares, size: int, outside: Outside) -> Tensor:
        if not len(index):
            return torch.zeros(0, 3, size, size, device=self.device)
        crops: list[Tensor] = []
        for number, square in zip(index, squares_N4, strict=True):
            place = picture_from_crop(square)
            shrink, (top, bottom), (left, right) = _part(place, size, self.height, self.width)
            part = self._images[number, :, top:bottom, left:right]
            crops.append(_sample(part, place - [[0, 0, left], [0, 0, top]], size, shrink))
        rgb = torch.stack(crops)
        return _blacken(rgb, squares_N4, self.width, self.height) if outside == "black" else rgb


def picture_from_crop(square: NDArray[np.float64]) -> NDArray[np.float64]:
    """2x3: crop coordinates in [-1, 1] (its outer edges) -> pixels of the picture."""
    centre_x, centre_y, side, angle = square
    cos, sin = np.cos(angle) * side / 2, np.sin(angle) * side / 2
    return np.array([[cos, -sin, centre_x], [sin, cos, centre_y]])


def to_picture(points_NP: NDArray[np.float32], squares_N4: Squares, size: int) -> NDArray[np.float32]:
    """points_NP2 or points_NP3 in pixels of size x size crops (0 = the crop's left edge) -> pixels of the pictures."""
    centre, side, angle = squares_N4[:, None, :2], squares_N4[:, None, 2], squares_N4[:, None, 3]
    x, y = (points_NP[..., 0] / size - 0.5) * side, (points_NP[..., 1] / size - 0.5) * side
    cos, sin = np.cos(angle), np.sin(angle)
    out = points_NP.astype(np.float64) * (side / size)[..., None]
    out[..., 0] = centre[..., 0] + cos * x - sin * y
    out[..., 1] = centre[..., 1] + sin * x + cos * y
    return out.astype(np.float32)


def _part(
    place: NDArray[np.float64], size: int, height: int, width: int
) -> tuple[int, tuple[int, int], tuple[int, int]]:
    """What to cut out before sampling: whole number to average by, rows, columns (never empty)."""
    # So that at most every second (averaged) sample is skipped.
    shrink = max(1, int(2 * np.hypot(*place[:, 0]) / size / 1.25))
    reach = np.abs(place[:, :2]).sum(1) + shrink

    def stretch(centre: float, reach: float, length: int) -> tuple[int, int]:
        start = int(np.clip(np.floor(centre - reach), 0, length - 1))
        return start, int(np.clip(np.ceil(centre + reach) + 1, start + 1, length))

    return shrink, stretch(place[1, 2], reach[1], height), stretch(place[0, 2], reach[0], width)


def _sample(part_CHW: Tensor, place: NDArray[np.float64], size: int, shrink: int) -> Tensor:
    part = part_CHW[None]
    if shrink > 1:
        part = F.avg_pool2d(part, shrink, ceil_mode=True, count_include_pad=False)
    height, width = part.shape[-2:]
    # grid_sample's -1 and 1 are the outer edges of the (averaged) samples.
    grid_from_crop = (place + _HALF) / shrink * [[2 / width], [2 / height]] - [[0, 0, 1]]
    grid_1SS2 = _grids(grid_from_crop[None], size).to(part.device)
    return F.grid_sample(part, grid_1SS2, mode="bilinear", padding_mode="border", align_corners=False)[0]


def _grids(grid_from_crop_N23: NDArray[np.float64], size: int) -> Tensor:
    """What F.affine_grid gives, without its matrix product: N S S 2."""
    transform = grid_from_crop_N23.astype(np.float32)[:, None, None]
    along = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1)[:, None]
    # One row and one column of the grid; their sum is the grid.
    row, column = transform[..., 0] * along, transform[..., 1] * along[:, None] + transform[..., 2]
    return torch.from_numpy(row) + torch.from_numpy(column)


def _blacken(rgb_N3SS: Tensor, squares_N4: Squares, width: int, height: int) -> Tensor:
    scale = np.array([[2 / width], [2 / height]])
    picture = [(picture_from_crop(square) + _HALF) * scale - [[0, 0, 1]] for square in squares_N4]
    inside_NSS = (_grids(np.stack(picture), rgb_N3SS.shape[-1]).abs() < 1).all(-1)
    return rgb_N3SS * inside_NSS[:, None].to(rgb_N3SS.device)
