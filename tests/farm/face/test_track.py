"""The tracker on drawn people: 24 frames of one, who is then gone for 8; a cut; 16 frames of another with a third."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from farm.domain.job import FaceChoice, FaceSetting
from farm.errors import Rejected
from farm.face import likeness
from farm.face.nets import FaceNets
from farm.face.points import FACE_OVAL, K
from farm.face.track import Track, Tracker, best_frame
from farm.media.frame import Frame
from tests.farm.face import drawn_person as drawn

WIDTH, HEIGHT = 320, 240
PICTURE = drawn.picture_format(WIDTH, HEIGHT)


@pytest.fixture(scope="module")
def video() -> list[Frame]:
    frames: list[Frame] = []
    for t in range(48):
        canvas = drawn.canvas(WIDTH, HEIGHT, int(t >= 32))
        if t < 24:
            drawn.draw(canvas, 120 + 2 * t, 110, 60, 0, mouth=(t % 4) / 4)
        if t >= 32:
            drawn.draw(canvas, 100, 110 + t % 3, 80, 1)
            drawn.draw(canvas, 260, 120, 35, 0)
        frames.append(drawn.frame(canvas, t))
    return frames


def follow(nets: FaceNets, frames: list[Frame], step: int = 100, choice: FaceSetting | None = None) -> Track:
    tracker = Tracker(nets, PICTURE, choice or FaceSetting())
    for start in range(0, len(frames), step):
        tracker.add(frames[start : start + step])
    return tracker.finish()


@pytest.fixture(scope="module")
def track(nets: FaceNets, video: list[Frame]) -> Track:
    return follow(nets, video)


def test_shapes(track: Track) -> None:
    assert track.points.shape == (48, K, 2)
    assert track.anchors.shape == (48, 3, 2)
    assert all(len(getattr(track, f.name)) == 48 for f in fields(Track) if f.name not in ("best_frame", "faces_seen"))


def test_shots_and_people(track: Track) -> None:
    assert track.shot.tolist() == [0] * 32 + [1] * 16
    assert track.faces_seen == 2


def test_the_face_seen_longest_and_largest_is_taken_and_followed(track: Track) -> None:
    assert track.found.tolist() == [True] * 24 + [False] * 8 + [True] * 16
    assert set(track.run[:24]) == {0}
    assert set(track.run[24:32]) == {-1}
    assert set(track.run[32:]) == {1}
    np.testing.assert_allclose(track.anchors[:24, 0, 0], 108 + 2 * np.arange(24), atol=2.5)
    np.testing.assert_allclose(track.anchors[:24, :2, 1], 105.8, atol=2.5)
    np.testing.assert_allclose(track.anchors[32:, 1, 0], 267, atol=2.5)
    assert not track.points[~track.found].any()
    oval = track.points[5][list(FACE_OVAL)]
    assert 45 < np.ptp(oval[:, 0]) < 75
    assert np.abs(track.yaw_deg).max() < 12
    assert track.best_frame < 24


@pytest.mark.parametrize("step", [1, 7])
def test_the_track_does_not_depend_on_how_frames_arrive(
    nets: FaceNets, video: list[Frame], track: Track, step: int
) -> None:
    again = follow(nets, video, step)
    for f in fields(Track):
        np.testing.assert_array_equal(getattr(again, f.name), getattr(track, f.name), err_msg=f.name)


def test_the_face_pointed_at_is_taken(nets: FaceNets, video: list[Frame]) -> None:
    choice = FaceSetting(FaceChoice.POINT, frame=10, point=(100.0, 120.0))
    track = follow(nets, video[32:], choice=choice)
    assert track.found.all()
    np.testing.assert_allclose(track.anchors[:, 0, 0], 84, atol=3)


def test_the_face_like_the_reference_is_taken(nets: FaceNets, video: list[Frame]) -> None:
    reference = likeness.of(nets, video[3], PICTURE)
    tracker = Tracker(nets, PICTURE, FaceSetting(FaceChoice.REFERENCE), reference)
    tracker.add(video[32:])
    np.testing.assert_allclose(tracker.finish().anchors[:, 0, 0], 253, atol=3)


@pytest.mark.parametrize(
    ("choice", "code"),
    [
        (FaceSetting(), "no_face"),
        (FaceSetting(FaceChoice.POINT, frame=2, point=(160.0, 120.0)), "no_face"),
        (FaceSetting(FaceChoice.POINT, frame=8, point=(160.0, 120.0)), "face_frame_missing"),
    ],
)
def test_no_face_is_said(nets: FaceNets, video: list[Frame], choice: FaceSetting, code: str) -> None:
    with pytest.raises(Rejected, match=code):
        follow(nets, video[24:32], choice=choice)


def test_a_point_beside_every_face_is_said(nets: FaceNets, video: list[Frame]) -> None:
    with pytest.raises(Rejected, match="face_point_missed"):
        follow(nets, video[:8], choice=FaceSetting(FaceChoice.POINT, frame=2, point=(300.0, 20.0)))


def test_a_still_picture_is_a_video_of_one_frame(nets: FaceNets, video: list[Frame]) -> None:
    track = follow(nets, video[:1])
    assert track.found.tolist() == [True]
    assert track.run.tolist() == [0]
    assert track.best_frame == 0


def test_the_best_frame_is_frontal_sharp_and_open_eyed() -> None:
    rows = np.zeros((5, 15), np.float32)
    rows[:, 2:4] = 100
    rows[:, 4], rows[:, 7], rows[:, 8] = 1, 0.4, 0.05
    rows[0, 5] = 30  # turned
    rows[1, 7] = 0.05  # eyes shut
    rows[2, 8] = 0.01  # blurred
    rows[4, 4] = 0.2
    assert best_frame(rows, np.ones(5, bool)) == 3
    assert best_frame(rows, np.array([True, True, False, False, False])) == 1
