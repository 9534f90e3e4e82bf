from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from farm.face import align
from farm.face.planes import PlanesBatch, chroma_from_luma, codes, rgb, rgb_from_ypbpr
from farm.face.resample import apply, chain, invert, sample
from farm.media.frame import PictureFormat
from tests.farm.face.drawn import CPU, FORMATS, batch, square


def reference_crop(planes: PlanesBatch, frame: int, crop_from_frame: NDArray[np.float64], size: int) -> NDArray:
    """The definition in float64, for squares that are enlarged: Keys' cubic at the exact position in each plane."""
    code = codes(planes.picture)
    frame_from_out = invert(align.scaled(crop_from_frame, size))
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).reshape(-1, 2).astype(np.float64)
    values = []
    for plane, transform in (
        (planes.y_BHW, frame_from_out),
        (planes.u_Bhw, chain(chroma_from_luma(planes.picture), frame_from_out)),
        (planes.v_Bhw, chain(chroma_from_luma(planes.picture), frame_from_out)),
    ):
        samples = plane[frame].numpy().astype(np.float64)
        at = apply(transform, grid)
        low = np.floor(at).astype(int)
        total = np.zeros(len(grid))
        for j in range(-1, 3):
            for i in range(-1, 3):
                column = (low[:, 0] + i).clip(0, samples.shape[1] - 1)
                row = (low[:, 1] + j).clip(0, samples.shape[0] - 1)
                x, y = np.abs(at - low - [i, j]).T
                total += keys(x) * keys(y) * samples[row, column]
        values.append(total)
    ypbpr = np.stack(
        [
            (values[0] - code.luma_zero) / code.luma_scale,
            (values[1] - code.chroma_zero) / code.chroma_scale,
            (values[2] - code.chroma_zero) / code.chroma_scale,
        ]
    )
    return (rgb_from_ypbpr(planes.picture.matrix) @ ypbpr).clip(0, 1).reshape(3, size, size) * 2 - 1


def keys(x: NDArray[np.float64]) -> NDArray[np.float64]:
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


@pytest.mark.parametrize("picture", FORMATS)
def test_crop_is_its_definition(picture: PictureFormat) -> None:
    planes = batch(picture, 2)
    # Chroma of 4:2:0 is enlarged more than luma, so that one step of luma per output sample is the largest allowed.
    transforms = np.stack(
        [square((61.3, 50.2), 60, 0.3), square((30.0, 20.0), 64, -0.2)]
    )  # the second leaves the frame
    found = align.crop(planes, transforms, 64)
    assert found.dtype == torch.float32
    for i in range(2):
        np.testing.assert_allclose(found[i].numpy(), reference_crop(planes, i, transforms[i], 64), atol=2e-5)


@pytest.mark.parametrize("picture", FORMATS)
@pytest.mark.parametrize("side", [40, 90, 300, 700])
def test_ramps_stay_where_they_are(picture: PictureFormat, side: int) -> None:
    """Enlarged or shrunk (by cells and blur), luma and chroma ramps keep their place: no half-sample shift anywhere."""
    wide = PictureFormat(800, 800, picture.bit_depth, picture.chroma_x, picture.chroma_y, picture.matrix, True)
    code = codes(wide)
    x, y = np.meshgrid(np.arange(800.0), np.arange(800.0))
    luma = 0.3 + 0.0003 * x + 0.0002 * y
    step_x, step_y = 2**wide.chroma_x, 2**wide.chroma_y
    rows, columns = np.arange(0, 800 // step_y) * step_y + (step_y - 1) / 2, np.arange(0, 800 // step_x) * step_x
    u = code.chroma_zero + code.chroma_scale * (0.1 * columns / 800 - 0.08 * rows[:, None] / 800)
    planes = PlanesBatch(
        torch.from_numpy(luma * code.luma_scale)[None].float(),
        torch.from_numpy(u)[None].float(),
        torch.full((1, *u.shape), code.chroma_zero),
        wide,
    )
    transform = square((400, 390), side, 0.1)
    found = align.crop(planes, transform[None], 64)[0] * 0.5 + 0.5
    grid = np.stack(np.meshgrid(np.arange(64.0), np.arange(64.0)), -1).reshape(-1, 2)
    at = apply(invert(align.scaled(transform, 64)), grid)
    seen = ((at > 12) & (at < 786)).all(1).reshape(64, 64)  # away from the picture's own edges
    brightness = 0.3 + 0.0003 * at[:, 0] + 0.0002 * at[:, 1]
    tint = 0.1 * at[:, 0] / 800 - 0.08 * at[:, 1] / 800
    wanted = (rgb_from_ypbpr(wide.matrix) @ np.stack([brightness, tint, 0 * tint])).reshape(3, 64, 64)
    np.testing.assert_allclose(found.numpy()[:, seen], wanted[:, seen], atol=3e-5)


def test_shrinking_does_not_alias() -> None:
    picture = PictureFormat(600, 600, 8, 0, 0, "bt709", True)
    y, x = np.mgrid[0:600, 0:600]
    board = torch.from_numpy(((x + y) % 2 * 255).astype(np.uint8))[None]
    grey = torch.full_like(board, 128)
    for side in (250, 330, 400, 560):
        out = align.crop(PlanesBatch(board, grey, grey, picture), square((300, 300), side, 0.05)[None], 64)
        assert float(out.abs().max()) < 0.02, side


def test_sharpness_is_steady_while_a_face_comes_nearer() -> None:
    """Where the cell size steps from 1 to 2 samples, the picture must not jump."""
    planes = batch(PictureFormat(400, 400, 8, 1, 1, "bt709", False))
    out = [align.crop(planes, square((200.3, 199.6), 64 * s, 0.1)[None], 64) for s in (3.999, 4.001)]
    assert float((out[1] - out[0]).abs().max()) < 0.01


def test_shrunk_keeps_the_mean() -> None:
    picture = PictureFormat(640, 360, 8, 1, 1, "bt709", False)
    planes = batch(picture, 2)
    x, y = 80 / planes.picture.width, 45 / planes.picture.height
    edge_to_edge = np.array([[x, 0.0, x / 2 - 0.5], [0.0, y, y / 2 - 0.5]])
    small = sample(planes, np.broadcast_to(edge_to_edge, (len(planes), 2, 3)), 45, 80)
    assert small.shape == (2, 3, 45, 80)
    whole = rgb(planes)
    torch.testing.assert_close(small.mean((2, 3)), whole.mean((2, 3)), atol=2e-3, rtol=0)
    blocks = torch.nn.functional.avg_pool2d(whole, 8)
    assert float((small - blocks).abs().mean()) < 0.004


@pytest.mark.parametrize("picture", FORMATS[:3])
def test_a_crop_does_not_know_its_batch(picture: PictureFormat) -> None:
    planes = batch(picture, 5)
    transforms = np.stack([square((50 + i, 45 - i), 30 + 40 * i, 0.1 * i) for i in range(5)])
    whole = align.crop(planes, transforms, 64)
    for part in ([0], [3, 1], [4, 4, 2], [0, 1, 2, 3]):
        taken = PlanesBatch(planes.y_BHW[part], planes.u_Bhw[part], planes.v_Bhw[part], picture)
        assert torch.equal(align.crop(taken, transforms[part], 64), whole[part])


# ---- where the square lies


BASE = np.array([[87.0, 59.0], [137.0, 59.0], [112.0, 120.0]])


def talking(frames: int, move: float, seed: int = 0) -> NDArray[np.float64]:
    """True anchors (T, 3, 2), 25 fps, of a face about 140 px wide that sways, nods, turns and comes nearer."""
    t = np.arange(frames) / 25
    angle = 0.1 * move * np.sin(2 * np.pi * 0.4 * t + seed)
    scale = 1.25 * (1 + 0.06 * move * np.sin(2 * np.pi * 0.15 * t))
    x = 180 + 30 * move * np.sin(2 * np.pi * 0.3 * t) + 4 * move * np.sin(2 * np.pi * 1.5 * t)
    y = 140 + 8 * move * np.sin(2 * np.pi * 1.2 * t)
    turn = scale[:, None, None] * np.stack(
        [np.stack([np.cos(angle), -np.sin(angle)], -1), np.stack([np.sin(angle), np.cos(angle)], -1)], -2
    )
    return (BASE - [112, 80]) @ turn.swapaxes(-1, -2) + np.stack([x, y], -1)[:, None]


def corners(crop_from_frame: NDArray[np.float64]) -> NDArray[np.float64]:
    square = np.array([[0, 0], [223, 0], [0, 223], [223, 223], [111.5, 111.5]])
    return apply(invert(crop_from_frame), np.broadcast_to(square, (len(crop_from_frame), 5, 2)))


def exact(anchors_T32: NDArray[np.float64]) -> NDArray[np.float64]:
    return align._similarity(*align._fit(anchors_T32))


def test_anchors_are_brought_to_the_official_places() -> None:
    """(87, 59) of the 224 px template, rows 0:192 and columns 16:208 cut, scaled to 224."""
    anchors = talking(1, 0.0)
    out = align.crop_from_frame(anchors.astype(np.float32), np.zeros(1, np.int32))
    expected = (BASE - [16, 0] + 0.5) * 224 / 192 - 0.5
    np.testing.assert_allclose(apply(out, anchors)[0], expected, atol=1e-4)


def test_least_squares_on_a_face_of_other_proportions() -> None:
    anchors = talking(1, 0.0) + np.array([[3.0, -1], [-2, 4], [5, 1]])
    found = apply(exact(anchors), anchors)[0]
    best = ((found - align.ANCHORS) ** 2).sum()
    rng = np.random.default_rng(0)
    for _ in range(50):  # no similarity near it does better
        z = 1 + 0.02 * (rng.normal() + 1j * rng.normal())
        moved = (found[:, 0] + 1j * found[:, 1]) * z + rng.normal() + 1j * rng.normal()
        assert ((np.stack([moved.real, moved.imag], -1) - align.ANCHORS) ** 2).sum() >= best


def test_transforms_invert() -> None:
    transforms = align.crop_from_frame(talking(40, 1.0).astype(np.float32), np.zeros(40, np.int32))
    points = np.random.default_rng(0).uniform(-100, 500, (40, 7, 2))
    np.testing.assert_allclose(apply(invert(transforms), apply(transforms, points)), points, atol=1e-9)


@pytest.mark.parametrize("move", [0.0, 0.3, 1.0])
def test_tremble_goes_and_motion_stays(move: float) -> None:
    true = talking(300, move)
    noisy = true + np.random.default_rng(1).normal(0, 0.4, true.shape)
    wanted, raw = corners(exact(true)), corners(exact(noisy)) - corners(exact(true))
    left = corners(align.crop_from_frame(noisy.astype(np.float32), np.zeros(300, np.int32))) - wanted
    tremble, before = (np.sqrt((np.diff(e, 2, axis=0) ** 2).mean()) for e in (left, raw))
    assert tremble < before / 8
    assert np.sqrt((left**2).mean()) < np.sqrt((raw**2).mean())
    assert np.abs(left).max() < 3.5  # of a square 214 px wide, first and last frames too


def test_a_faster_video_is_smoothed_over_the_same_time() -> None:
    """Every second frame of a 50 fps track is nearly the 25 fps track."""
    slow = talking(100, 1.0)
    fast = np.empty((199, 3, 2))
    fast[::2], fast[1::2] = slow, (slow[1:] + slow[:-1]) / 2
    a = align.crop_from_frame(slow.astype(np.float32), np.zeros(100, np.int32), 25.0)
    b = align.crop_from_frame(fast.astype(np.float32), np.zeros(199, np.int32), 50.0)
    assert np.abs(corners(a) - corners(b[::2])).max() < 1.5


def test_runs_do_not_leak_and_gaps_hold_the_nearest() -> None:
    anchors = np.concatenate([talking(30, 1.0), talking(10, 1.0) * 0, talking(25, 1.0, 2) + 200]).astype(np.float32)
    run = np.array([0] * 30 + [-1] * 10 + [1] * 25, np.int32)
    out = align.crop_from_frame(anchors, run)
    np.testing.assert_array_equal(out[:30], align.crop_from_frame(anchors[:30], run[:30]))
    np.testing.assert_array_equal(out[40:], align.crop_from_frame(anchors[40:], run[40:]))
    np.testing.assert_array_equal(out[30:35], np.broadcast_to(out[29], (5, 2, 3)))
    np.testing.assert_array_equal(out[35:40], np.broadcast_to(out[40], (5, 2, 3)))


@pytest.mark.parametrize("frames", [1, 2, 3, 7])
def test_short_runs(frames: int) -> None:
    anchors = talking(frames, 1.0)
    out = align.crop_from_frame(anchors.astype(np.float32), np.zeros(frames, np.int32))
    assert np.abs(corners(out) - corners(exact(anchors))).max() < 2


def test_no_face_at_all() -> None:
    out = align.crop_from_frame(np.zeros((4, 3, 2), np.float32), np.full(4, -1, np.int32))
    np.testing.assert_array_equal(out, np.broadcast_to(np.eye(2, 3), (4, 2, 3)))


def test_steady_points_follow_without_tremble() -> None:
    anchors = talking(120, 1.0).astype(np.float32)
    run = np.array([0] * 100 + [-1] * 20, np.int32)
    transforms = align.crop_from_frame(anchors, run)
    true = apply(invert(transforms), np.broadcast_to(np.array([[50.0, 60], [170, 200]]), (120, 2, 2)))
    noisy = (true + np.random.default_rng(0).normal(0, 0.5, true.shape)).astype(np.float32)
    out = align.steady_points(noisy, run, transforms)
    np.testing.assert_array_equal(out[100:], noisy[100:])
    assert np.diff(out - true, 2, axis=0)[:98].std() < 0.2 * np.diff(noisy - true, 2, axis=0)[:98].std()
    assert np.abs(out - true)[:100].max() < 1.5


def test_device_of_the_planes_is_kept() -> None:
    assert align.crop(batch(FORMATS[0]), square((60, 48), 50)[None], 32).device == CPU
