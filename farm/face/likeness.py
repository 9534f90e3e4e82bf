"""What a face looks like, coarsely: enough to tell apart the few people of one video, not to recognise anyone.

The look is the upright face and hair at 12 x 12, contrast removed, with its mean colour; the shape is a few distances
between points of the mesh in space, which turning the head changes little. Strong changes of light, a hat, or two
people who look alike defeat it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from farm.errors import Rejected
from farm.face.detect import detect, whole
from farm.face.landmarks import Landmarks, landmarks, squares_of
from farm.face.nets import FaceNets
from farm.face.pictures import FramePictures
from farm.media.frame import Frame, PictureFormat

SAME = 0.35
"""Faces of one video nearer than this may be one person across a cut."""
MAYBE = 0.6
"""The nearest face may be one person's of whom there is another picture, in other light."""

_SIDE = 12
# Nose bridge to: eye corners, nose tip, chin, cheek bones, jaw corners; then widths of eyes, nose and face.
_PAIRS = ((168, 33), (168, 133), (168, 362), (168, 263), (168, 4), (168, 152), (168, 50), (168, 280), (4, 152),
          (33, 133), (362, 263), (33, 263), (133, 362), (98, 327), (234, 454), (172, 397), (105, 33), (334, 263),
          (2, 0), (10, 168))  # fmt: skip


@dataclass(frozen=True)
class Likeness:
    """One face's, or the mean of many views of one person."""

    look: NDArray[np.float32]
    shape: NDArray[np.float32]


def describe(faces: Landmarks) -> list[Likeness]:
    if not len(faces.score):
        return []
    small = F.adaptive_avg_pool2d(faces.crops, _SIDE).cpu().numpy()
    y, x = np.mgrid[0:_SIDE, 0:_SIDE] / (_SIDE - 1) * 2 - 1
    inside = (x**2 / 0.8**2 + y**2 / 0.95**2) < 1
    grey = small.mean(1)[:, inside]
    contrast = np.maximum(grey.std(1, keepdims=True), 1e-3)
    pattern = (grey - grey.mean(1, keepdims=True)) / contrast / np.sqrt(grey.shape[1])
    skin = small[:, :, 4:9, 4:8].mean((2, 3))
    colour = np.log((skin + 0.05) / (skin.mean(1, keepdims=True) + 0.05))
    look = np.concatenate([pattern, colour], 1).astype(np.float32)

    first, second = np.array(_PAIRS).T
    distances = np.linalg.norm(faces.points[:, first] - faces.points[:, second], axis=-1)
    shape = np.log(np.maximum(distances, 1e-3) / np.maximum(distances.mean(1, keepdims=True), 1e-3))
    return [Likeness(a, b.astype(np.float32)) for a, b in zip(look, shape, strict=True)]


def distance(a: Likeness, b: Likeness) -> float:
    """0 for the same view of the same person; two people are mostly beyond SAME."""
    pattern = float(np.linalg.norm(a.look[:-3] - b.look[:-3])) ** 2 / 2
    colour = float(np.abs(a.look[-3:] - b.look[-3:]).sum())
    shape = float(np.sqrt(np.mean((a.shape - b.shape) ** 2)))
    return 0.5 * pattern + 0.5 * colour + 2 * shape


def of(nets: FaceNets, frame: Frame, picture: PictureFormat) -> Likeness:
    """The likeness of the largest face of a reference picture; Rejected("reference_no_face")."""
    pictures = FramePictures([frame], picture, nets.device)
    window = whole(picture.width, picture.height)
    faces = detect(nets, pictures, [0], window, near=True)[0] or detect(nets, pictures, [0], window)[0]
    if not faces:
        raise Rejected("reference_no_face", "no face is found in the reference picture")
    largest = max(faces, key=lambda face: face.size)
    with torch.no_grad():
        return describe(landmarks(nets, pictures, [0], squares_of([largest]), iris=False))[0]
