"""One face followed through a video: found or not in every frame, where, and in which unbroken run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from farm.domain.job import FaceSetting
from farm.face.nets import FaceNets
from farm.media.frame import Frame, PictureFormat


@dataclass(frozen=True)
class Track:
    """The chosen face over all T frames. Coordinates are luma pixels of the shown picture: (0, 0) is the centre of
    the top-left sample. Arrays hold zeros where the face is not found. Nothing is smoothed in time."""

    found: NDArray[np.bool_]  # T
    score: NDArray[np.float32]  # T, 0..1, of the face being there and turned less than about 60 degrees
    shot: NDArray[np.int32]  # T, number of the shot
    run: NDArray[np.int32]  # T, -1 without the face, else number of its run: consecutive frames of one shot
    points: NDArray[np.float32]  # T K 2, see farm.face.points
    anchors: NDArray[np.float32]  # T 3 2: left eye, right eye, inner mouth (left and right of the picture)
    yaw_deg: NDArray[np.float32]  # T, positive: the face looks to the picture's right
    best_frame: int  # most frontal, sharp, open-eyed: the appearance source
    faces_seen: int  # how many different faces the video has


@dataclass(frozen=True)
class Likeness:
    """What one person looks like, coarsely; compare with `farm.face.likeness.distance`."""

    shape: NDArray[np.float32]
    look: NDArray[np.float32]


class Tracker:
    """Streaming: frames in order, in batches of any length; memory is bounded but for the track itself.

    The result does not depend on how the frames are split over `add` calls.
    """

    def __init__(
        self, nets: FaceNets, picture: PictureFormat, choice: FaceSetting, reference: Likeness | None = None
    ) -> None:
        """`reference` is needed when choice.choice is REFERENCE: farm.face.likeness.of(nets, frame, picture)."""
        raise NotImplementedError

    def add(self, frames: Sequence[Frame]) -> None:
        raise NotImplementedError

    def finish(self) -> Track:
        """Rejected: no_face, face_point_missed, face_frame_missing, reference_not_matched."""
        raise NotImplementedError
