"""Square, turned cut-outs of pictures, for the networks to look at: from frames' own planes or from RGB tensors.

A square is (centre x, centre y, side, angle): luma pixels of the picture, (0, 0) the centre of the top-left sample,
angle in radians, clockwise as seen, of the square's own x axis. squares_N4 are float64 and carry no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from farm.face.planes import PlanesBatch, to_device
from farm.face.resample import apply, chain, invert, sample, warp
from farm.media.frame import Frame, PictureFormat

Outside = Literal["black", "edge"]
Squares = NDArray[np.float64]


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
    """Frames as they were decoded; each is moved to the device once, and converted where it is asked for."""

    def __init__(self, frames: Sequence[Frame], picture: PictureFormat, device: torch.device) -> None:
        self.width, self.height, self.device = picture.width, picture.height, device
        self._frames = frames
        self._picture = picture
        self._planes: dict[int, PlanesBatch] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def crops(self, index: Sequence[int], squares_N4: Squares, size: int, outside: Outside) -> Tensor:
        if not len(index):
            return torch.zeros(0, 3, size, size, device=self.device)
        crops: list[Tensor] = []
        for number, square in zip(index, squares_N4, strict=True):
            if number not in self._planes:
                self._planes[number] = to_device([self._frames[number]], self._picture, self.device)
            out_from_picture = invert(_picture_from_out(square, size))[None]
            crops.append(sample(self._planes[number], out_from_picture, size, size, quick=True))
        return _cut(torch.cat(crops), squares_N4, self, outside)


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
            channels = self._images[number : number + 1].unbind(1)
            crops.append(warp(channels, _picture_from_out(square, size)[None], size, size, quick=True))
        return _cut(torch.cat(crops), squares_N4, self, outside)


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


def _picture_from_out(square: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """2x3: pixels of a crop of that size (0, 0 the centre of its first) -> pixels of the picture."""
    return chain(picture_from_crop(square), np.array([[2 / size, 0, 1 / size - 1], [0, 2 / size, 1 / size - 1]]))


def _cut(rgb_N3SS: Tensor, squares_N4: Squares, pictures: Pictures, outside: Outside) -> Tensor:
    if outside == "edge":
        return rgb_N3SS
    size = rgb_N3SS.shape[-1]
    out = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).reshape(1, -1, 2).astype(np.float64)
    place = apply(np.stack([_picture_from_out(square, size) for square in squares_N4]), out) + 0.5
    inside = ((place > 0) & (place < [pictures.width, pictures.height])).all(-1).reshape(-1, 1, size, size)
    return rgb_N3SS * torch.from_numpy(inside).to(rgb_N3SS.device)
