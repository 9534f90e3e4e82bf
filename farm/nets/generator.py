"""Generator: StyleGAN2 synthesis (Karras et al. 2020) that starts from the appearance map instead of a constant.

B batch, C/O channels in and out, D style length, S image side. Modulation scales activations: with s the style's scale
of each input channel, conv(x, w * s) = conv(x * s, w), so one convolution with shared weights serves the whole
batch, and demodulation scales its output. (tests/farm/nets holds the grouped-convolution twin.)
Attribute names are the official state-dict keys; convolution weights drop the official leading axis of 1, so that they
are ordinary convolution weights to memory formats and optimisers.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from farm.nets.sizes import Sizes

RESOLUTIONS = 6
DEMODULATION_FLOOR = 1e-8


class Modulation(nn.Module):
    """style_BD -> scale_BC around 1; an equalised linear layer (weights of unit variance, scaled at run time)."""

    def __init__(self, style: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, style))
        self.bias = nn.Parameter(torch.ones(channels))
        self.gain = 1 / math.sqrt(style)

    def forward(self, style_BD: Tensor) -> Tensor:
        return F.linear(style_BD * self.gain, self.weight, self.bias)


class Blur(nn.Module):
    """Smooths what a stride-2 transposed convolution made: (2H+1) -> 2H samples."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", binomial())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        channels = x_BCHW.shape[1]
        kernel = self.kernel.to(x_BCHW.dtype).expand(channels, 1, 4, 4)
        return F.conv2d(x_BCHW, kernel, padding=1, groups=channels)


class Upsample(nn.Module):
    """Twice the size, with the binomial kernel [1, 3, 3, 1]."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", binomial())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        channels = x_BCHW.shape[1]
        kernel = self.kernel.to(x_BCHW.dtype).expand(channels, 1, 4, 4)
        return F.conv_transpose2d(x_BCHW, kernel, stride=2, padding=1, groups=channels)


class ModulatedConv(nn.Module):
    """Convolution whose input channels are scaled by the style, its output brought back to unit variance."""

    def __init__(self, channels: int, out: int, side: int, style: int, *, up: bool = False, demodulate: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, channels, side, side))
        self.modulation = Modulation(style, channels)
        self.blur = Blur() if up else None
        self.gain = 1 / math.sqrt(channels * side * side)
        self.demodulate = demodulate

    def forward(self, x_BCHW: Tensor, style_BD: Tensor) -> Tensor:
        # The weight's run-time gain rides on the scales: no scaled copy of the weight is ever made.
        scale_BC = self.modulation(style_BD) * self.gain
        x = x_BCHW * scale_BC[:, :, None, None].to(x_BCHW.dtype)
        if self.blur is None:
            x = F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2)
        else:
            x = F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)
        if self.demodulate:
            energy_OC = self.weight.float().square().sum(dim=(2, 3))
            norm_BO = torch.rsqrt(F.linear(scale_BC.float().square(), energy_OC) + DEMODULATION_FLOOR)
            x = x * norm_BO[:, :, None, None].to(x.dtype)
        return x if self.blur is None else self.blur(x)


class Noise(nn.Module):
    """Adds the layer's fixed noise picture, weighted."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x_BCHW: Tensor, noise_11HW: Tensor) -> Tensor:
        return x_BCHW + (self.weight * noise_11HW).to(x_BCHW.dtype)


class Activate(nn.Module):
    """Bias, leaky ReLU 0.2, and sqrt(2) to keep the variance."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.leaky_relu(x_BCHW + self.bias.to(x_BCHW.dtype), 0.2) * math.sqrt(2)


class StyledConv(nn.Module):
    def __init__(self, channels: int, out: int, style: int, *, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(channels, out, 3, style, up=up)
        self.noise = Noise()
        self.activate = Activate(out)

    def forward(self, x_BCHW: Tensor, style_BD: Tensor, noise_11HW: Tensor) -> Tensor:
        return self.activate(self.noise(self.conv(x_BCHW, style_BD), noise_11HW))


class ToRGB(nn.Module):
    """Adds this resolution's RGB to the upsampled RGB of the one below."""

    def __init__(self, channels: int, style: int, *, up: bool = True) -> None:
        super().__init__()
        self.conv = ModulatedConv(channels, 3, 1, style, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.upsample = Upsample() if up else None

    def forward(self, x_BCHW: Tensor, style_BD: Tensor, below_B3hw: Tensor | None = None) -> Tensor:
        rgb = self.conv(x_BCHW, style_BD) + self.bias.to(x_BCHW.dtype)
        if self.upsample is not None and below_B3hw is not None:
            rgb = rgb + self.upsample(below_B3hw)
        return rgb


class Generator(nn.Module):
    """style_BD and the appearance map -> image. No mapping network: the raw style feeds every modulation."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        widths, style = sizes.generator, sizes.style
        self.conv1 = StyledConv(sizes.map, widths[0], style)
        self.to_rgb1 = ToRGB(widths[0], style, up=False)
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        for below, width in itertools.pairwise(widths):
            self.convs += [StyledConv(below, width, style, up=True), StyledConv(width, width, style)]
            self.to_rgbs.append(ToRGB(width, style))
        self.noises = nn.Module()
        for layer in range(2 * RESOLUTIONS - 1):
            side = sizes.map_side * 2 ** ((layer + 1) // 2)
            self.noises.register_buffer(f"noise_{layer}", torch.randn(1, 1, side, side))

    def forward(self, style_BD: Tensor, map_BCMM: Tensor) -> Tensor:
        """image_B3SS in [-1, 1]. A map of batch 1 serves every frame of the style's batch."""
        return torch.tanh(self.rgb(style_BD, map_BCMM))

    def rgb(self, style_BD: Tensor, map_BCMM: Tensor) -> Tensor:
        """The image before tanh, unbounded."""
        x = self.conv1(map_BCMM, style_BD, self.noises.get_buffer("noise_0"))
        rgb = self.to_rgb1(x, style_BD)
        for step, to_rgb in enumerate(self.to_rgbs):
            for layer in (2 * step, 2 * step + 1):
                x = self.convs[layer](x, style_BD, self.noises.get_buffer(f"noise_{layer + 1}"))
            rgb = to_rgb(x, style_BD, rgb)
        return rgb


def binomial() -> Tensor:
    """4x4 kernel of [1, 3, 3, 1], normalised to keep brightness when it follows insertion of zeros (sum 4)."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(line, line)
    return 4 * kernel / kernel.sum()
