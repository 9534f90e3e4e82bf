"""All faces of a few consecutive frames, with their points: where to look, and how to hold on to a face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from farm.face.detect import Detection, around, detect, merge, tiles, whole
from farm.face.landmarks import Landmarks, landmarks, pitch_deg, squares_about, squares_of, yaw_deg
from farm.face.likeness import Likeness, describe
from farm.face.nets import FaceNets
from farm.face.people import Box, overlap, side
from farm.face.pictures import FramePictures
from farm.face.points import EYE_LEFT, EYE_RIGHT, MESH, kept

WINDOW = 16
"""Frames looked at together."""

_KEY = 8  # every so many frames all sizes of faces are looked for
_SURE = 0.125  # of the picture's longer side: the near finder sees faces from this size on
_TILE = 640  # px: in tiles of this side faces of 30 px are found
_MOST = 6  # faces kept of a frame
_PRESENT = 0.5
_CARRIED = 12  # frames that points may lead on to points without the finder's word


@dataclass(frozen=True)
class Face:
    """One face of one frame, pixels."""

    box: Box  # about the mesh's points
    points: NDArray[np.float32]  # 478 3
    score: float
    yaw_deg: float
    pitch_deg: float
    openness: float  # height of the eyes over their width
    sharpness: float
    likeness: Likeness
    carried: int = 0  # frames since the finder last saw it


class Finder:
    """Holds the faces of the last frame, so that one which the finder misses for a moment is followed by its points."""

    def __init__(self, nets: FaceNets, *, thorough: bool = False) -> None:
        """thorough: look for small faces even where there are large ones."""
        self._nets = nets
        self._thorough = thorough
        self._last: list[Face] = []

    def find(
        self,
        pictures: FramePictures,
        shot: Sequence[int],
        last_shot: int,
        detections: Sequence[Sequence[Detection]],
    ) -> list[list[Face]]:
        """Faces of WINDOW frames or fewer, that follow those of the call before, from what `detect` found in them.
        `shot` of each, and of the last."""
        count = len(pictures)
        index = [t for t, found in enumerate(detections) for _ in found]
        squares = squares_of([face for found in detections for face in found])
        faces = self._faces(landmarks(self._nets, pictures, index, squares), [0] * len(index))
        by_frame: list[list[Face]] = [[] for _ in range(count)]
        for t, face in zip(index, faces, strict=True):
            if face.score >= _PRESENT and all(overlap(face.box, other.box) < 0.5 for other in by_frame[t]):
                by_frame[t].append(face)
        for t in range(count):
            before = by_frame[t - 1] if t else self._last
            if shot[t] == (shot[t - 1] if t else last_shot):
                by_frame[t] += self._carry(pictures, t, before, by_frame[t])
        self._last = by_frame[-1]
        return by_frame

    def whole(self, pictures: FramePictures) -> Tensor:
        """The pictures as the near finder sees them: N3SS, the whole of each."""
        window = np.repeat(whole(pictures.width, pictures.height), len(pictures), 0)
        return pictures.crops(range(len(pictures)), window, self._nets.near.size, "black")

    def detect(self, pictures: FramePictures, crops_N3SS: Tensor, shot: Sequence[int]) -> list[list[Detection]]:
        """Where faces are in each of WINDOW frames or fewer, whose `whole` is given; knows nothing of other windows."""
        count, width, height = len(pictures), pictures.width, pictures.height
        longest = max(width, height)
        window = whole(width, height)
        found = detect(self._nets, pictures, range(count), np.repeat(window, count, 0), near=True, crops=crops_N3SS)
        keys = [t for t in range(count) if t % _KEY == 0 or shot[t] != shot[t - 1]]
        wide = detect(self._nets, pictures, keys, np.repeat(window, len(keys), 0))
        small = [t for t in keys if self._thorough or not any(_is_sure(face, longest) for face in found[t])]
        if longest > _TILE and small:
            grid = tiles(width, height, max(_TILE, longest / 3))
            index = [t for t in small for _ in grid]
            tiled = detect(self._nets, pictures, index, np.tile(grid, (len(small), 1)))
            wide = [[*a, *b] for a, b in zip(wide, tiled, strict=True)]
        for t in keys:
            found[t] = merge([*found[t], *wide[t]])

        index, windows = [], []
        key = 0
        for t in range(count):
            if t in keys:
                key = t
                continue
            for face in found[key]:
                if face.size < 1.5 * _SURE * longest:
                    index.append(t)
                    windows.append(around(face, 5.0))
        if windows:
            again = detect(self._nets, pictures, index, np.concatenate(windows), near=True)
            found = [merge([*a, *b]) if b else a for a, b in zip(found, again, strict=True)]
        return [sorted(faces, key=lambda face: -face.size)[:_MOST] for faces in found]

    def _carry(self, pictures: FramePictures, t: int, before: list[Face], now: list[Face]) -> list[Face]:
        """Faces of the frame before that the finder did not see now, if the mesh still sees them."""
        lost = [
            face
            for face in before
            if face.carried < _CARRIED and all(overlap(face.box, other.box) < 0.25 for other in now)
        ]
        if not lost:
            return []
        squares = squares_about(np.stack([face.points for face in lost]))
        seen = landmarks(self._nets, pictures, [t] * len(lost), squares)
        faces = self._faces(seen, [face.carried + 1 for face in lost])
        return [
            face
            for face, old in zip(faces, lost, strict=True)
            if face.score >= _PRESENT
            and overlap(face.box, old.box) > 0.4
            and 0.8 < side(face.box) / side(old.box) < 1.25
            and all(overlap(face.box, other.box) < 0.25 for other in now)
        ]

    def _faces(self, seen: Landmarks, carried: Sequence[int]) -> list[Face]:
        if not len(seen.score):
            return []
        yaw, pitch = yaw_deg(seen.points), pitch_deg(seen.points)
        points = kept(seen.points)[..., :2]
        openness = (_openness(points[:, EYE_LEFT]) + _openness(points[:, EYE_RIGHT])) / 2
        grey = seen.crops.mean(1)[:, 32:160, 32:160]
        edges = (grey[:, 1:] - grey[:, :-1]).abs().mean((1, 2)) + (grey[:, :, 1:] - grey[:, :, :-1]).abs().mean((1, 2))
        sharpness = edges.cpu().numpy()
        low, high = seen.points[:, :MESH, :2].min(1), seen.points[:, :MESH, :2].max(1)
        likenesses = describe(seen)
        return [
            Face(
                (float(low[n, 0]), float(low[n, 1]), float(high[n, 0]), float(high[n, 1])),
                seen.points[n],
                float(seen.score[n]),
                float(yaw[n]),
                float(pitch[n]),
                float(openness[n]),
                float(sharpness[n]),
                likenesses[n],
                carried[n],
            )
            for n in range(len(seen.score))
        ]


def _is_sure(face: Detection, longest: int) -> bool:
    return face.size >= _SURE * longest


def _openness(eye_N162: NDArray[np.float32]) -> NDArray[np.float32]:
    width = np.linalg.norm(eye_N162[:, 0] - eye_N162[:, 8], axis=-1)
    height = np.linalg.norm(eye_N162[:, 3:6].mean(1) - eye_N162[:, 11:14].mean(1), axis=-1)
    return height / np.maximum(width, 1e-3)
