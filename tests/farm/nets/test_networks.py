"""The same classes at small sizes: shapes, gradients, train mode, lower precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from farm.nets.bundle import Bundle, load
from farm.nets.networks import Networks, build
from farm.nets.sizes import Sizes
from farm.nets.style import style, style_parts


@pytest.fixture(params=[64, 96, 128])
def networks(request: pytest.FixtureRequest) -> Networks:
    torch.manual_seed(0)
    return build(Sizes.tiny(request.param, identities=7))


def test_official_sizes() -> None:
    sizes = Sizes.full()
    assert (sizes.appearance, sizes.style, sizes.map_side) == (2048, 2590, 7)
    order = {name: (part.start, part.stop) for name, part in style_parts(sizes).items()}
    assert order == {
        "appearance": (0, 2048),
        "lip": (2048, 2548),
        "expression": (2548, 2578),
        "eye": (2578, 2584),
        "pose": (2584, 2590),
    }


def test_shapes_and_gradients(networks: Networks) -> None:
    sizes = networks.sizes
    pictures = torch.rand(3, 3, sizes.image, sizes.image) * 2 - 1
    appearance, app_map = networks.appearance(pictures)
    codes = networks.motion(pictures)
    feature, lip = networks.audio(torch.rand(3, 1, 80, 20))
    image = networks.generator(style(appearance, lip, codes.expression, codes.eye, codes.pose), app_map)

    side = sizes.image // 32
    assert appearance.shape == (3, sizes.appearance)
    assert app_map.shape == (3, sizes.map, side, side)
    assert networks.appearance.identity_logits(appearance).shape == (3, 7)
    assert [tuple(code.shape[1:]) for code in codes] == [(128,), (6,), (6,), (30,), (128,), (64,)]
    assert (feature.shape, lip.shape) == ((3, 128), (3, 64))
    assert image.shape == pictures.shape
    assert image.abs().max() <= 1

    wanted = image.square().mean() + codes.lip.square().mean()
    (wanted + networks.appearance.identity_logits(appearance).square().mean()).backward()
    for name, network in networks.named().items():
        for key, parameter in network.named_parameters():
            assert parameter.grad is not None, f"{name} {key}"
            assert torch.isfinite(parameter.grad).all(), f"{name} {key}"
            assert parameter.grad.abs().max() > 0 or key.endswith(("conv1.bias", "0.bias")), f"{name} {key}"


def test_dropout_acts_in_train_mode_only() -> None:
    torch.manual_seed(0)
    motion = build(Sizes.tiny()).motion
    pictures = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert not torch.equal(motion(pictures).unified, motion(pictures).unified)
        motion.eval()
        assert torch.equal(motion(pictures).unified, motion(pictures).unified)


def test_one_appearance_serves_the_batch(tiny_bundle: Bundle) -> None:
    torch.manual_seed(0)
    sizes = tiny_bundle.sizes
    appearance, app_map = torch.rand(1, sizes.appearance), torch.randn(1, sizes.map, 2, 2)
    codes = [torch.randn(4, n) for n in (sizes.lip, sizes.expression, sizes.eye, sizes.pose)]
    with torch.inference_mode():
        shared = tiny_bundle.generator(style(appearance, *codes), app_map)
        copied = tiny_bundle.generator(style(appearance.expand(4, -1), *codes), app_map.expand(4, -1, -1, -1))
    torch.testing.assert_close(shared, copied, rtol=0, atol=1e-5)


def test_lower_precision_is_close(tiny_folder: Path, tiny_bundle: Bundle) -> None:
    half = load(tiny_folder, torch.device("cpu"), dtype=torch.bfloat16)
    torch.manual_seed(0)
    pictures, mel = torch.rand(2, 3, 64, 64) * 2 - 1, torch.rand(2, 1, 80, 20)
    images = []
    for bundle in (tiny_bundle, half):
        with torch.inference_mode():
            appearance, app_map = bundle.appearance(pictures.to(bundle.dtype))
            codes = bundle.motion(pictures.to(bundle.dtype))
            lip = bundle.audio(mel.to(bundle.dtype))[1]
            images.append(bundle.generator(style(appearance, lip, codes.expression, codes.eye, codes.pose), app_map))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        appearance, app_map = tiny_bundle.appearance(pictures)
        codes = tiny_bundle.motion(pictures)
        lip = tiny_bundle.audio(mel)[1]
        images.append(tiny_bundle.generator(style(appearance, lip, codes.expression, codes.eye, codes.pose), app_map))
    for image in images[1:]:
        assert (image.float() - images[0]).abs().mean() < 0.05
