"""Where the networks' square lies in each frame, and what is seen in it.

The square is the official one [weights; PDFGC.md section 3]: eye means and inner-mouth mean are brought to
(87, 59), (137, 59), (112, 120) of a 224 px picture by a similarity; of that, rows 0:192 and columns 16:208 are scaled
to 224 px. `crop_from_frame` maps frame pixels to pixels of that final 224 px square; other sizes are scalings of it.
Pixel (0, 0) is the centre of the first sample on both sides.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from farm.face.planes import PlanesBatch
from farm.face.resample import apply, chain, invert, sample
from farm.face.steady import line_fit, reach, steady

SIDE = 224
"""Pixels of the square in crop coordinates."""
_TEMPLATE = np.array([[87.0, 59.0], [137.0, 59.0], [112.0, 120.0]])
ANCHORS = (_TEMPLATE - np.array([16.0, 0.0]) + 0.5) * (SIDE / 192) - 0.5
"""Where the three anchors of a face are brought to, crop pixels."""
FACE = (112.5, 99.5, 253.0)
"""Centre and side of the mesh network's square about a face, crop pixels."""
_BLOCK = 4096  # frames steadied at a time


def crop_from_frame(
    anchors_T32: NDArray[np.float32], run_T: NDArray[np.int32], frames_per_s: float = 25.0
) -> NDArray[np.float64]:
    """Similarities (T, 2, 3), least squares per frame, then steadied in time within each run.

    Frames without a face (run -1) hold the nearest frame's transform that has one, so that every transform is usable;
    with no face at all they are the identity.
    """
    faces = np.flatnonzero(run_T >= 0)
    out = np.broadcast_to(np.eye(2, 3), (len(run_T), 2, 3)).copy()
    if len(faces) == 0:
        return out
    centre_T2, turn_T = _fit(anchors_T32.astype(np.float64))
    for run in np.unique(run_T[faces]):
        of_run = np.flatnonzero(run_T == run)
        size = float(np.median(1 / np.abs(turn_T[of_run])))  # frame pixels to a crop pixel
        centre = steady(centre_T2[of_run], frames_per_s, floor=0.1 * size)
        # Speech moves the mouth's mean and with it scale and angle: they are held longer than the place.
        log_scale = steady(np.log(np.abs(turn_T[of_run]))[:, None], frames_per_s, floor=2e-3, long_s=0.24)
        angle = steady(np.unwrap(np.angle(turn_T[of_run]))[:, None], frames_per_s, floor=2e-3, long_s=0.24)
        out[of_run] = _similarity(centre, np.exp(log_scale[:, 0] + 1j * angle[:, 0]))
    after = np.searchsorted(faces, np.arange(len(run_T))).clip(0, len(faces) - 1)
    before = (after - 1).clip(0)
    here = np.arange(len(run_T))
    nearest = np.where(np.abs(faces[after] - here) < np.abs(faces[before] - here), faces[after], faces[before])
    return out[nearest]


def steady_points(
    points_TK2: NDArray[np.float32],
    run_T: NDArray[np.int32],
    crop_from_frame_T23: NDArray[np.float64],
    frames_per_s: float = 25.0,
) -> NDArray[np.float32]:
    """The points with their tremble against the steadied square taken out, for masks that do not flicker."""
    sigma = 0.12 * frames_per_s
    out_TK2 = points_TK2.copy()
    for run in np.unique(run_T[run_T >= 0]):
        of_run = np.flatnonzero(run_T == run)
        # In blocks: the doubles of a whole long video, several times over, would be gigabytes.
        for at in range(0, len(of_run), _BLOCK):
            near = of_run[max(0, at - reach(sigma)) : at + _BLOCK + reach(sigma)]
            here = of_run[at : at + _BLOCK]
            in_crop = apply(crop_from_frame_T23[near], points_TK2[near].astype(np.float64))
            held = line_fit(in_crop.reshape(len(near), -1), sigma).reshape(in_crop.shape)[np.isin(near, here)]
            out_TK2[here] = apply(invert(crop_from_frame_T23[here]), held)
    return out_TK2


def _fit(anchors_T32: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.complex128]]:
    """Least squares per frame: the anchors' mean, and the complex factor that turns and scales it to the template."""
    centre = anchors_T32.mean(1)
    source = _complex(anchors_T32 - centre[:, None])
    wanted = _complex(ANCHORS - ANCHORS.mean(0))
    power = np.maximum((np.abs(source) ** 2).sum(1), 1e-12)
    return centre, (source.conj() * wanted).sum(1) / power


def _similarity(centre_T2: NDArray[np.float64], turn_T: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Transforms that bring `centre` to the template's mean, turning and scaling by `turn`."""
    linear = np.stack([np.stack([turn_T.real, -turn_T.imag], -1), np.stack([turn_T.imag, turn_T.real], -1)], -2)
    shift = ANCHORS.mean(0)[:, None] - linear @ centre_T2[..., None]
    return np.concatenate([linear, shift], -1)


def _complex(points: NDArray[np.float64]) -> NDArray[np.complex128]:
    return points[..., 0] + 1j * points[..., 1]


def scaled(crop_from_frame_B23: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The same square at `size` pixels a side."""
    ratio = size / SIDE
    return chain(np.array([[ratio, 0.0, ratio / 2 - 0.5], [0.0, ratio, ratio / 2 - 0.5]]), crop_from_frame_B23)


def crop(planes: PlanesBatch, crop_from_frame_B23: NDArray[np.float64], size: int) -> torch.Tensor:
    """The square of each frame as the networks want it: R'G'B' (B, 3, size, size) float32 in [-1, 1]."""
    return sample(planes, scaled(crop_from_frame_B23, size), size, size) * 2 - 1
