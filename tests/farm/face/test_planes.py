from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from farm.face import planes
from farm.media.frame import PictureFormat
from tests.farm.face.drawn import CPU, FORMATS, batch, textured

SMALL = PictureFormat(4, 4, 8, 0, 0, "bt601", False)

# Published values: BT.601 and BT.709 colour bars (EBU / SMPTE tables), JFIF for full range, BT.2020 from its equations.
KNOWN = [
    ("bt601", 8, False, (1, 1, 1), (235, 128, 128)),
    ("bt601", 8, False, (0, 0, 0), (16, 128, 128)),
    ("bt601", 8, False, (1, 0, 0), (81, 90, 240)),
    ("bt601", 8, False, (0, 1, 0), (145, 54, 34)),
    ("bt601", 8, False, (0, 0, 1), (41, 240, 110)),
    ("bt709", 8, False, (1, 0, 0), (63, 102, 240)),
    ("bt709", 8, False, (0, 1, 0), (173, 42, 26)),
    ("bt709", 8, False, (0, 0, 1), (32, 240, 118)),
    ("bt709", 8, False, (0.75, 0.75, 0), (168, 44, 136)),
    ("bt709", 10, False, (1, 0, 0), (250, 409, 960)),
    ("bt709", 10, False, (1, 1, 1), (940, 512, 512)),
    ("bt601", 8, True, (1, 0, 0), (76, 85, 255.5)),
    ("bt601", 8, True, (0, 1, 0), (150, 44, 21)),
    ("bt601", 8, True, (0, 0, 1), (29, 255.5, 107)),
    ("bt2020", 10, False, (1, 0, 0), (294, 387, 960)),
    ("bt2020", 10, False, (0, 0, 1), (116, 960, 476)),
    ("bt2020", 10, True, (1, 1, 1), (1023, 512, 512)),
]


@pytest.mark.parametrize(("matrix", "depth", "full", "colour", "expected"), KNOWN)
def test_known_colours(
    matrix: str, depth: int, full: bool, colour: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    picture = replace(SMALL, matrix=matrix, bit_depth=depth, full_range=full)
    rgb = torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1)
    code = planes.codes_from_rgb(rgb, picture)
    assert code.flatten().tolist() == pytest.approx(expected, abs=0.51)
    back = planes.rgb_from_codes(code[:, 0], code[:, 1], code[:, 2], picture)
    torch.testing.assert_close(back, rgb, atol=2e-6, rtol=0)


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
def test_matrices_are_inverse(matrix: str) -> None:
    product = planes.rgb_from_ypbpr(matrix) @ planes.ypbpr_from_rgb(matrix)
    np.testing.assert_allclose(product, np.eye(3), atol=1e-14)


@pytest.mark.parametrize("picture", FORMATS)
def test_grey_is_grey(picture: PictureFormat) -> None:
    unit = 2 ** (picture.bit_depth - 8)
    source = batch(picture)
    grey = planes.PlanesBatch(source.y_BHW, source.u_Bhw * 0 + 128 * unit, source.v_Bhw * 0 + 128 * unit, picture)
    red, green, blue = planes.rgb(grey).unbind(1)
    assert torch.equal(red, green)
    assert torch.equal(green, blue)


@pytest.mark.parametrize("picture", FORMATS)
def test_frames_come_back_bit_identical(picture: PictureFormat) -> None:
    frames = [textured(picture, seed, 7 + seed) for seed in range(3)]
    back = planes.to_frames(planes.to_device(frames, picture, CPU), frames)
    for a, b in zip(frames, back, strict=True):
        assert (a.index, a.pts) == (b.index, b.pts)
        for x, y in ((a.y, b.y), (a.u, b.u), (a.v, b.v)):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)


def test_planes_that_do_not_fit_are_refused() -> None:
    picture = FORMATS[0]
    with pytest.raises(ValueError, match="planes"):
        planes.to_device([textured(picture)], replace(picture, width=picture.width + 2), CPU)
    with pytest.raises(ValueError, match="unsupported"):
        planes.to_device([textured(picture)], replace(picture, chroma_x=2), CPU)


@pytest.mark.parametrize("picture", FORMATS)
def test_a_region_is_a_part_of_the_whole(picture: PictureFormat) -> None:
    source = batch(picture, 2)
    whole = planes.rgb(source)
    assert whole.shape == (2, 3, picture.height, picture.width)
    assert torch.equal(planes.rgb(source, (13, 8, 90, 77)), whole[:, :, 8:77, 13:90])


@pytest.mark.parametrize("picture", FORMATS)
def test_chroma_is_read_where_it_is_sited(picture: PictureFormat) -> None:
    """A chroma ramp over luma positions, sampled at its sites, must come back as that ramp."""
    rows, columns = planes.chroma_shape(picture)
    step_x, step_y = 2**picture.chroma_x, 2**picture.chroma_y
    x = np.arange(columns) * step_x
    y = np.arange(rows) * step_y + (step_y - 1) / 2
    code = planes.codes(picture)
    ramp = code.chroma_zero + 0.2 * x + 0.1 * y[:, None]
    u = torch.from_numpy(ramp[None]).float()
    luma = torch.full((1, picture.height, picture.width), code.luma_zero + 0.5 * code.luma_scale)
    flat = torch.full_like(u, code.chroma_zero)
    rgb = planes.rgb(planes.PlanesBatch(luma, u, flat, picture))
    found = planes.codes_from_rgb(rgb, picture)[0, 1]
    wanted = code.chroma_zero + 0.2 * np.arange(picture.width) + 0.1 * np.arange(picture.height)[:, None]
    inside = (slice(1, -2), slice(0, -2))
    np.testing.assert_allclose(found.numpy()[inside], wanted[inside], atol=2e-3)


@pytest.mark.parametrize("picture", FORMATS)
def test_round_trip_through_rgb(picture: PictureFormat) -> None:
    source = batch(picture)
    code = planes.codes_from_rgb(planes.rgb(source), picture)
    assert torch.equal((code[:, 0] + 0.5).floor().to(source.y_BHW.dtype), source.y_BHW)
