"""Find faces: boxes, six keypoints and a score, many sizes, many pictures at once (BlazeFace, arXiv 1907.05047).

A network sees a square window of a picture; which windows to look at is the caller's choice: `whole` for faces that
are not small, `tiles` for those that are, `around` for a face whose whereabouts are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from farm.face.graph import GraphNet
from farm.face.nets import FaceNets
from farm.face.pictures import Pictures, Squares, to_picture

MIN_SCORE = 0.5
_OVERLAP = 0.3  # boxes of one face overlap more than this


@dataclass(frozen=True)
class Detection:
    """One found face. Pixels of the shown picture, (0, 0) the centre of the top-left sample."""

    score: float
    box: NDArray[np.float32]  # 4: left, top, right, bottom; brows to chin
    keypoints: NDArray[np.float32]  # 6 2: left eye, right eye (of the picture), nose tip, mouth, left ear, right ear

    @property
    def size(self) -> float:
        return float(max(self.box[2] - self.box[0], self.box[3] - self.box[1]))


def whole(width: int, height: int) -> Squares:
    """The one window that holds all of the picture."""
    return np.array([[(width - 1) / 2, (height - 1) / 2, max(width, height), 0.0]])


def tiles(width: int, height: int, side: float) -> Squares:
    """Windows of that side over the picture; neighbours overlap by a quarter or more."""

    def centres(length: int) -> NDArray[np.float64]:
        if length <= side:
            return np.array([(length - 1) / 2])
        count = int(np.ceil((length - side) / (0.75 * side))) + 1
        return np.linspace((side - 1) / 2, length - 1 - (side - 1) / 2, count)

    grid = [(x, y, side, 0.0) for y in centres(height) for x in centres(width)]
    return np.array(grid)


def around(detection: Detection, times: float = 4.0) -> Squares:
    """A window `times` the face's size about it."""
    left, top, right, bottom = detection.box
    return np.array([[(left + right) / 2, (top + bottom) / 2, times * detection.size, 0.0]])


@torch.no_grad()
def detect(
    nets: FaceNets,
    pictures: Pictures,
    index: Sequence[int],
    windows_N4: Squares,
    *,
    near: bool = False,
    min_score: float = MIN_SCORE,
    crops: torch.Tensor | None = None,
) -> list[list[Detection]]:
    """Faces of each picture, seen in any of its windows (window n looks at picture index[n]), best first.

    Every face is told once. `near` takes the network for faces that fill a good part of the window. crops: of the
    windows, black outside and of the network's size, where they are at hand.
    """
    net = nets.near if near else nets.far
    anchors = _NEAR_ANCHORS if near else _FAR_ANCHORS
    if crops is None:
        crops = pictures.crops(index, windows_N4, net.size, "black")
    candidates: list[list[Detection]] = [[] for _ in range(len(pictures))]
    for start in range(0, len(index), 16):
        stop = min(start + 16, len(index))
        found = _look(net, anchors, crops[start:stop], windows_N4[start:stop], min_score)
        for number, faces in zip(index[start:stop], found, strict=True):
            candidates[number] += faces
    return [merge(faces) for faces in candidates]


def merge(candidates: Sequence[Detection]) -> list[Detection]:
    """Non-maximum suppression that averages, by score, the boxes of one face instead of dropping all but one."""
    rest = sorted(candidates, key=lambda face: -face.score)
    faces: list[Detection] = []
    while rest:
        boxes = np.stack([face.box for face in rest])
        same = overlap(boxes[0], boxes) > _OVERLAP
        same[0] = True
        group = [face for face, is_same in zip(rest, same, strict=True) if is_same]
        weight = np.array([face.score for face in group], np.float32)
        weight /= weight.sum()
        box = np.einsum("n,nk->k", weight, np.stack([face.box for face in group]))
        keypoints = np.einsum("n,nkd->kd", weight, np.stack([face.keypoints for face in group]))
        faces.append(Detection(group[0].score, box, keypoints))
        rest = [face for face, is_same in zip(rest, same, strict=True) if not is_same]
    return faces


def overlap(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of box_4 with each of boxes_N4."""
    width = np.minimum(box[2], boxes[:, 2]) - np.maximum(box[0], boxes[:, 0])
    height = np.minimum(box[3], boxes[:, 3]) - np.maximum(box[1], boxes[:, 1])
    common = np.clip(width, 0, None) * np.clip(height, 0, None)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    area = (box[2] - box[0]) * (box[3] - box[1])
    return common / np.maximum(area + areas - common, 1e-6)


def _look(
    net: GraphNet, anchors_A2: NDArray[np.float32], crops_N3SS: torch.Tensor, windows_N4: Squares, min_score: float
) -> list[list[Detection]]:
    raw_NA16, logits_NA1 = net(crops_N3SS * 2 - 1)
    scores_NA = torch.sigmoid(logits_NA1[..., 0].clamp(-80, 80)).cpu().numpy()
    raw = raw_NA16.cpu().numpy()
    faces: list[list[Detection]] = []
    for n in range(len(windows_N4)):
        hits = np.flatnonzero(scores_NA[n] >= min_score)
        hits = hits[np.argsort(-scores_NA[n, hits], kind="stable")][:200]
        values = raw[n, hits].reshape(-1, 8, 2)  # centre, size, six keypoints
        values[:, [0, 2, 3, 4, 5, 6, 7]] += anchors_A2[hits, None] * net.size
        corners = np.stack([values[:, 0] - values[:, 1] / 2, values[:, 0] + values[:, 1] / 2], 1)
        points = np.concatenate([corners, values[:, 2:]], 1)
        placed = to_picture(points, np.repeat(windows_N4[n : n + 1], len(hits), 0), net.size)
        faces.append(
            [
                Detection(float(score), p[:2].reshape(4), p[2:])
                for score, p in zip(scores_NA[n, hits], placed, strict=True)
            ]
        )
    return faces


def _anchors(layers: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """Centres of the grid cells, in parts of the window: for each (cells a side, boxes a cell)."""
    rows: list[NDArray[np.float64]] = []
    for cells, boxes in layers:
        y, x = np.mgrid[0:cells, 0:cells]
        centres = (np.stack([x, y], -1).reshape(-1, 2) + 0.5) / cells
        rows.append(np.repeat(centres, boxes, 0))
    return np.concatenate(rows).astype(np.float32)


_NEAR_ANCHORS = _anchors([(16, 2), (8, 6)])
_FAR_ANCHORS = _anchors([(48, 1)])
