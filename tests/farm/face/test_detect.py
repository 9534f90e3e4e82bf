from __future__ import annotations

import numpy as np
import pytest
import torch

from farm.face.detect import Detection, detect, merge, tiles, whole
from farm.face.nets import FaceNets
from farm.face.pictures import FramePictures
from tests.farm.face import drawn_person as drawn


def pictures(*canvases: np.ndarray) -> FramePictures:
    height, width = canvases[0].shape[:2]
    frames = [drawn.frame(canvas, t) for t, canvas in enumerate(canvases)]
    return FramePictures(frames, drawn.picture_format(width, height), torch.device("cpu"))


@pytest.mark.parametrize("near", [True, False])
@pytest.mark.parametrize("person", [0, 1])
def test_a_face_is_found_where_it_is(nets: FaceNets, near: bool, person: int) -> None:
    empty, face = drawn.canvas(320, 240, person), drawn.canvas(320, 240, person)
    drawn.draw(face, 200, 120, 70, person)
    window = np.repeat(whole(320, 240), 2, 0)
    nothing, found = detect(nets, pictures(empty, face), [0, 1], window, near=near)
    assert nothing == []
    assert len(found) == 1
    left, top, right, bottom = found[0].box
    assert abs((left + right) / 2 - 200) < 7
    assert abs((top + bottom) / 2 - 130) < 8
    np.testing.assert_allclose(found[0].keypoints[:2], [[186, 115], [214, 115]], atol=6)


def test_a_small_face_is_found_in_tiles(nets: FaceNets) -> None:
    canvas = drawn.canvas(1920, 1080)
    drawn.draw(canvas[200:420, 1200:1500], 150, 110, 40)
    seen = pictures(canvas)
    assert detect(nets, seen, [0], whole(1920, 1080)) == [[]]
    grid = tiles(1920, 1080, 640)
    (found,) = detect(nets, seen, [0] * len(grid), grid)
    assert len(found) == 1
    np.testing.assert_allclose(found[0].keypoints[0], [1342, 307], atol=4)


@pytest.mark.parametrize(
    ("width", "height", "side"), [(1920, 1080, 640), (640, 360, 640), (3840, 2160, 1280), (9, 9, 4)]
)
def test_tiles_cover_the_picture_and_overlap(width: int, height: int, side: float) -> None:
    grid = tiles(width, height, side)
    for axis, length in ((0, width), (1, height)):
        centres = np.unique(grid[:, axis])
        assert centres[0] - side / 2 <= 0
        assert centres[-1] + side / 2 >= length - 1
        assert (np.diff(centres) <= 0.75 * side + 1e-9).all()


def test_boxes_of_one_face_become_one() -> None:
    def at(x: float, score: float) -> Detection:
        return Detection(score, np.array([x, 0, x + 10, 10], np.float32), np.full((6, 2), x, np.float32))

    faces = merge([at(0, 0.6), at(50, 0.7), at(2, 0.9)])
    assert [face.score for face in faces] == [0.9, 0.7]
    assert faces[0].box[0] == pytest.approx((2 * 0.9 + 0 * 0.6) / 1.5)
