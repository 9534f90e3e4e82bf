"""The generator made ready to render: the same pictures as `farm.nets.generator.Generator`, without gradients.

What a job never changes is done once a job (`Synthesis.prepare`), what a bundle never changes once a bundle:
- style = [appearance | motion codes]: the style layers are split by columns, and the appearance's part, constant over a
  job, is summed up front; the motion's part of all layers is one matrix product;
- run-time gains are folded into the weights, sqrt(2) of the activation into demodulation, noise and bias (a leaky ReLU
  keeps positive factors), noise and bias into one picture a layer; the weights' energies for demodulation are kept;
- the plain 3x3 layers go by Winograd in float32 on a CPU, all others through weights packed for their shape.
On a CPU large frames go through one at a time, so that the pictures of one layer stay in the caches, small ones a few
at a time. On a GPU a batch goes through at once, as a CUDA graph.
B batch, C/O channels in and out, A appearance code, M motion codes, Z scales of all layers together, S image side.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from farm.nets.generator import DEMODULATION_FLOOR, Generator, ModulatedConv, StyledConv, ToRGB
from farm.nets.graphs import Graphed
from farm.nets.packed import PackedConv, together
from farm.nets.winograd import TILE, WinogradConv, Workspace, goes_by_winograd

SLOPE: Final = 0.2
LEAST_SCALE: Final = 1e-6
"""Scales that are all smaller are as good as zero."""


@dataclass(frozen=True)
class Scene:
    """All of one job's pictures that their motion does not change: who is shown, as one `Synthesis` computes it."""

    constant_1Z: Tensor
    map_1CMM: Tensor


class _Styled:
    """StyledConv: modulation, convolution (upsampling with blur), demodulation, noise, bias, activation."""

    def __init__(
        self, layer: StyledConv, noise_11HW: Tensor, shape: Sequence[int], dtype: torch.dtype, workspace: Workspace
    ) -> None:
        conv = layer.conv
        weight = conv.weight.float() * conv.gain
        self.channels, self.out = weight.shape[1], weight.shape[0]
        self.energy_OC = weight.square().sum(dim=(2, 3))
        offset = (noise_11HW.float() * layer.noise.weight.float() + layer.activate.bias.float()) * math.sqrt(2)
        self.offset_1OHW = offset.to(dtype).contiguous(memory_format=torch.channels_last)
        side = noise_11HW.shape[-1]
        self.blur = self.conv = self.winograd = None
        cast = weight.to(dtype)
        if conv.blur is not None:
            self.conv = PackedConv(cast.transpose(0, 1), None, shape, stride=2, transposed=True)
            kernel = conv.blur.kernel.to(dtype).expand(self.out, 1, 4, 4)
            between = (shape[0], self.out, side + 1, side + 1)
            self.blur = PackedConv(kernel, None, between, padding=1, groups=self.out)
        elif shape[0] == 1 and goes_by_winograd(cast, side):
            self.winograd = WinogradConv(weight, side, workspace)
        else:
            self.conv = PackedConv(cast, None, shape, padding=1)

    @property
    def weight_bytes(self) -> int:
        """Of the weights and what else grows with the network: energies, the noise, Winograd's padded picture."""
        kept = [self.energy_OC, self.offset_1OHW]
        kept += [part for conv in (self.conv, self.winograd) if conv is not None for part in conv.tensors]
        return sum(tensor.numel() * tensor.element_size() for tensor in kept)

    def norm(self, scale_BC: Tensor, most_B1: Tensor | float = 1.0) -> Tensor:
        """norm_BO that brings the convolution's output back to unit variance, times the activation's sqrt(2).

        most_B1: what scale_BC was divided by (`tamed`)."""
        energy_BO = F.linear(scale_BC.square(), self.energy_OC)
        return torch.rsqrt(energy_BO + DEMODULATION_FLOOR / most_B1**2) * math.sqrt(2)

    def __call__(self, x_BCHW: Tensor, scale_BC: Tensor) -> Tensor:
        scale_BC, most_B1 = tamed(scale_BC, x_BCHW.dtype)
        norm_BO = self.norm(scale_BC, most_B1)
        if self.winograd is not None:
            y = self._by_winograd(x_BCHW, scale_BC, norm_BO)
        else:
            assert self.conv is not None
            y = self.conv(x_BCHW * scale_BC[:, :, None, None].to(x_BCHW.dtype))
            if self.blur is not None:
                y = self.blur(y)
            torch.addcmul(self.offset_1OHW, y, norm_BO[:, :, None, None].to(y.dtype), out=y)
        return F.leaky_relu_(y, SLOPE)

    def _by_winograd(self, x_1CHW: Tensor, scale_1C: Tensor, norm_1O: Tensor) -> Tensor:
        assert self.winograd is not None
        torch.mul(x_1CHW[0].permute(1, 2, 0), scale_1C[0], out=self.winograd.inside_HWC)
        y_1OHW = torch.empty_like(self.offset_1OHW)
        tiled = [
            picture[0].permute(1, 2, 0).unflatten(1, (-1, TILE)).unflatten(0, (-1, TILE))
            for picture in (self.offset_1OHW, y_1OHW)
        ]
        for rows, tiles in self.winograd.blocks():
            torch.addcmul(tiled[0][rows], tiles, norm_1O[0], out=tiled[1][rows])
        return y_1OHW


class _Rgb:
    """ToRGB: this resolution's RGB in float32, added to the upsampled RGB of the one below."""

    def __init__(self, layer: ToRGB) -> None:
        conv = layer.conv
        self.channels = conv.weight.shape[1]
        self.weight_3C = (conv.weight.float() * conv.gain).flatten(1)
        self.bias_3 = layer.bias.float().flatten()
        self.upsample = layer.upsample

    def __call__(self, x_BCHW: Tensor, scale_BC: Tensor, below_B3hw: Tensor | None) -> Tensor:
        # Three channels: weights for each frame are next to nothing, and no scaled copy of x is made.
        scale_BC, most_B1 = tamed(scale_BC, x_BCHW.dtype)
        weight_BC3 = (self.weight_3C * scale_BC[:, None]).transpose(1, 2).to(x_BCHW.dtype)
        pixels_BPC = x_BCHW.permute(0, 2, 3, 1).flatten(1, 2)
        rgb_BP3 = torch.bmm(pixels_BPC, weight_BC3).float()
        if isinstance(most_B1, Tensor):
            rgb_BP3 *= most_B1[:, None]
        rgb = (rgb_BP3 + self.bias_3).transpose(1, 2).unflatten(2, x_BCHW.shape[2:])
        if self.upsample is None or below_B3hw is None:
            return rgb
        return rgb + self.upsample(below_B3hw)


class Synthesis:
    """A generator's weights, ready on the device that they are on."""

    def __init__(
        self, generator: Generator, dtype: torch.dtype, appearance: int, *, deterministic: bool = False
    ) -> None:
        """dtype: of activations and convolutions; scales, norms and the RGB pictures are float32.

        appearance: length of that code. deterministic: each frame alone, so that its bits do not depend on the batch.
        """
        workspace = Workspace()
        weight = generator.conv1.conv.weight
        self.device, self.dtype = weight.device, dtype
        self.together = 1 if deterministic else _together(generator, self.device)
        self._lock = threading.Lock()
        self._run = Graphed(self._pictures)
        side = generator.noises.get_buffer("noise_0").shape[-1]
        self._layers: list[_Styled] = []
        with torch.no_grad():
            for number, styled in enumerate([generator.conv1, *generator.convs]):
                assert isinstance(styled, StyledConv)
                noise = generator.noises.get_buffer(f"noise_{number}")
                shape = (self.together or 1, styled.conv.weight.shape[1], side, side)
                self._layers.append(_Styled(styled, noise, shape, dtype, workspace))
                side = noise.shape[-1]
            rgbs = [generator.to_rgb1, *generator.to_rgbs]
            self._rgbs = [_Rgb(rgb) for rgb in rgbs if isinstance(rgb, ToRGB)]
            modulated: list[ModulatedConv] = [
                module.conv for module in [generator.conv1, *generator.convs, *rgbs] if hasattr(module, "conv")
            ]
            weight_ZD = torch.cat([conv.modulation.weight.float() * conv.modulation.gain for conv in modulated])
            self._bias_Z = torch.cat([conv.modulation.bias.float() for conv in modulated])
            self._appearance_ZA = weight_ZD[:, :appearance].contiguous()
            self._motion_ZM = weight_ZD[:, appearance:].contiguous()

    @property
    def weight_bytes(self) -> int:
        return sum(layer.weight_bytes for layer in self._layers)

    @torch.inference_mode()
    def prepare(self, code_1A: Tensor, map_1CMM: Tensor) -> Scene:
        """All that depends on who is shown: once a job."""
        constant_1Z = F.linear(code_1A.float(), self._appearance_ZA, self._bias_Z)
        return Scene(constant_1Z, map_1CMM.to(self.dtype).contiguous(memory_format=torch.channels_last))

    @torch.inference_mode()
    def __call__(self, motion_BM: Tensor, scene: Scene) -> Tensor:
        """motion_BM: lip | expression | eye | pose, float32. -> image_B3SS in [-1, 1], float32."""
        pieces = motion_BM.split(self.together or len(motion_BM))
        with self._lock:
            return torch.cat([self._run(motion_PM, scene.constant_1Z, scene.map_1CMM) for motion_PM in pieces])

    def _pictures(self, motion_BM: Tensor, constant_1Z: Tensor, map_1CMM: Tensor) -> Tensor:
        scale_BZ = constant_1Z + F.linear(motion_BM, self._motion_ZM)
        layers, rgbs = self._layers, self._rgbs
        *scales, last = scale_BZ.split([layer.channels for layer in layers] + [rgb.channels for rgb in rgbs], dim=1)
        scales = [*scales, last]
        x = map_1CMM.expand(motion_BM.shape[0], -1, -1, -1)
        rgb_B3HW = None
        for number, layer in enumerate(layers):
            x = layer(x, scales[number])
            if number % 2 == 0:
                step = number // 2
                rgb_B3HW = rgbs[step](x, scales[len(layers) + step], rgb_B3HW)
        assert rgb_B3HW is not None
        return rgb_B3HW.tanh_()


def tamed(scale_BC: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | float]:
    """Scales that float16's sums cannot overflow with, none above 1, and what each frame's were divided by, 1 for other
    types. Demodulation takes it out again (Karras et al. 2020, its float16 layers)."""
    if dtype is not torch.float16:
        return scale_BC, 1.0
    most_B1 = scale_BC.abs().amax(dim=1, keepdim=True).clamp_min(LEAST_SCALE)
    return scale_BC / most_B1, most_B1


def _together(generator: Generator, device: torch.device) -> int | None:
    """Frames that go through at once; None for all of the batch."""
    layers = [generator.conv1, *generator.convs]
    widths = [layer.conv.weight.shape[0] for layer in layers if isinstance(layer, StyledConv)]
    sides = [generator.noises.get_buffer(f"noise_{number}").shape[-1] for number in range(len(widths))]
    largest = max(4 * width * side * side for width, side in zip(widths, sides, strict=True))
    return together(largest, device)
