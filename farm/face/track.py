"""One face followed through a video: found or not in every frame, where, and in which unbroken run."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray

from farm.domain.job import FaceChoice, FaceSetting
from farm.errors import Rejected
from farm.face import points as layout
from farm.face import runs, speaker, speaking
from farm.face.detect import Detection
from farm.face.finder import WINDOW, Face, Finder
from farm.face.likeness import MAYBE, Likeness
from farm.face.nets import FaceNets
from farm.face.people import Linker, Person, Seen, at_point, centre, people, side
from farm.face.pictures import FramePictures
from farm.face.shots import THUMB, Shots, numbered
from farm.face.speaker import Sound
from farm.media.frame import Frame, PictureFormat

_SCALARS = 9  # box 4, score, yaw, pitch, openness, sharpness
_SMALL = _SCALARS + 6  # and the anchors


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
class Looked:
    """Consecutive frames from number `first` on: the shot of each and of the frame before, the faces found in each."""

    first: int
    pictures: FramePictures
    shot: Sequence[int]
    last_shot: int
    found: Sequence[Sequence[Detection]]


class Tracker:
    """Streaming: frames in order, in batches of any length; memory is bounded but for the track itself.

    The result does not depend on how the frames are split over `add` calls. Until the end nobody knows which face is
    the chosen one, so the points of all faces wait in a temporary file (1.4 kB a face and frame).

    Within a shot a face is followed by place; after a loss or a cut it is the same person only if it looks alike
    (farm.face.likeness says how far that can be trusted). `auto` takes the person who speaks, where the
    video has sound and several faces (farm.face.speaker), else the one with the most of: frames, size, nearness to the
    middle. Faces turned beyond about 60 degrees count as not found.
    """

    def __init__(
        self, nets: FaceNets, picture: PictureFormat, choice: FaceSetting, reference: Likeness | None = None
    ) -> None:
        """`reference` is needed when choice.choice is REFERENCE: farm.face.likeness.of(nets, frame, picture)."""
        if choice.choice is FaceChoice.REFERENCE and reference is None:
            raise ValueError("choice by reference needs the reference's likeness")
        self._nets = nets
        self._picture = picture
        self._choice = choice
        self._reference = reference
        self._finder = Finder(nets, thorough=choice.choice is FaceChoice.POINT)
        self._shots = Shots()
        self._linker = Linker()
        self._waiting: list[Frame] = []
        self._shot: array[int] = array("i")
        self._rows = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the tracker
        self._row_count = 0
        self._near_point: list[tuple[int, tuple[float, float, float, float], int]] = []

    def add(self, frames: Sequence[Frame]) -> None:
        """Frames that follow those added before; their own `index` is not looked at."""
        for looked in self.look(frames):
            self.follow(looked)

    def look(self, frames: Sequence[Frame], *, is_last: bool = False) -> Iterator[Looked]:
        """The first half of `add`, for a thread of its own: what it yields is to be handed to `follow`, in order.

        is_last: no frames follow, so that none are kept back to be looked at together with the next ones.
        """
        self._waiting += frames
        while len(self._waiting) >= WINDOW or (is_last and self._waiting):
            window, self._waiting = self._waiting[:WINDOW], self._waiting[WINDOW:]
            yield self._look(window)

    def finish(self, sound: Callable[[], Sound | None] = lambda: None) -> Track:
        """sound: the video's own, asked for only where it can tell which of several faces is meant.

        Rejected: no_face, face_frame_missing, face_point_missed, reference_not_matched.
        """
        for looked in self.look([], is_last=True):
            self.follow(looked)
        try:
            return self._track(sound)
        finally:
            self._rows.close()

    def _look(self, frames: Sequence[Frame]) -> Looked:
        pictures = FramePictures(frames, self._picture, self._nets.device)
        first = len(self._shot)
        crops = self._finder.whole(pictures)
        thumbs = F.adaptive_avg_pool2d(crops, THUMB).cpu().numpy()
        last_shot = self._shot[-1] if self._shot else -1
        shot = [self._shots.step(thumb) for thumb in thumbs]
        self._shot.extend(shot)
        return Looked(first, pictures, shot, last_shot, self._finder.detect(pictures, crops, shot))

    def follow(self, looked: Looked) -> None:
        """The second half of `add`."""
        first, shot = looked.first, looked.shot
        for t, faces in enumerate(self._finder.find(looked.pictures, shot, looked.last_shot, looked.found)):
            seen = [Seen(face.box, face.likeness, self._keep(face), self._weight(face)) for face in faces]
            self._linker.step(first + t, shot[t], seen)
            if self._choice.choice is FaceChoice.POINT and abs(first + t - self._choice.frame) <= 2:
                self._near_point += [(first + t, face.box, face.row) for face in seen]

    def _keep(self, face: Face) -> int:
        scalars = [*face.box, face.score, face.yaw_deg, face.pitch_deg, face.openness, face.sharpness]
        points = layout.kept(face.points)[:, :2].reshape(-1)
        row = np.concatenate([np.array(scalars), layout.anchors(face.points).reshape(-1), points])
        self._rows.write(row.astype(np.float32).tobytes())
        self._row_count += 1
        return self._row_count - 1

    def _weight(self, face: Face) -> float:
        (x, y), picture = centre(face.box), self._picture
        off = np.hypot((x / picture.width - 0.5) * 2, (y / picture.height - 0.5) * 2)
        turned = float(runs.turned(np.array([face.yaw_deg], np.float32))[0])
        size = side(face.box) / max(picture.width, picture.height)
        return face.score * turned * size * max(0.0, 1 - 0.4 * float(off))

    def _track(self, sound: Callable[[], Sound | None]) -> Track:
        total = len(self._shot)
        everybody = people(self._linker.tracklets, total)
        person = self._chosen(everybody, total, sound)
        shot = numbered(np.array(self._shot, np.int32))

        frames = np.concatenate([np.array(t.frames, np.int64) for t in person.tracklets])
        rows = np.concatenate([np.array(t.rows, np.int64) for t in person.tracklets])
        small = np.zeros((total, _SMALL), np.float32)
        points = np.zeros((total, 2 * layout.K), np.float32)
        self._read(frames, rows, small, points)
        score = small[:, 4] * runs.turned(small[:, 5])
        known = runs.steady(score, shot)
        found = runs.bridged(known, shot)
        if not found.any():
            raise Rejected("no_face", "the face is never seen well enough: it is turned away, hidden or too brief")
        run = runs.runs(found, shot)

        known &= found
        for values in (small, points):
            values[~known] = 0
            runs.filled(values, known, run)
        return Track(
            found=found,
            score=score,
            shot=shot,
            run=run,
            points=points.reshape(total, layout.K, 2),
            anchors=small[:, _SCALARS:].reshape(total, 3, 2),
            yaw_deg=small[:, 5].copy(),
            best_frame=best_frame(small, known),
            faces_seen=len(everybody),
        )

    def _chosen(self, everybody: list[Person], total: int, sound: Callable[[], Sound | None]) -> Person:
        choice = self._choice
        if choice.choice is FaceChoice.POINT and not 0 <= choice.frame < total:
            raise Rejected("face_frame_missing", f"frame {choice.frame} was pointed at; the video has {total}")
        if not everybody:
            raise Rejected("no_face", f"no face is found in any of {total} frames")
        if choice.choice is FaceChoice.POINT:
            hit = at_point([(frame, box) for frame, box, _ in self._near_point], choice.frame, choice.point)
            if hit is not None:
                row = self._near_point[hit][2]
                for person in everybody:
                    if any(row in tracklet.rows for tracklet in person.tracklets):
                        return person
            x, y = choice.point
            raise Rejected("face_point_missed", f"no face is found at ({x:g}, {y:g}) in frame {choice.frame}")
        if self._reference is not None and choice.choice is FaceChoice.REFERENCE:
            reference = self._reference
            nearest = min(everybody, key=lambda person: person.distance(reference))
            if nearest.distance(reference) > MAYBE:
                raise Rejected("reference_not_matched", "no face of the video looks like the reference picture")
            return nearest
        if len(everybody) > 1 and (heard := sound()) is not None:
            agreements = [self._agreement(person, heard) for person in everybody]
            return everybody[speaker.chosen([person.weight for person in everybody], agreements)]
        return max(everybody, key=lambda person: person.weight)

    def _agreement(self, person: Person, sound: Sound) -> float:
        rows = {frame: row for t in person.tracklets for frame, row in zip(t.frames, t.rows, strict=True)}

        def mouths(frames: NDArray[np.int64]) -> NDArray[np.float32]:
            read = [self._row(rows[int(frame)]) for frame in frames]
            anchors = np.stack([row[_SCALARS:_SMALL] for row in read]).reshape(-1, 3, 2)
            return speaking.mouth(np.stack([row[_SMALL:] for row in read]).reshape(-1, layout.K, 2), anchors)

        return speaker.agreement(sorted(rows), mouths, sound)

    def _read(
        self,
        frames: NDArray[np.int64],
        rows: NDArray[np.int64],
        small_TX: NDArray[np.float32],
        points_TX: NDArray[np.float32],
    ) -> None:
        for frame, row in zip(frames, rows, strict=True):
            values = self._row(int(row))
            small_TX[frame], points_TX[frame] = values[:_SMALL], values[_SMALL:]

    def _row(self, row: int) -> NDArray[np.float32]:
        width = _SMALL + 2 * layout.K
        self._rows.seek(row * width * 4)
        return np.frombuffer(self._rows.read(width * 4), np.float32)


def best_frame(rows_TX: NDArray[np.float32], known_T: NDArray[np.bool_]) -> int:
    """The known frame that is most frontal, sharp, large and open-eyed, against what is usual for this face."""
    rows = rows_TX[known_T]
    size = np.maximum(rows[:, 2] - rows[:, 0], rows[:, 3] - rows[:, 1])
    yaw, pitch, openness, sharpness = rows[:, 5], rows[:, 6], rows[:, 7], rows[:, 8]
    frontal = np.exp(-((yaw / 15) ** 2) - ((pitch - np.median(pitch)) / 12) ** 2)

    def usual(values: NDArray[np.float32], percent: float) -> NDArray[np.float32]:
        return np.minimum(values / np.float32(max(float(np.percentile(values, percent)), 1e-6)), np.float32(1))

    quality = rows[:, 4] * frontal * usual(sharpness, 90) * usual(size, 90) * usual(openness, 75)
    return int(np.flatnonzero(known_T)[int(np.argmax(quality))])
