from __future__ import annotations

import numpy as np
import pytest
import torch

from farm.face import points
from farm.face.landmarks import landmarks, see, yaw_deg
from farm.face.nets import FaceNets
from farm.face.pictures import FramePictures, TensorPictures, to_picture
from tests.farm.face import drawn_person as drawn

EYES = np.array([[186, 115.1], [214, 115.1]])  # where `face` has its eyes


def face() -> np.ndarray:
    canvas = drawn.canvas(320, 240)
    drawn.draw(canvas, 200, 120, 70)
    return canvas


def test_points_lie_on_the_face_however_it_is_cut_out(nets: FaceNets) -> None:
    seen = FramePictures([drawn.frame(face())], drawn.picture_format(320, 240), torch.device("cpu"))
    squares = np.array([[200, 115, 120, 0.0], [206, 120, 135, 0.15], [195, 110, 110, -0.15]])
    found = landmarks(nets, seen, [0, 0, 0], squares)
    assert (found.score > 0.9).all()
    anchors = points.anchors(found.points)
    np.testing.assert_allclose(anchors[:, :2], np.repeat(EYES[None], 3, 0), atol=2.5)
    np.testing.assert_allclose(anchors[:, 2], np.repeat([[200, 145.9]], 3, 0), atol=3.5)
    np.testing.assert_allclose(found.points[:, 468, :2], np.repeat(EYES[:1], 3, 0), atol=2)
    np.testing.assert_allclose(found.points[:, 473, :2], np.repeat(EYES[1:], 3, 0), atol=2)
    assert np.abs(yaw_deg(found.points)).max() < 6


def test_a_mirrored_picture_gives_mirrored_points(nets: FaceNets) -> None:
    canvas = face()
    both = torch.from_numpy(np.stack([canvas, canvas[:, ::-1]]).copy()).permute(0, 3, 1, 2)
    squares = np.array([[200, 115, 120, 0.0], [119, 115, 120, 0.0]])
    found = landmarks(nets, TensorPictures(both), [0, 1], squares).points
    straight, mirrored = points.anchors(found)
    np.testing.assert_allclose(319 - mirrored[:2, 0], straight[[1, 0], 0], atol=2)
    np.testing.assert_allclose(319 - found[1, 468, 0], found[0, 473, 0], atol=1.5)


def test_frames_and_their_rgb_give_the_same_points(nets: FaceNets) -> None:
    canvas = face()
    squares = np.array([[200, 115, 120, 0.1]])
    planes = FramePictures([drawn.frame(canvas)], drawn.picture_format(320, 240), torch.device("cpu"))
    rgb = TensorPictures(torch.from_numpy(canvas.clip(0, 1)).permute(2, 0, 1)[None])
    a, b = (landmarks(nets, source, [0], squares).points for source in (planes, rgb))
    np.testing.assert_allclose(a[..., :2], b[..., :2], atol=0.6)


def test_gradients_reach_the_picture(nets: FaceNets) -> None:
    images = torch.from_numpy(face()).permute(2, 0, 1)[None].requires_grad_()
    found, _, _ = see(nets, TensorPictures(images), [0], np.array([[200, 115, 120, 0.0]]))
    found[:, [13, 468]].sum().backward()
    assert images.grad is not None
    inside = images.grad[..., 53:177, 138:262].abs().sum()
    assert float(inside) > 0
    assert float(images.grad.abs().sum()) == pytest.approx(float(inside))


def test_crops_are_where_their_square_says() -> None:
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
    source = TensorPictures(torch.stack([x / 80, y / 60, 0 * x])[None])
    squares = np.array([[40, 30, 16, 0.3], [40, 30, 36, -0.7]])
    crops = source.crops([0, 0], squares, 8, "edge").numpy()
    pixels = np.array([[[c + 0.5, r + 0.5]] for r in range(8) for c in range(8)], np.float32)
    for square, crop in zip(squares, crops, strict=True):
        places = to_picture(pixels, np.repeat(square[None], 64, 0), 8)[:, 0]
        seen = np.stack([crop[0].reshape(-1) * 80, crop[1].reshape(-1) * 60], 1)
        np.testing.assert_allclose(seen, places, atol=0.02)


def test_outside_the_picture_is_black_or_the_edge() -> None:
    source = TensorPictures(torch.ones(1, 3, 20, 40))
    window = np.array([[19.5, 9.5, 40, 0.0]])
    black = source.crops([0], window, 40, "black")[0, 0]
    assert black[:10].sum() == 0
    assert bool((black[10:30] == 1).all())
    assert black[30:].sum() == 0
    assert bool((source.crops([0], window, 40, "edge") == 1).all())
