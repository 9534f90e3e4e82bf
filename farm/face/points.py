"""Which points of the face mesh are kept, and what they mean.

The mesh has 468 points, the irises add 5 each: 478. A track keeps `KEPT` of them. Left and right are the picture's
(the person's right eye is the picture's left one). All index tuples but KEPT and IBUG_68 index the kept points.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

MESH = 468
ALL = 478  # mesh, then image-left iris (centre, then 4 on its rim), then image-right iris

_OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
         152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)  # fmt: skip
_LIPS_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
_LIPS_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
_EYE_LEFT = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
_EYE_RIGHT = (362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382)
_BROW_LEFT = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
_BROW_RIGHT = (336, 296, 334, 293, 300, 276, 283, 282, 295, 285)
_NOSE = (168, 197, 5, 4, 98, 97, 2, 326, 327)
_CHEEKS = (50, 280, 205, 425, 199, 151)  # left, right, left low, right low, chin front, forehead
_IRIS_LEFT = (468, 469, 470, 471, 472)
_IRIS_RIGHT = (473, 474, 475, 476, 477)

_GROUPS = (_OVAL, _LIPS_OUTER, _LIPS_INNER, _EYE_LEFT, _EYE_RIGHT, _BROW_LEFT, _BROW_RIGHT, _NOSE, _CHEEKS,
           _IRIS_LEFT, _IRIS_RIGHT)  # fmt: skip

KEPT: tuple[int, ...] = tuple(index for group in _GROUPS for index in group)
"""Rows of the 478 that a track keeps, in order."""
K = len(KEPT)

_starts = np.cumsum([0, *(len(group) for group in _GROUPS)])
_ranges = tuple(tuple(range(int(a), int(b))) for a, b in pairwise(_starts))
FACE_OVAL, LIPS_OUTER, LIPS_INNER, EYE_LEFT, EYE_RIGHT, BROW_LEFT, BROW_RIGHT, NOSE, CHEEKS, IRIS_LEFT, IRIS_RIGHT = (
    _ranges
)
"""Closed outlines, in order around: FACE_OVAL (from the top, clockwise as seen), LIPS_*, EYE_*, BROW_*."""
CHIN = FACE_OVAL[17:20]
JAW = FACE_OVAL[15:22]
FEATURES = (*EYE_LEFT, *EYE_RIGHT, *BROW_LEFT, *BROW_RIGHT, *NOSE, *LIPS_OUTER, *CHIN)
"""What must never be seen half old and half new."""

IBUG_68: tuple[int, ...] = (
    127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356,  # jaw
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,  # brows
    168, 197, 5, 4, 98, 97, 2, 326, 327,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # lips, outer
    78, 81, 13, 311, 308, 402, 14, 178,  # lips, inner
)  # fmt: skip
"""Mesh points nearest to the 68 of iBUG's scheme, in its order. The jaw line follows the mesh's oval, which sits a
little inside iBUG's on a turned head; eyes, brows, nose and lips coincide within a pixel or two at 224 px."""


# The eye network's 71 contour points as points of the mesh: lids, then rings outwards, then the brow.
IRIS_EYE_LEFT: tuple[int, ...] = (
    33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173,
    130, 25, 110, 24, 23, 22, 26, 112, 243, 247, 30, 29, 27, 28, 56, 190,
    226, 31, 228, 229, 230, 231, 232, 233, 244, 113, 225, 224, 223, 222, 221, 189,
    35, 124, 46, 53, 52, 65, 143, 111, 117, 118, 119, 120, 121, 128, 245, 156, 70, 63, 105, 66, 107, 55, 193,
)  # fmt: skip
IRIS_EYE_RIGHT: tuple[int, ...] = (
    263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398,
    359, 255, 339, 254, 253, 252, 256, 341, 463, 467, 260, 259, 257, 258, 286, 414,
    446, 261, 448, 449, 450, 451, 452, 453, 464, 342, 445, 444, 443, 442, 441, 413,
    265, 353, 276, 283, 282, 295, 372, 340, 346, 347, 348, 349, 350, 357, 465, 383, 300, 293, 334, 296, 336, 285, 417,
)  # fmt: skip


def points68(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., 478, D) -> (..., 68, D)."""
    return landmarks[..., IBUG_68, :]


def kept(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., 478, D) -> (..., K, D)."""
    return landmarks[..., KEPT, :]


def anchors(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Left-eye, right-eye and inner-mouth means of the 68-point scheme: (..., 478, 2+) -> (..., 3, 2)."""
    points = points68(landmarks)[..., :2]
    return np.stack(
        [points[..., 36:42, :].mean(-2), points[..., 42:48, :].mean(-2), points[..., 60:68, :].mean(-2)], -2
    )
