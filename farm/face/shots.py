"""Where one shot ends and the next begins, from thumbnails, frame by frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

THUMB = 32
"""Side of a thumbnail: RGB in [0, 1], 3 THUMB THUMB."""

_CUT = 0.16  # a change that may be a cut
_STAND_OUT = 4.0  # and that many times the shot's usual change
_ALIKE = 0.08
_FLASH = 3  # a shot that ends within so many frames, back at what was before, was a flash of light


def change(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """0 for the same thumbnail, towards 1 for nothing in common: colours that differ, and where they differ."""
    moved = float(np.abs(before - after).mean())
    apart = 0.0
    for a, b in zip(before, after, strict=True):
        # Distance of the sorted values (earth mover's), which a small change of light alters little.
        apart += float(np.abs(np.sort(a, axis=None) - np.sort(b, axis=None)).mean()) / 3
    return min(1.0, moved + apart)


class Shots:
    """Numbers frames by shot, looking only back. A cut stands out of what usually changes in its shot."""

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None
        self._before_cut: NDArray[np.float32] | None = None
        self._shot = 0
        self._made = 0
        self._old_shot = 0
        self._length = 0
        self._usual = 0.0

    def step(self, thumb: NDArray[np.float32]) -> int:
        """The shot of the next frame. After a flash, it is the shot from before the flash."""
        last, self._last = self._last, thumb
        if last is None:
            self._length = 1
            return self._shot
        changed = change(last, thumb)
        back = self._before_cut is not None and self._length <= _FLASH and change(self._before_cut, thumb) < _ALIKE
        if back and changed > _ALIKE:
            self._shot, self._before_cut, self._length = self._old_shot, None, _FLASH + 1
        elif changed > max(_CUT, _STAND_OUT * self._usual):
            self._before_cut, self._old_shot = last, self._shot
            self._made += 1
            self._shot, self._length, self._usual = self._made, 1, 0.0
        else:
            self._usual += (changed - self._usual) * (0.5 if self._length < 4 else 0.1)
            self._length += 1
        return self._shot


def numbered(raw_T: NDArray[np.int32]) -> NDArray[np.int32]:
    """Shot numbers in order from 0, flashes counted to the shot they are in."""
    shot = raw_T.copy()
    starts = {int(number): int(np.flatnonzero(raw_T == number)[0]) for number in np.unique(raw_T)}
    for number, start in sorted(starts.items(), reverse=True):  # a flash's number is higher than its shot's
        end = int(np.flatnonzero(raw_T == number)[-1]) + 1
        shot[start:end] = number
    return np.unique(shot, return_inverse=True)[1].reshape(-1).astype(np.int32)
