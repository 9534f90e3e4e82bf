"""Coarse looks at pictures, to tell whether what was encoded is what was handed in: never exact, never fooled by much.

A glance is the mean luma of 8 x 8 parts of a picture, read off every few samples, in 8-bit codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Glance = NDArray[np.float32]

PARTS: Final = 8
_SAMPLES: Final = 64  # of a side that are read at most
_OFF: Final = 40.0  # codes by which no encoder misses the mean of a part
_OFF_MEAN: Final = 16.0
_MOVES: Final = 4.0  # codes: a part that changes by so much is seen to move
_BLACK: Final = 24.0


def glance(luma_HW: NDArray[np.unsignedinteger], bit_depth: int) -> Glance:
    """(PARTS, PARTS); parts of a picture smaller than that repeat samples."""
    height, width = luma_HW.shape
    rows, columns = (np.linspace(0, size - 1, PARTS * max(1, min(size, _SAMPLES) // PARTS)) for size in (height, width))
    seen = luma_HW[np.ix_(rows.astype(int), columns.astype(int))].astype(np.float32)
    parts = seen.reshape(PARTS, len(rows) // PARTS, PARTS, len(columns) // PARTS).mean((1, 3))
    return parts / np.float32(2.0 ** (bit_depth - 8))


def differs(given: Glance, found: Glance) -> bool:
    """Whether the second cannot be the first, encoded and decoded again at whatever quality."""
    off = np.abs(given - found)
    return bool(off.max() > _OFF or off.mean() > _OFF_MEAN)


def stands_still(given: Sequence[Glance], found: Sequence[Glance]) -> bool:
    """Whether most of what moves in the first does not in the second."""
    moves = held = 0
    for k in range(1, min(len(given), len(found))):
        change = np.abs(given[k] - given[k - 1]).max()
        if change >= _MOVES:
            moves += 1
            held += bool(np.abs(found[k] - found[k - 1]).max() < change / 4)
    return moves >= 3 and 2 * held > moves


def is_black(given: Glance, full_range: bool) -> bool:
    """A picture without a part that is more than nearly black."""
    return bool(given.max() < _BLACK - (16 if full_range else 0))
