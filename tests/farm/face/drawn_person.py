"""A drawn face that the finder and the mesh take for one: ovals of paint, no person."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from farm.media.frame import Frame, PictureFormat

SKINS = ((0.85, 0.66, 0.55), (0.50, 0.34, 0.26))
HAIRS = ((0.25, 0.15, 0.10), (0.75, 0.60, 0.30))
BACKGROUNDS = ((0.35, 0.45, 0.60), (0.75, 0.72, 0.55))


def canvas(width: int, height: int, background: int = 0) -> NDArray[np.float32]:
    """height width 3 in [0, 1], a soft gradient."""
    picture = np.ones((height, width, 3), np.float32) * np.array(BACKGROUNDS[background], np.float32)
    return picture * np.linspace(0.85, 1.1, width, dtype=np.float32)[:, None]


def draw(picture: NDArray[np.float32], x: float, y: float, size: float, person: int = 0, mouth: float = 0.1) -> None:
    """Paint a face, `size` pixels from brow to chin, its middle at (x, y); in place. mouth: 0 shut to 1 open."""
    rows, columns = np.mgrid[0 : picture.shape[0], 0 : picture.shape[1]].astype(np.float32)
    u, v = (columns - x) / size, (rows - y) / size
    skin, hair = np.array(SKINS[person], np.float32), np.array(HAIRS[person], np.float32)
    light = np.clip(1.05 - 0.25 * u**2 * 4 - 0.15 * u - 0.1 * v, 0.4, 1.2)[..., None]

    def oval(cx: float, cy: float, rx: float, ry: float, colour: NDArray[np.float32], soft: float = 0.02) -> None:
        inside = 1 - np.sqrt(((u - cx) / rx) ** 2 + ((v - cy) / ry) ** 2)
        share = np.clip(inside * min(rx, ry) / soft + 0.5, 0, 1)[..., None]
        picture[...] = picture * (1 - share) + colour * share

    oval(0, -0.25, 0.58, 0.68, hair)
    oval(0, 0.95, 0.25, 0.5, skin * 0.75)
    oval(0, 1.35, 0.9, 0.5, np.array([0.3, 0.3, 0.4], np.float32))
    oval(0, 0, 0.47, 0.66, skin * light)
    for side in (-1, 1):
        oval(side * 0.2, -0.08, 0.13, 0.075, skin * 0.75 * light, 0.05)
        oval(side * 0.2, -0.07, 0.095, 0.042, np.array([0.95, 0.94, 0.92], np.float32), 0.01)
        oval(side * 0.2, -0.07, 0.042, 0.042, np.array([0.25, 0.17, 0.12], np.float32), 0.01)
        oval(side * 0.2, -0.07, 0.02, 0.02, np.array([0.02, 0.02, 0.02], np.float32), 0.01)
        oval(side * 0.21, -0.19, 0.13, 0.025, hair * 0.9, 0.03)
        oval(side * 0.045, 0.2, 0.035, 0.02, skin * 0.45, 0.02)
    oval(0.03, 0.08, 0.05, 0.16, skin * 1.08 * light, 0.08)
    oval(0, 0.16, 0.085, 0.05, skin * 1.05 * light, 0.05)
    oval(0, 0.225, 0.09, 0.012, skin * 0.65 * light, 0.03)
    oval(0, 0.37, 0.16, 0.045 + 0.05 * mouth, np.array([0.68, 0.32, 0.30], np.float32), 0.03)
    oval(0, 0.37, 0.13, 0.008 + 0.05 * mouth, np.array([0.25, 0.08, 0.08], np.float32), 0.015)


def frame(picture: NDArray[np.float32], index: int = 0) -> Frame:
    """As planes: 4:2:0, 8 bits, BT.601, limited range."""
    r, g, b = np.moveaxis(np.clip(picture, 0, 1).astype(np.float64), -1, 0)
    luma = 0.299 * r + 0.587 * g + 0.114 * b

    def halved(plane: NDArray[np.float64]) -> NDArray[np.uint8]:
        height, width = plane.shape
        mean = plane.reshape(height // 2, 2, width // 2, 2).mean((1, 3))
        return np.round(128 + 224 * mean).astype(np.uint8)

    return Frame(
        index, index, np.round(16 + 219 * luma).astype(np.uint8), halved((b - luma) / 1.772), halved((r - luma) / 1.402)
    )


def picture_format(width: int, height: int) -> PictureFormat:
    return PictureFormat(width, height, 8, 1, 1, "bt601", False)
