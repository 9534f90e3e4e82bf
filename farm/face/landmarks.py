"""Mesh and iris points of faces whose whereabouts are roughly known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Landmarks:
    """Points of N faces, in pixels of their pictures; z in the same unit, smaller is nearer, 0 about the head's middle."""

    points: NDArray[np.float32]  # N 478 3
    score: NDArray[np.float32]  # N, 0..1: how sure the network is that there is a face
