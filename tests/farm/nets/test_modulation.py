"""Shared-weight modulated convolution against its slow twin, the grouped one that StyleGAN2 was published with."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from farm.nets.generator import ModulatedConv, Upsample, binomial


def grouped(conv: ModulatedConv, x_BCHW: Tensor, style_BD: Tensor) -> Tensor:
    """Every item of the batch gets weights of its own, as a group of one large convolution."""
    batch, channels, height, width = x_BCHW.shape
    out, _, side, _ = conv.weight.shape
    scale = F.linear(style_BD, conv.modulation.weight * style_BD.shape[1] ** -0.5, conv.modulation.bias)
    weight = conv.weight[None] * (channels * side * side) ** -0.5 * scale[:, None, :, None, None]
    if conv.demodulate:
        weight = weight * torch.rsqrt(weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
    x = x_BCHW.reshape(1, batch * channels, height, width)
    if conv.blur is None:
        x = F.conv2d(x, weight.flatten(0, 1), padding=side // 2, groups=batch)
        return x.view(batch, out, height, width)
    x = F.conv_transpose2d(x, weight.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
    x = x.view(batch * out, 1, 2 * height + 1, 2 * width + 1)
    return F.conv2d(x, binomial().to(x.dtype)[None, None], padding=1).view(batch, out, 2 * height, 2 * width)


@pytest.mark.parametrize("demodulate", [False, True])
@pytest.mark.parametrize(("side", "up"), [(1, False), (3, False), (3, True)])
def test_scaled_activations_equal_grouped_weights(up: bool, demodulate: bool, side: int) -> None:
    torch.manual_seed(0)
    conv = ModulatedConv(5, 7, side, 11, up=up, demodulate=demodulate).double()
    x, style = torch.randn(3, 5, 6, 4).double(), torch.randn(3, 11).double()
    x.requires_grad_()
    fast, slow = conv(x, style), grouped(conv, x, style)
    # Demodulation is computed in float32 whatever the activations are.
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-6)
    direction = torch.randn_like(fast)
    inputs = (x, conv.weight, conv.modulation.weight)
    fast_gradients = torch.autograd.grad((fast * direction).sum(), inputs)
    slow_gradients = torch.autograd.grad((slow * direction).sum(), inputs)
    torch.testing.assert_close(fast_gradients, slow_gradients, rtol=1e-4, atol=1e-5)


def test_upsample_equals_zeros_and_blur() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 4)
    spread = torch.zeros(2, 3, 10, 8)
    spread[:, :, ::2, ::2] = x
    kernel = binomial().expand(3, 1, 4, 4)
    slow = F.conv2d(F.pad(spread, (2, 1, 2, 1)), kernel, groups=3)
    torch.testing.assert_close(Upsample()(x), slow)


def test_upsample_keeps_brightness() -> None:
    flat = Upsample()(torch.ones(1, 3, 6, 6))
    torch.testing.assert_close(flat[:, :, 2:-2, 2:-2], torch.ones(1, 3, 8, 8))
