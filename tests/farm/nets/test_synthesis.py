"""The generator made ready to render against its slow twins: the module that trains, the same in float64."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from farm.nets.generator import Generator
from farm.nets.packed import PackedConv
from farm.nets.ready import TOLERANCE
from farm.nets.sizes import Sizes
from farm.nets.synthesis import Synthesis, tamed
from farm.nets.winograd import WinogradConv, Workspace

WIDE = Sizes(
    image=128,
    appearance_stem=8,
    appearance_groups=4,
    map=16,
    generator=(16, 16, 32, 72, 64, 64),
    lip=20,
)
"""Wide enough for Winograd at three resolutions, small enough for a test."""


def _generator(sizes: Sizes) -> Generator:
    torch.manual_seed(0)
    generator = Generator(sizes).eval().requires_grad_(False)
    for name, parameter in generator.named_parameters():
        if name.endswith(("noise.weight", "activate.bias")) or name.startswith(("to_rgb1.bias", "to_rgbs")):
            parameter.normal_(0.1, 0.3)
    return generator


def _inputs(sizes: Sizes, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    motion = torch.randn(batch, sizes.style - sizes.appearance)
    return torch.randn(1, sizes.appearance), motion, torch.randn(1, sizes.map, sizes.map_side, sizes.map_side)


def _slow(generator: Generator, code: Tensor, motion: Tensor, app_map: Tensor) -> Tensor:
    style = torch.cat([code.expand(len(motion), -1), motion], dim=1)
    return copy.deepcopy(generator).double()(style.double(), app_map.double())


@pytest.mark.parametrize("sizes", [Sizes.tiny(64), Sizes.tiny(96), WIDE], ids=["tiny", "odd", "wide"])
@pytest.mark.parametrize("deterministic", [False, True])
def test_it_renders_what_was_trained(sizes: Sizes, deterministic: bool) -> None:
    generator = _generator(sizes)
    code, motion, app_map = _inputs(sizes, 3)
    synthesis = Synthesis(generator, torch.float32, sizes.appearance, deterministic=deterministic)
    image = synthesis(motion, synthesis.prepare(code, app_map))
    slow = _slow(generator, code, motion, app_map)
    assert slow.std() > 0.1
    assert (image - slow).abs().max() <= 4e-5


def test_wide_goes_by_winograd() -> None:
    synthesis = Synthesis(_generator(WIDE), torch.float32, WIDE.appearance)
    assert sum(layer.winograd is not None for layer in synthesis._layers) == 3


def test_half_precision_keeps_45_db() -> None:
    generator = _generator(WIDE)
    code, motion, app_map = _inputs(WIDE, 2)
    synthesis = Synthesis(generator, torch.bfloat16, WIDE.appearance)
    image = synthesis(motion, synthesis.prepare(code, app_map))
    assert image.dtype is torch.float32
    error = (image - _slow(generator, code, motion, app_map)).square().mean()
    assert 10 * torch.log10(4 / error) >= 45


@pytest.mark.parametrize("size", [0.0, 1e-8, 1e-3, 1.0, 3e4])
def test_tamed_scales_demodulate_to_the_same(size: float) -> None:
    synthesis = Synthesis(_generator(WIDE), torch.float32, WIDE.appearance)
    layer = synthesis._layers[3]
    assert layer.conv is not None or layer.winograd is not None
    scale = size * torch.randn(4, layer.channels)
    small, most = tamed(scale, torch.float16)
    assert small.abs().max() <= 1
    assert tamed(scale, torch.float32)[0] is scale
    x = torch.randn(4, layer.channels)
    expected = (x * scale) @ layer.energy_OC.T.sqrt() * layer.norm(scale)
    torch.testing.assert_close((x * small) @ layer.energy_OC.T.sqrt() * layer.norm(small, most), expected)


def test_large_styles_stay_finite_in_float16() -> None:
    generator = _generator(WIDE)
    code, motion, app_map = _inputs(WIDE, 2)
    motion[0] *= 3e5
    image = None
    for dtype in (torch.float32, torch.float16):
        synthesis = Synthesis(generator, dtype, WIDE.appearance)
        exact, image = image, synthesis(motion, synthesis.prepare(code, app_map))
    assert exact is not None
    assert torch.isfinite(image).all()
    assert (image[1] - exact[1]).abs().max() <= 0.05
    # tanh is a sign by now: what little is not agreed upon are pixels near zero.
    assert ((image[0] - exact[0]).abs() > 0.1).float().mean() <= 0.01


@pytest.mark.parametrize("sizes", [Sizes.tiny(64), WIDE], ids=["tiny", "wide"])
def test_deterministic_bits_do_not_depend_on_the_batch(sizes: Sizes) -> None:
    generator = _generator(sizes)
    code, motion, app_map = _inputs(sizes, 4)
    synthesis = Synthesis(generator, torch.float32, sizes.appearance, deterministic=True)
    scene = synthesis.prepare(code, app_map)
    whole = synthesis(motion, scene)
    for batch in (1, 3):
        assert torch.equal(torch.cat([synthesis(part, scene) for part in motion.split(batch)]), whole)


@pytest.mark.parametrize("sizes", [Sizes.tiny(64), WIDE], ids=["tiny", "wide"])
def test_otherwise_they_stay_within_the_tolerance(sizes: Sizes) -> None:
    generator = _generator(sizes)
    code, motion, app_map = _inputs(sizes, 4)
    synthesis = Synthesis(generator, torch.float32, sizes.appearance)
    scene = synthesis.prepare(code, app_map)
    whole = synthesis(motion, scene)
    threads = torch.get_num_threads()
    try:
        for batch, count in ((1, 1), (2, 3)):
            torch.set_num_threads(count)
            parts = torch.cat([synthesis(part, scene) for part in motion.split(batch)])
            assert (parts - whole).abs().max() <= TOLERANCE
    finally:
        torch.set_num_threads(threads)


def test_scenes_do_not_mix() -> None:
    generator = _generator(WIDE)
    code, motion, app_map = _inputs(WIDE, 1)
    synthesis = Synthesis(generator, torch.float32, WIDE.appearance)
    scene, other = synthesis.prepare(code, app_map), synthesis.prepare(code.flip(1), app_map.flip(1))
    first = synthesis(motion, scene)
    assert not torch.allclose(synthesis(motion, other), first, atol=0.1)
    assert torch.equal(synthesis(motion, scene), first)


@pytest.mark.parametrize(("channels", "out", "side"), [(3, 5, 4), (16, 8, 28), (6, 7, 120)])
def test_winograd_equals_direct_convolution(channels: int, out: int, side: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(out, channels, 3, 3) / (9 * channels) ** 0.5
    conv = WinogradConv(weight, side, Workspace())
    for _ in range(2):
        x = torch.randn(channels, side, side)
        conv.inside_HWC.copy_(x.permute(1, 2, 0))
        y = torch.empty(side // 4, 4, side // 4, 4, out)
        for rows, tiles in conv.blocks():
            y[rows] = tiles
        slow = F.conv2d(x[None].double(), weight.double(), padding=1)[0]
        assert (y.view(side, side, out).permute(2, 0, 1) - slow).abs().max() <= 4e-5


def test_winograd_wants_whole_tiles() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        WinogradConv(torch.zeros(1, 1, 3, 3), 14, Workspace())


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_equals_plain(dtype: torch.dtype, batch: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(batch, 6, 9, 9).to(dtype).contiguous(memory_format=torch.channels_last)
    weight, depthwise, bias = torch.randn(4, 6, 3, 3).to(dtype), torch.randn(6, 1, 4, 4).to(dtype), torch.randn(4)
    bias = bias.to(dtype)
    pairs = [
        (PackedConv(weight, bias, (2, 6, 9, 9), stride=2, padding=1), F.conv2d(x, weight, bias, 2, 1)),
        (PackedConv(depthwise, None, (2, 6, 9, 9), groups=6), F.conv2d(x, depthwise, groups=6)),
        (
            PackedConv(weight.transpose(0, 1), None, (2, 6, 9, 9), stride=2, transposed=True),
            F.conv_transpose2d(x, weight.transpose(0, 1), stride=2),
        ),
    ]
    for packed, plain in pairs:
        torch.testing.assert_close(packed(x), plain)
