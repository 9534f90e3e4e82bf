"""Whose face is whose, over time: faces of single frames -> tracklets -> people. No networks, no pictures.

A tracklet is one face in nearly consecutive frames of one shot. A person is the tracklets that may be the same one.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from farm.face.likeness import SAME, Likeness, distance

Box = tuple[float, float, float, float]

_PATIENCE = 3  # frames that a tracklet outlives without its face
_SWAPPED = 0.45  # a face this unlike the tracklet's is not taken for it, however well it lies
_SHORT = 5  # frames; a person seen for fewer is no person of the video


@dataclass(frozen=True)
class Seen:
    """One face in one frame. row: where the caller keeps the rest of it. weight: its claim to be the main face."""

    box: Box  # left, top, right, bottom
    likeness: Likeness
    row: int
    weight: float = 1.0


@dataclass
class Tracklet:
    shot: int
    first_box: Box
    last_box: Box
    likeness: Likeness
    weight: float = 0.0
    frames: array[int] = field(default_factory=lambda: array("q"))
    rows: array[int] = field(default_factory=lambda: array("q"))
    motion: tuple[float, float] = (0.0, 0.0)

    @property
    def first(self) -> int:
        return self.frames[0]

    @property
    def last(self) -> int:
        return self.frames[-1]

    def expected(self, frame: int) -> Box:
        """The last box moved on, for at most a few frames."""
        gap = frame - self.last
        dx, dy = self.motion[0] * gap, self.motion[1] * gap
        left, top, right, bottom = self.last_box
        return left + dx, top + dy, right + dx, bottom + dy

    def take(self, frame: int, face: Seen) -> None:
        if self.frames:
            gap = frame - self.last
            (x0, y0), (x1, y1) = centre(self.last_box), centre(face.box)
            self.motion = (
                0.5 * self.motion[0] + 0.5 * (x1 - x0) / gap,
                0.5 * self.motion[1] + 0.5 * (y1 - y0) / gap,
            )
        self.frames.append(frame)
        self.rows.append(face.row)
        self.last_box = face.box
        self.weight += face.weight
        # A running mean that forgets slowly: a head that turns changes its likeness little by little.
        self.likeness = blend(self.likeness, face.likeness, max(1 / len(self.frames), 0.05))


@dataclass
class Person:
    tracklets: list[Tracklet] = field(default_factory=list)

    @property
    def frames(self) -> int:
        return sum(len(tracklet.frames) for tracklet in self.tracklets)

    @property
    def weight(self) -> float:
        return sum(tracklet.weight for tracklet in self.tracklets)

    def distance(self, likeness: Likeness) -> float:
        """To the most alike of its tracklets that are not too short to judge by, which keep several views apart."""
        longest = max(len(tracklet.frames) for tracklet in self.tracklets)
        judges = [t for t in self.tracklets if 3 * len(t.frames) >= longest or len(t.frames) >= 25]
        return min(distance(tracklet.likeness, likeness) for tracklet in judges[-32:])


class Linker:
    """Faces, frame after frame in order, into tracklets."""

    def __init__(self) -> None:
        self.tracklets: list[Tracklet] = []
        self._open: list[Tracklet] = []

    def step(self, frame: int, shot: int, faces: Sequence[Seen]) -> None:
        """`frame` grows from call to call; frames without a face may be left out."""
        self._open = [t for t in self._open if t.shot == shot and frame - t.last <= _PATIENCE + 1]
        offers: list[tuple[float, int, int]] = []
        for t, tracklet in enumerate(self._open):
            expected = tracklet.expected(frame)
            for f, face in enumerate(faces):
                near = max(overlap(expected, face.box), overlap(tracklet.last_box, face.box))
                unlike = distance(tracklet.likeness, face.likeness)
                if near > 0.2 and unlike < _SWAPPED:
                    offers.append((overlap(expected, face.box) - unlike, t, f))
        taken_tracklets: set[int] = set()
        taken_faces: set[int] = set()
        for _, t, f in sorted(offers, key=lambda offer: (-offer[0], offer[1], offer[2])):
            if t not in taken_tracklets and f not in taken_faces:
                self._open[t].take(frame, faces[f])
                taken_tracklets.add(t)
                taken_faces.add(f)
        for f, face in enumerate(faces):
            if f not in taken_faces:
                tracklet = Tracklet(shot, face.box, face.box, face.likeness)
                tracklet.take(frame, face)
                self.tracklets.append(tracklet)
                self._open.append(tracklet)


def people(tracklets: Sequence[Tracklet], total_frames: int) -> list[Person]:
    """Tracklets into people, longest-seen first. Those seen only for a moment are left out, if any are not."""
    found: list[Person] = []
    for tracklet in sorted(tracklets, key=lambda t: (t.first, t.last)):
        best: tuple[float, Person] | None = None
        for person in found:
            cost = _cost(person, tracklet)
            if cost is not None and (best is None or cost < best[0]):
                best = (cost, person)
        if best:
            best[1].tracklets.append(tracklet)
        else:
            found.append(Person([tracklet]))
    lasting = [person for person in found if person.frames >= min(_SHORT, total_frames)]
    return sorted(lasting, key=lambda person: -person.frames)


def _cost(person: Person, tracklet: Tracklet) -> float | None:
    """How unlikely the tracklet continues the person; None when it cannot."""
    before = person.tracklets[-1]
    if any(tracklet.first <= other.last and other.first <= tracklet.last for other in person.tracklets[-64:]):
        return None  # nobody is in two places at once
    unlike = person.distance(tracklet.likeness)
    if unlike < SAME:
        return unlike
    # Beyond that, only back in place and size, soon after, in the same shot.
    (x0, y0), (x1, y1) = centre(before.last_box), centre(tracklet.first_box)
    size, ratio = side(before.last_box), side(tracklet.first_box) / side(before.last_box)
    gap = tracklet.first - before.last
    reach = size * min(2.0, 0.5 + 0.05 * gap)
    back = np.hypot(x1 - x0, y1 - y0) <= reach and 0.6 < ratio < 1.6 and gap <= 75
    return unlike if tracklet.shot == before.shot and back and unlike < _SWAPPED else None


def blend(a: Likeness, b: Likeness, share: float) -> Likeness:
    def between(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
        return (x + share * (y - x)).astype(np.float32)

    return Likeness(between(a.look, b.look), between(a.shape, b.shape))


def centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def side(box: Box) -> float:
    return max(box[2] - box[0], box[3] - box[1], 1e-6)


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / max((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common, 1e-6)


def at_point(boxes: Sequence[tuple[int, Box]], frame: int, point: tuple[float, float]) -> int | None:
    """Which of (frame, box) is meant by a point of a frame: the nearest whose box, a little widened, holds it.

    A face is also looked for two frames before and after, since the very frame may be the one that is blurred.
    """
    best: tuple[float, int] | None = None
    for number, (at, box) in enumerate(boxes):
        (x, y), size = centre(box), side(box)
        dx, dy = abs(point[0] - x) / (0.6 * (box[2] - box[0])), abs(point[1] - y) / (0.6 * (box[3] - box[1]))
        if abs(at - frame) > 2 or max(dx, dy) > 1:
            continue
        cost = np.hypot(point[0] - x, point[1] - y) / size + 10 * abs(at - frame)
        if best is None or cost < best[0]:
            best = (cost, number)
    return best[1] if best else None
