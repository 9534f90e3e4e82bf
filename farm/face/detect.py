"""Find faces: boxes, six keypoints and a score, many sizes, many pictures at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Detection:
    """One found face. Pixels of the shown picture, (0, 0) the centre of the top-left sample."""

    score: float
    box: NDArray[np.float32]  # 4: left, top, right, bottom; forehead to chin
    keypoints: NDArray[np.float32]  # 6 2: left eye, right eye (of the picture), nose tip, mouth, left ear, right ear
