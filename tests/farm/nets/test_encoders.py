"""The encoders made ready against their slow twins: the modules that train, the same in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from farm.nets.audio import AudioEncoder
from farm.nets.encoders import ReadyAudio, ReadyMotion
from farm.nets.motion import MotionCodes, MotionEncoder
from farm.nets.ready import in_pieces
from farm.nets.sizes import Sizes

WIDE = Sizes(image=128, appearance_stem=8, appearance_groups=4, motion_stem=64, heatmaps=8, feature=48, lip=20)
"""Wide enough for Winograd, small enough for a test; the hourglass's bottom is 2 x 2 pixels, and its sides are odd."""
ODD = Sizes(image=160, appearance_stem=8, appearance_groups=4, motion_stem=8, heatmaps=8, feature=32, lip=20)


class Case(NamedTuple):
    plain: nn.Module
    make: Callable[[bool], Any]
    items: Tensor


def _trained(network: nn.Module) -> nn.Module:
    """With norms that a training has moved, negative scales among them."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.weight.normal_(0.6, 0.4)
            module.bias.normal_(0, 0.3)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    if isinstance(network, MotionEncoder):
        # The one channel that all goes through, before its ReLU: drawn by chance it may be dead.
        network.model.conv6.weight.abs_()
    return network


@pytest.fixture(scope="module", params=["motion", "motion wide", "motion odd", "audio"])
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    if request.param == "audio":
        with torch.no_grad():
            heard = _trained(AudioEncoder(Sizes.tiny()).eval().requires_grad_(False))
        assert isinstance(heard, AudioEncoder)
        return Case(
            heard, lambda alone: ReadyAudio(heard, torch.float32, deterministic=alone), torch.rand(5, 1, 80, 20)
        )
    sizes = {"motion": Sizes.tiny(), "motion wide": WIDE, "motion odd": ODD}[request.param]
    with torch.no_grad():
        seen = _trained(MotionEncoder(sizes).eval().requires_grad_(False))
    assert isinstance(seen, MotionEncoder)
    pictures = torch.rand(5, 3, sizes.image, sizes.image) * 2 - 1
    return Case(seen, lambda alone: ReadyMotion(seen, sizes, torch.float32, deterministic=alone), pictures)


@pytest.mark.parametrize("deterministic", [False, True])
def test_codes_are_those_of_what_was_trained(case: Case, deterministic: bool) -> None:
    ready = case.make(deterministic)
    found = in_pieces(ready, ready.together)(case.items)
    slow = copy.deepcopy(case.plain).double()(case.items.double())
    assert type(found) is type(slow)
    for code, expected in zip(found, slow, strict=True):
        assert expected.std(dim=0).mean() > 1e-4 * expected.abs().mean()
        assert torch.linalg.vector_norm(code - expected) <= 2e-5 * torch.linalg.vector_norm(expected)


def test_deterministic_bits_do_not_depend_on_the_batch(case: Case) -> None:
    ready = case.make(True)
    run = in_pieces(ready, ready.together)
    whole = run(case.items)
    for batch in (1, 3):
        parts = [run(piece) for piece in case.items.split(batch)]
        for number, code in enumerate(whole):
            assert torch.equal(torch.cat([part[number] for part in parts]), code)


def test_wide_goes_by_winograd() -> None:
    torch.manual_seed(0)
    encoder = MotionEncoder(WIDE).eval().requires_grad_(False)
    assert ReadyMotion(encoder, WIDE, torch.float32, deterministic=True).winograds > 0
    assert ReadyMotion(encoder, WIDE, torch.bfloat16, deterministic=True).winograds == 0


def test_half_precision_gives_the_codes_roughly() -> None:
    torch.manual_seed(0)
    sizes = Sizes.tiny()
    motion, audio = MotionEncoder(sizes).eval().requires_grad_(False), AudioEncoder(sizes).eval().requires_grad_(False)
    x, mel = torch.rand(2, 3, 64, 64) * 2 - 1, torch.rand(2, 1, 80, 20)
    for plain, ready, items in (
        (motion, ReadyMotion(motion, sizes, torch.bfloat16), x),
        (audio, ReadyAudio(audio, torch.bfloat16), mel),
    ):
        for code, exact in zip(ready(items.bfloat16()), plain(items), strict=True):
            assert code.dtype is torch.bfloat16
            assert torch.linalg.vector_norm(code - exact) <= 0.03 * torch.linalg.vector_norm(exact)


def test_pieces_are_put_together_in_order() -> None:
    seen: list[int] = []

    def network(x: Tensor) -> MotionCodes:
        seen.append(len(x))
        return MotionCodes(x, 2 * x, x, x, x, x)

    codes = in_pieces(network, 2)(torch.arange(5.0)[:, None])
    assert seen == [2, 2, 1]
    assert isinstance(codes, MotionCodes)
    assert codes.pose.flatten().tolist() == [0, 2, 4, 6, 8]
