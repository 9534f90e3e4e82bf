"""Mesh and iris points of faces whose whereabouts are roughly known (arXiv 1907.06724, 2006.11341)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from farm.face.detect import Detection
from farm.face.nets import FaceNets
from farm.face.pictures import Pictures, Squares
from farm.face.points import ALL, IRIS_EYE_LEFT, IRIS_EYE_RIGHT, MESH

_MARGIN = 1.5  # side of the square the mesh network looks at, in sizes of the face
_EYE_MARGIN = 2.3
_BATCH = 16
# The mesh flattens depth: it reads 12 degrees for a head known to be turned by 15, and 38 for one turned by 45.
_YAW_GAIN = 1.2


@dataclass(frozen=True)
class Landmarks:
    """Points of N faces, in pixels of their pictures; z in the same unit, nearer is smaller, 0 about the head's middle.

    crops: N3SS, what the mesh network saw, RGB in [0, 1], the face upright in the middle two thirds.
    """

    points: NDArray[np.float32]  # N 478 3
    score: NDArray[np.float32]  # N, 0..1: how sure the network is that there is a face
    crops: Tensor


def squares_of(detections: Sequence[Detection]) -> Squares:
    """Where the mesh network should look: upright by the eyes."""
    squares = [
        (
            (face.box[0] + face.box[2]) / 2,
            (face.box[1] + face.box[3]) / 2,
            _MARGIN * face.size,
            np.arctan2(*(face.keypoints[1] - face.keypoints[0])[::-1]),
        )
        for face in detections
    ]
    return np.array(squares, np.float64).reshape(-1, 4)


def squares_about(points_NPD: NDArray[np.float32]) -> Squares:
    """The same from points of the mesh (N 468+ 2+), which tell it more exactly."""
    points = points_NPD[:, :MESH, :2].astype(np.float64)
    across = points[:, 263] - points[:, 33]
    angle = np.arctan2(across[:, 1], across[:, 0])
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, y = cos * points[..., 0] + sin * points[..., 1], cos * points[..., 1] - sin * points[..., 0]
    centre_x, centre_y = (x.min(1) + x.max(1))[:, None] / 2, (y.min(1) + y.max(1))[:, None] / 2
    side = _MARGIN * np.maximum(np.ptp(x, 1), np.ptp(y, 1))
    centre = np.concatenate([cos * centre_x - sin * centre_y, sin * centre_x + cos * centre_y], 1)
    return np.concatenate([centre, np.maximum(side, 2.0)[:, None], angle[:, None]], 1)


@torch.no_grad()
def landmarks(
    nets: FaceNets, pictures: Pictures, index: Sequence[int], squares_N4: Squares, *, looks: int = 2, iris: bool = True
) -> Landmarks:
    """Points of the face in square n of picture index[n].

    Each look after the first uses the square about the points of the one before: the second makes the points nearly
    independent of where the detector put its box. Without `iris`, irises are the means of the eyes' corners.
    """
    points = np.zeros((0, ALL, 3), np.float32)
    score = np.zeros(0, np.float32)
    crops = torch.zeros(0, 3, nets.mesh.size, nets.mesh.size, device=nets.device)
    for look in range(looks):
        if look:
            squares_N4 = squares_about(points)
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for start in range(0, len(index), _BATCH):
            part = slice(start, start + _BATCH)
            parts.append(see(nets, pictures, index[part], squares_N4[part], iris=iris and look == looks - 1))
        if parts:
            points = torch.cat([part[0] for part in parts]).cpu().numpy()
            score = torch.cat([part[1] for part in parts]).cpu().numpy()
            crops = torch.cat([part[2] for part in parts])
    return Landmarks(points, score, crops)


def see(
    nets: FaceNets, pictures: Pictures, index: Sequence[int], squares_N4: Squares, *, iris: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """One look: (points_N,478,3, score_N, crops_N3SS). Gradients flow to the pictures (not through the squares)."""
    crops = pictures.crops(index, squares_N4, nets.mesh.size, "edge")
    raw, logit = nets.mesh(crops)
    points = _to_picture(raw.reshape(-1, MESH, 3), squares_N4, nets.mesh.size)
    score = torch.sigmoid(logit.reshape(-1))
    left, right = points[:, [33, 133]], points[:, [362, 263]]
    if not iris:
        middles = [eye.mean(1, keepdim=True).expand(-1, 5, -1) for eye in (left, right)]
        return torch.cat([points, *middles], 1), score, crops

    squares = np.concatenate([_eye_square(left), _eye_square(right)])
    eyes = pictures.crops([*index, *index], squares, nets.iris.size, "edge")
    count = len(index)
    # The network knows picture-left eyes only: the others are shown to it mirrored.
    contour, rim = nets.iris(torch.cat([eyes[:count], eyes[count:].flip(-1)]))
    both = torch.cat([contour.reshape(-1, 71, 3), rim.reshape(-1, 5, 3)], 1)
    mirrored = torch.cat([nets.iris.size - both[count:, :, :1], both[count:, :, 1:]], 2)
    both = _to_picture(torch.cat([both[:count], mirrored]), squares, nets.iris.size)
    # The eye network's lids replace the mesh's in the picture plane; depth stays the mesh's.
    flat = points[..., :2].clone()
    flat[:, list(IRIS_EYE_LEFT)] = both[:count, :71, :2]
    flat[:, list(IRIS_EYE_RIGHT)] = both[count:, :71, :2]
    points = torch.cat([flat, points[..., 2:]], 2)
    irises = []
    for part, corners in ((both[:count], left), (both[count:], right)):
        depth = corners[..., 2].mean(1)[:, None, None].expand(-1, 5, 1)
        irises.append(torch.cat([part[:, 71:, :2], depth], 2))
    return torch.cat([points, *irises], 1), score, crops


def _eye_square(corners_N23: Tensor) -> Squares:
    corners = corners_N23[..., :2].detach().cpu().numpy().astype(np.float64)
    across = corners[:, 1] - corners[:, 0]
    side = np.maximum(_EYE_MARGIN * np.hypot(across[:, 0], across[:, 1]), 2.0)
    angle = np.arctan2(across[:, 1], across[:, 0])
    return np.concatenate([corners.mean(1), side[:, None], angle[:, None]], 1)


def _to_picture(points_NP3: Tensor, squares_N4: Squares, size: int) -> Tensor:
    squares = torch.from_numpy(squares_N4.astype(np.float32)).to(points_NP3.device)[:, None]
    unit = squares[..., 2] / size
    x, y = (points_NP3[..., 0] - size / 2) * unit, (points_NP3[..., 1] - size / 2) * unit
    cos, sin = torch.cos(squares[..., 3]), torch.sin(squares[..., 3])
    return torch.stack(
        [squares[..., 0] + cos * x - sin * y, squares[..., 1] + sin * x + cos * y, points_NP3[..., 2] * unit], -1
    )


def yaw_deg(points_NPD: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far the head is turned, positive to the picture's right: N 468+ 3 -> N."""
    across = points_NPD[:, 454] - points_NPD[:, 234]
    turned = np.degrees(np.arctan2(across[:, 2], np.hypot(across[:, 0], across[:, 1])))
    return (_YAW_GAIN * turned).astype(np.float32)


def pitch_deg(points_NPD: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far the head leans towards the viewer (forehead nearer than chin); its zero differs by person: N 468+ 3."""
    down = points_NPD[:, 152] - points_NPD[:, 10]
    return np.degrees(np.arctan2(down[:, 2], np.hypot(down[:, 0], down[:, 1]))).astype(np.float32)
