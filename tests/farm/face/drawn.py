"""Pictures and faces drawn for tests: smooth colour with texture, in any picture format."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from farm.face import points
from farm.face.align import ANCHORS, SIDE
from farm.face.planes import PlanesBatch, chroma_shape, to_device
from farm.face.resample import apply, invert
from farm.media.frame import Frame, PictureFormat

CPU = torch.device("cpu")
FORMATS = [
    PictureFormat(120, 96, 8, 1, 1, "bt601", False),
    PictureFormat(121, 97, 8, 1, 1, "bt709", False),
    PictureFormat(120, 97, 10, 1, 0, "bt709", False),
    PictureFormat(119, 96, 8, 0, 0, "bt709", True),
    PictureFormat(121, 95, 10, 1, 1, "bt2020", False),
]


def textured(picture: PictureFormat, seed: int = 0, index: int = 0) -> Frame:
    """Inside the legal range, smooth waves and a little noise."""
    rng = np.random.default_rng(seed)
    unit = 2 ** (picture.bit_depth - 8)
    dtype = np.uint8 if picture.bit_depth == 8 else np.uint16

    def plane(shape: tuple[int, int], middle: float, swing: float) -> NDArray[np.uint8] | NDArray[np.uint16]:
        y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
        phase = rng.uniform(0, 6, 2)
        waves = np.sin(x * 9 / shape[1] + phase[0]) * np.cos(y * 7 / shape[0] + phase[1])
        return np.round((middle + swing * waves + rng.normal(0, 1.5, shape)) * unit).astype(dtype)

    luma, chroma = (picture.height, picture.width), chroma_shape(picture)
    return Frame(index, index, plane(luma, 125, 45), plane(chroma, 118, 9), plane(chroma, 138, 9))


def batch(picture: PictureFormat, count: int = 1, seed: int = 0) -> PlanesBatch:
    return to_device([textured(picture, seed + i, i) for i in range(count)], picture, CPU)


def square(centre: tuple[float, float], side: float, turn: float = 0.0) -> NDArray[np.float64]:
    """crop_from_frame (2, 3) of a square about `centre`, `side` frame pixels wide, turned by `turn` radians."""
    scale = SIDE / side
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shift = (SIDE - 1) / 2 - linear @ np.array(centre)
    return np.concatenate([linear, shift[:, None]], 1)


def face_points(crop_from_frame: NDArray[np.float64]) -> NDArray[np.float32]:
    """Kept points (K, 2), frame pixels, of an upright face in that square: its oval matters, the rest sits inside."""
    at = np.tile(ANCHORS.mean(0), (points.K, 1))
    around = np.linspace(0, 2 * np.pi, len(points.FACE_OVAL), endpoint=False) - np.pi / 2
    at[list(points.FACE_OVAL)] = np.stack([112 + 66 * np.cos(around), 102 + 82 * np.sin(around)], 1)
    return apply(invert(crop_from_frame), at).astype(np.float32)
