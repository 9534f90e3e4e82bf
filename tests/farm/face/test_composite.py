from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from farm.face import align, composite, points
from farm.face.mask import FEATHER, NARROW
from farm.face.planes import PlanesBatch, codes
from farm.face.seam import border_error
from farm.media.frame import PictureFormat
from tests.farm.face.drawn import FORMATS, batch, face_points, square

Scene = tuple[PlanesBatch, NDArray[np.float64], NDArray[np.float32], NDArray[np.bool_]]


def scene(picture: PictureFormat, count: int = 1, side: float = 80.0, centre: tuple[float, float] = (60, 47)) -> Scene:
    transforms = np.stack([square((centre[0] + i, centre[1] - 0.5 * i), side - i, 0.05 * i) for i in range(count)])
    return batch(picture, count), transforms, np.stack([face_points(t) for t in transforms]), np.ones(count, bool)


def changes(before: PlanesBatch, after: PlanesBatch) -> list[torch.Tensor]:
    pairs = ((before.y_BHW, after.y_BHW), (before.u_Bhw, after.u_Bhw), (before.v_Bhw, after.v_Bhw))
    for a, b in pairs:
        assert a.dtype == b.dtype
        assert a.shape == b.shape
    return [b.int() - a.int() for a, b in pairs]


def take(planes: PlanesBatch, part: list[int]) -> PlanesBatch:
    return PlanesBatch(planes.y_BHW[part], planes.u_Bhw[part], planes.v_Bhw[part], planes.picture)


@pytest.mark.parametrize("picture", FORMATS)
def test_the_own_crop_changes_almost_nothing(picture: PictureFormat) -> None:
    planes, transforms, kept, has = scene(picture)
    out = composite.paste(planes, align.crop(planes, transforms, 128), transforms, kept, has)
    unit = 2 ** (picture.bit_depth - 8)
    for change in changes(planes, out):
        assert float(change.abs().float().mean()) < 0.15 * unit
        assert int(change.abs().max()) <= 4 * unit  # the noise's finest detail


@pytest.mark.parametrize("picture", FORMATS)
def test_outside_the_mask_samples_keep_their_integers(picture: PictureFormat) -> None:
    planes, transforms, kept, has = scene(picture, 2)
    kept_before = [p.clone() for p in (planes.y_BHW, planes.u_Bhw, planes.v_Bhw)]
    out = composite.paste(planes, torch.rand(2, 3, 64, 64) * 2 - 1, transforms, kept, has)
    mask = composite.mask(picture, transforms, kept, has)
    luma, *chroma = changes(planes, out)
    assert not luma[mask.luma_BHW == 0].any()
    assert float((luma[mask.luma_BHW > 0.5] != 0).float().mean()) > 0.9
    for change in chroma:
        assert not change[mask.chroma_Bhw == 0].any()
        assert float((change[mask.chroma_Bhw > 0.5] != 0).float().mean()) > 0.7
    for plane, before in zip((planes.y_BHW, planes.u_Bhw, planes.v_Bhw), kept_before, strict=True):
        assert torch.equal(plane, before)  # the input is left as it was
    for plane in (out.y_BHW, out.u_Bhw, out.v_Bhw):
        assert int(plane.min()) >= 0
        assert int(plane.max()) <= codes(picture).peak


@pytest.mark.parametrize("picture", FORMATS)
def test_wrong_colours_leave_no_seam(picture: PictureFormat) -> None:
    planes, transforms, kept, has = scene(picture)
    crop = align.crop(planes, transforms, 128)
    tint = torch.tensor([0.3, -0.2, -0.35]).view(1, 3, 1, 1)
    light = torch.linspace(-0.2, 0.2, 128)
    out = composite.paste(planes, crop + tint + light, transforms, kept, has)
    mask = composite.mask(picture, transforms, kept, has).luma_BHW
    luma = codes(picture).luma_scale / 219 if picture.full_range else 1.0
    # Laid on as it is, the tint is a step of a dozen codes or more.
    y = planes.y_BHW.float()
    pasted = (y + mask * (codes(picture).luma_scale * float(light.abs().mean() / 2 + 0.05))).to(planes.y_BHW.dtype)
    naive = PlanesBatch(pasted, planes.u_Bhw, planes.v_Bhw, picture)
    assert float(border_error(planes, naive, mask)) > 8 * luma
    assert float(border_error(planes, out, mask)) < 0.7 * luma
    for change in changes(planes, out)[1:]:
        unit = 2 ** (picture.bit_depth - 8)
        assert float(change.abs().float().mean()) < 1.0 * unit


def test_a_scaled_contrast_is_matched() -> None:
    picture = PictureFormat(200, 200, 8, 0, 0, "bt709", True)
    y, x = np.mgrid[0:200, 0:200]
    bars = (90 + 80 * (np.sin(x / 9) * np.cos(y / 11))).round().astype(np.uint8)  # light and dark along the border
    luma = torch.from_numpy(bars)[None]
    planes = PlanesBatch(luma, torch.full_like(luma, 128), torch.full_like(luma, 128), picture)
    transform = square((100, 100), 180)[None]
    kept = face_points(transform[0])[None]
    crop = align.crop(planes, transform, 224)
    out = composite.paste(planes, (crop + 1) * 0.8 - 1, transform, kept, np.ones(1, bool))
    inside = composite.mask(picture, transform, kept, np.ones(1, bool)).luma_BHW > 0
    assert float(changes(planes, out)[0][inside].abs().float().mean()) < 4  # 0.2 * 90 and more before


def test_detail_of_the_generated_picture_stays() -> None:
    """Only the border is led to the source: a mouth that is drawn darker stays darker."""
    planes, transforms, kept, has = scene(FORMATS[0])
    crop = align.crop(planes, transforms, 128)
    drawn = crop.clone()
    drawn[:, :, 75:90, 50:78] -= 0.6
    plain = composite.paste(planes, crop, transforms, kept, has)
    out = composite.paste(planes, drawn, transforms, kept, has)
    middle = changes(plain, out)[0][0, 55:61, 53:67]
    assert float(middle.float().mean()) < -0.27 * 219
    assert float(border_error(planes, out, composite.mask(FORMATS[0], transforms, kept, has).luma_BHW)) < 0.5


@pytest.mark.parametrize("picture", FORMATS)
@pytest.mark.parametrize("centre", [(5, 5), (115, 90), (60, 92), (-60, 40), (60, 400)])
@pytest.mark.parametrize("side", [50.0, 260.0])
def test_faces_at_the_picture_edge(picture: PictureFormat, centre: tuple[float, float], side: float) -> None:
    planes, transforms, kept, has = scene(picture, side=side, centre=centre)
    crop = align.crop(planes, transforms, 64)
    mask = composite.mask(picture, transforms, kept, has)
    same = composite.paste(planes, crop, transforms, kept, has)
    tinted = composite.paste(planes, crop + 0.3, transforms, kept, has)
    unit = 2 ** (picture.bit_depth - 8)
    for out, most in ((same, 1.5), (tinted, 2.5)):
        luma, *chroma = changes(planes, out)
        assert not luma[mask.luma_BHW == 0].any()
        assert not any(bool(change[mask.chroma_Bhw == 0].any()) for change in chroma)
        if bool((mask.luma_BHW > 0).any()):
            scale = codes(picture).luma_scale / 219 / unit
            assert float(luma[mask.luma_BHW > 0].abs().float().mean()) < most * unit * scale


def test_frames_without_a_face_are_untouched() -> None:
    planes, transforms, kept, _ = scene(FORMATS[0], 3)
    has = np.array([False, True, False])
    transforms[0], kept[2] = np.eye(2, 3), np.nan
    out = composite.paste(planes, torch.rand(3, 3, 64, 64), transforms, kept, has)
    luma = changes(planes, out)[0]
    assert not luma[[0, 2]].any()
    assert luma[1].any()
    nobody = composite.paste(planes, torch.rand(3, 3, 64, 64), transforms, kept, np.zeros(3, bool))
    assert not changes(planes, nobody)[0].any()


@pytest.mark.parametrize("picture", FORMATS)
def test_a_frame_does_not_know_its_batch(picture: PictureFormat) -> None:
    planes, transforms, kept, has = scene(picture, 5, side=90)
    has[3] = False
    generated = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = composite.paste(planes, generated, transforms, kept, has)
    for part in ([0], [1, 0], [4, 2, 3], [3], [2, 2, 1, 0]):
        out = composite.paste(take(planes, part), generated[part], transforms[part], kept[part], has[part])
        for a, b in zip(changes(planes, whole), changes(take(planes, part), out), strict=True):
            assert torch.equal(a[part], b)


def test_a_shared_window_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does (all frames in one window) against what a CPU does (each in its own)."""
    planes, transforms, kept, has = scene(FORMATS[0], 4, side=70)
    generated = torch.rand(4, 3, 64, 64) * 2 - 1
    alone = composite.paste(planes, generated, transforms, kept, has)
    crops = align.crop(planes, transforms, 64)

    def together(region: composite.Shapes, planes: PlanesBatch) -> list[tuple[list[int], composite.Window]]:
        windows = [composite.window(region, i, planes.picture) for i in range(4)]
        union = windows[0]
        for other in windows[1:]:
            assert union is not None
            assert other is not None
            union = union | other
        assert union is not None
        return [([0, 1, 2, 3], union)]

    from farm.face import resample

    groups = resample._groups
    monkeypatch.setattr(resample, "_groups", lambda *asked, together: groups(*asked, together=True))
    monkeypatch.setattr(composite, "_parts", together)
    shared = composite.paste(planes, generated, transforms, kept, has)
    assert not any(bool(change.any()) for change in changes(alone, shared))
    assert torch.equal(align.crop(planes, transforms, 64), crops)


# ---- the mask


def test_mask_lies_on_the_face_and_inside_the_square() -> None:
    picture = PictureFormat(300, 300, 8, 1, 1, "bt709", False)
    transform = square((150, 150), 224)[None]
    kept = face_points(transform[0])[None]
    mask = composite.mask(picture, transform, kept, np.ones(1, bool))
    luma = mask.luma_BHW[0]
    assert mask.chroma_Bhw.shape == (1, 150, 150)
    rows, columns = np.nonzero(luma.numpy())
    low, high = 150 - 112, 150 + 112
    assert low < columns.min()
    assert columns.max() < high
    assert low < rows.min()
    assert rows.max() < high
    oval = kept[0, list(points.FACE_OVAL)]
    chin = oval[:, 1].max()
    assert rows.max() > chin + 10  # room for a jaw that opens further
    assert luma[int(chin) - 1, 150] > 0.9
    assert luma[140:160, 120:180].min() == 1
    assert abs(columns.min() - oval[:, 0].min()) < 4
    # The falloff is smooth: no step from one sample to the next, here 1 crop pixel, beyond smoothstep's steepest.
    assert float(luma.diff(dim=1).abs().max()) < 1.6 / FEATHER
    assert float(luma.diff(dim=0).abs().max()) < 1.6 / FEATHER


@pytest.mark.parametrize("towards", [(1, 0), (-1, -1), (0, -1), (0, 1)])
@pytest.mark.parametrize("turn", [0.0, 0.5])
def test_features_near_the_oval_or_beyond_it_are_replaced_whole(towards: tuple[int, int], turn: float) -> None:
    picture = PictureFormat(400, 400, 8, 1, 1, "bt709", False)
    transform = square((200, 200), 260, turn)[None]
    kept = face_points(transform[0])[None]
    outer = kept[0, list(points.FACE_OVAL)].mean(0)
    for group, share in ((points.EYE_LEFT, 0.8), (points.BROW_RIGHT, 0.95), (points.LIPS_OUTER, 1.04)):
        reach = np.array([66, 82]) * share / np.hypot(*towards) * 260 / 224
        kept[0, group[0]] = outer + np.array(towards) * reach @ np.array(
            [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
        )
    mask = composite.mask(picture, transform, kept, np.ones(1, bool)).luma_BHW[0].numpy()
    x, y = kept[0, list(points.FEATURES)].round().astype(int).T
    assert mask[y, x].min() == 1
    assert float(np.abs(np.diff(mask)).max()) < 1.6 / NARROW


def test_features_at_the_edge_of_the_square_are_replaced_whole() -> None:
    picture = PictureFormat(300, 300, 8, 0, 0, "bt709", False)
    transform = square((150, 150), 224)[None]
    kept = face_points(transform[0])[None]
    kept[0, list(points.CHIN)] = [[140, 244], [150, 245], [160, 244]]  # 17 crop pixels from its lower side
    mask = composite.mask(picture, transform, kept, np.ones(1, bool)).luma_BHW[0].numpy()
    assert mask[:246, 140:161].max(0).min() == 1
    assert mask[245, 140:161].min() == 1
    assert mask[259:].max() < 1e-12  # the mask ends on this very row


def test_mask_grows_with_the_face() -> None:
    picture = PictureFormat(500, 500, 8, 0, 0, "bt709", False)
    widths = []
    for side in (112, 448):
        transform = square((250, 250), side)[None]
        mask = composite.mask(picture, transform, face_points(transform[0])[None], np.ones(1, bool)).luma_BHW[0]
        line = mask[250]
        widths.append(int(((line > 0) & (line < 1)).sum()))
    assert widths[1] == pytest.approx(4 * widths[0], rel=0.1)


def test_mask_is_steady_when_points_tremble() -> None:
    picture = PictureFormat(300, 300, 8, 0, 0, "bt709", False)
    transforms = np.repeat(square((150, 150), 224)[None], 40, 0)
    noisy = np.repeat(face_points(transforms[0])[None], 40, 0) + np.random.default_rng(0).normal(
        0, 0.7, (40, points.K, 2)
    )
    steadied = align.steady_points(noisy.astype(np.float32), np.zeros(40, np.int32), transforms)
    tremble = []
    for kept in (noisy.astype(np.float32), steadied):
        tremble.append(
            float(composite.mask(picture, transforms, kept, np.ones(40, bool)).luma_BHW.diff(dim=0).abs().max())
        )
    assert tremble[1] < min(0.06, tremble[0] / 3)


# ---- the measure


def test_border_error_of_an_untouched_frame_is_zero() -> None:
    planes, transforms, kept, has = scene(FORMATS[0])
    mask = composite.mask(FORMATS[0], transforms, kept, has).luma_BHW
    assert float(border_error(planes, planes, mask)) == 0
    assert float(border_error(planes, planes, mask * 0)) == 0


@pytest.mark.parametrize("depth", [8, 10])
def test_border_error_of_a_hard_edged_patch_is_its_step(depth: int) -> None:
    picture = PictureFormat(200, 200, depth, 1, 1, "bt709", False)
    planes = batch(picture)
    mask = torch.zeros(1, 200, 200)
    mask[:, 50:150, 60:140] = 1
    bright = planes.y_BHW + (mask * 10 * 2 ** (depth - 8)).to(planes.y_BHW.dtype)
    pasted = PlanesBatch(bright, planes.u_Bhw, planes.v_Bhw, picture)
    assert float(border_error(planes, pasted, mask)) == pytest.approx(10, rel=0.02)


def test_grain_is_laid_on_inside_the_mask_only_and_by_the_frame_s_number() -> None:
    picture = PictureFormat(320, 240, 8, 1, 1, "bt601", False)
    clean, transforms, kept, has = scene(picture, 2, 200.0, (160, 120))
    noise = 3 * torch.randn(2, 240, 320, generator=torch.Generator().manual_seed(4))
    noisy = torch.full((2, 240, 320), 120.0) + noise
    planes = replace(clean, y_BHW=noisy.round().to(torch.uint8))
    soft = align.crop(replace(clean, y_BHW=torch.full((2, 240, 320), 120, dtype=torch.uint8)), transforms, 64)
    plain = composite.paste(planes, soft, transforms, kept, has)
    out = composite.paste(planes, soft, transforms, kept, has, [8, 9])
    again = composite.paste(take(planes, [1]), soft[1:], transforms[1:], kept[1:], has[1:], [9])
    assert torch.equal(again.y_BHW[0], out.y_BHW[1])
    share = composite.mask(picture, transforms, kept, has).luma_BHW
    assert torch.equal(out.y_BHW[share == 0], planes.y_BHW[share == 0])
    laid_on = (out.y_BHW.float() - plain.y_BHW.float())[share == 1]
    assert float(laid_on.std()) == pytest.approx(3, rel=0.2)


def test_a_background_that_differs_is_not_led_into_the_face() -> None:
    """Beside a turned head the border lies on what the generated picture has in another colour."""
    border = torch.zeros(1, 1, 56, 56)
    border[..., 10:46, 10] = border[..., 10:46, 45] = border[..., 10, 10:46] = border[..., 45, 10:46] = 1
    step = torch.full((1, 3, 56, 56), 0.06)
    step[..., 20:40, 45] = torch.tensor([-0.6, -0.2, 0.5])[None, :, None]
    trust = composite._usual(step, border)
    assert float(trust[..., 20:40, 45].max()) < 0.05
    assert float(trust[..., 10:46, 10].min()) > 0.9
    inside = composite._spread(step, border * trust)[..., 12:44, 12:40]
    assert float((inside - 0.06).abs().max()) < 0.03


def test_a_share_of_the_face_lies_between_none_and_all() -> None:
    picture = FORMATS[0]
    planes, transforms, kept, has = scene(picture, 3)
    generated = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    whole = composite.paste(planes, generated, transforms, kept, has)
    out = composite.paste(planes, generated, transforms, kept, has, share_B=np.array([0, 0.5, 1], np.float32))
    for all_of_it, part in zip(changes(planes, whole), changes(planes, out), strict=True):
        assert not part[0].any()
        assert torch.equal(part[2], all_of_it[2])
        assert float((part[1] - all_of_it[1] / 2).abs().max()) <= 1
        assert part[1].any()
    alone = composite.paste(
        take(planes, [1]), generated[1:2], transforms[1:2], kept[1:2], has[1:2], share_B=np.array([0.5], np.float32)
    )
    assert torch.equal(alone.y_BHW[0], out.y_BHW[1])


def test_the_mask_holds_a_jaw_that_opens_further_than_the_source_s() -> None:
    picture = PictureFormat(300, 300, 8, 0, 0, "bt709", False)
    transform = square((150, 150), 224)[None]
    kept = face_points(transform[0])[None]
    chin_y = float(kept[0, list(points.CHIN), 1].max())

    def reached(jaw: NDArray[np.float32] | None) -> tuple[int, int]:
        """Last row that is replaced whole, last row that is touched."""
        column = composite.mask(picture, transform, kept, np.ones(1, bool), jaw_BJ2=jaw).luma_BHW[0, :, 150]
        return int(torch.nonzero(column > 0.999).max()), int(torch.nonzero(column > 0).max())

    def lower(by: float) -> NDArray[np.float32]:
        in_crop = kept[:, list(points.JAW)] - 150 + 111.5
        return (in_crop + np.array([0, by])).astype(np.float32)

    usual = reached(None)
    assert reached(np.full((1, 7, 2), np.nan, np.float32)) == usual
    assert reached(lower(-15)) == usual  # the source's own chin is never left to be seen beside a closed mouth's
    assert reached(lower(8))[1] == usual[1]
    assert reached(lower(8))[0] >= chin_y + 8
    assert usual[0] < chin_y + 20
    assert reached(lower(20))[0] >= chin_y + 20
    assert reached(lower(20))[1] < 150 + 112
    assert reached(lower(1000)) == reached(lower(40))  # whatever the network says
