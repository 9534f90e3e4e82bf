"""The motion and audio encoders made ready to run: the same codes as `farm.nets.motion` and `farm.nets.audio`, without
gradients.

Batch norm that follows a convolution or a linear layer is folded into its weights, that which precedes one without
padding into that one's. What stays (FAN norms before it convolves and needs the unnormed sum as well) is one scale and
shift a channel, put where the convolution reads. 3x3 convolutions go by Winograd where the generator's do, all others
through packed weights; on a CPU large pictures one at a time, small ones a few.
B batch, C/O channels in and out.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from farm.nets.audio import AudioEncoder, BasicBlock
from farm.nets.motion import DEPTH, Block, MotionCodes, MotionEncoder
from farm.nets.packed import PackedConv, together
from farm.nets.sizes import MEL_BINS, MEL_FRAMES, Sizes
from farm.nets.winograd import TILE, WinogradConv, Workspace, goes_by_winograd

Norm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d
Plane: TypeAlias = tuple[int, int]
HEADS: Final = ("mouth", "headpose", "eye", "emo")


class _Made:
    """Makes layers of one type for batches of one size, and counts the bytes of what it made."""

    def __init__(self, dtype: torch.dtype, batch: int) -> None:
        self.dtype, self.batch = dtype, batch
        self.workspace = Workspace()
        self.weight_bytes = 0

    def keep(self, tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
        kept = tuple(tensor.to(self.dtype) for tensor in tensors)
        self.weight_bytes += sum(tensor.numel() * tensor.element_size() for tensor in kept)
        return kept

    def conv(self, conv: nn.Conv2d, plane: Plane, norm: Norm | None = None) -> PackedConv:
        """The convolution, with the norm after it, for pictures of this height and width."""
        weight, bias = _before(conv.weight, conv.bias, norm)
        stride, padding = int(conv.stride[0]), int(conv.padding[0])
        shape = (self.batch, conv.in_channels, *plane)
        offset = None if bias is None else bias.to(self.dtype)
        packed = PackedConv(weight.to(self.dtype), offset, shape, stride=stride, padding=padding)
        self.keep(packed.tensors)
        return packed

    def linear(self, layer: nn.Linear | nn.Conv1d, norm: Norm | None = None) -> tuple[Tensor, ...]:
        """weight_OC, bias_O of the layer, with the norm before it (no padding stands between)."""
        assert layer.bias is not None
        weight_OC, bias_O = layer.weight.float().flatten(1), layer.bias.float()
        if norm is not None:
            scale_C, shift_C = _affine(norm)
            weight_OC, bias_O = weight_OC * scale_C, bias_O + weight_OC @ shift_C
        return self.keep((weight_OC, bias_O))


class _Normed:
    """relu(batch norm(x)), then a convolution that keeps the size."""

    def __init__(self, norm: nn.BatchNorm2d, conv: nn.Conv2d, side: int, made: _Made) -> None:
        self._scale_C11, self._shift_C11 = made.keep(part[:, None, None] for part in _affine(norm))
        weight = conv.weight.float()
        self._out = weight.shape[0]
        self._conv = self._winograd = None
        if made.batch == 1 and goes_by_winograd(weight.to(made.dtype), side):
            self._winograd = WinogradConv(weight, side, made.workspace)
            made.keep(self._winograd.tensors)
        else:
            self._conv = made.conv(conv, (side, side))

    @property
    def is_winograd(self) -> bool:
        return self._winograd is not None

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        if self._winograd is None:
            assert self._conv is not None
            return self._conv(torch.addcmul(self._shift_C11, x_BCHW, self._scale_C11).relu_())
        inside_CHW = self._winograd.inside_HWC.permute(2, 0, 1)
        torch.addcmul(self._shift_C11, x_BCHW[0], self._scale_C11, out=inside_CHW)
        inside_CHW.relu_()
        height, width = x_BCHW.shape[2:]
        y_HWO = torch.empty(height, width, self._out)
        tiled = y_HWO.unflatten(1, (-1, TILE)).unflatten(0, (-1, TILE))
        for rows, tiles in self._winograd.blocks():
            tiled[rows] = tiles
        return y_HWO.permute(2, 0, 1)[None]


class _Block:
    def __init__(self, block: Block, side: int, made: _Made) -> None:
        norms, convs = (block.bn1, block.bn2, block.bn3), (block.conv1, block.conv2, block.conv3)
        self.convs = [_Normed(norm, conv, side, made) for norm, conv in zip(norms, convs, strict=True)]
        self._skip = None
        if block.downsample is not None:
            norm, _, conv = block.downsample
            assert isinstance(norm, nn.BatchNorm2d)
            assert isinstance(conv, nn.Conv2d)
            self._skip = _Normed(norm, conv, side, made)

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        skip = x_BCHW if self._skip is None else self._skip(x_BCHW)
        y = torch.empty_like(skip)
        start = 0
        for conv in self.convs:
            x_BCHW = conv(x_BCHW)
            stop = start + x_BCHW.shape[1]
            torch.add(x_BCHW, skip[:, start:stop], out=y[:, start:stop])
            start = stop
        return y


class ReadyMotion:
    """RGB pictures (B, 3, S, S) in [-1, 1], of the type given -> MotionCodes."""

    def __init__(self, encoder: MotionEncoder, sizes: Sizes, dtype: torch.dtype, *, deterministic: bool = False):
        """deterministic: each picture alone, so that its bits do not depend on the batch."""
        fan, side = encoder.model, sizes.image // 2
        largest = 4 * 2 * sizes.motion_stem * side * side
        self.together = 1 if deterministic else together(largest, fan.conv1.weight.device)
        self._lock = threading.Lock()
        made = _Made(dtype, self.together or 1)
        with torch.no_grad():
            self._stem = made.conv(fan.conv1, (sizes.image, sizes.image), fan.bn1)
            self._first = _Block(fan.conv2, side, made)
            side //= 2
            self._second, self._third = (_Block(block, side, made) for block in (fan.conv3, fan.conv4))
            self._hourglass: dict[str, _Block] = {}
            for level in range(DEPTH, 0, -1):
                around, below = side // 2 ** (DEPTH - level), side // 2 ** (DEPTH - level + 1)
                for name, its in ((f"b1_{level}", around), (f"b2_{level}", below), (f"b3_{level}", below)):
                    self._add(fan.m0, name, its, made)
            self._add(fan.m0, "b2_plus_1", side // 2**DEPTH, made)
            self._top = _Block(fan.top_m_0, side, made)
            self._last = made.conv(fan.conv_last0, (side, side), fan.bn_end0)
            self._maps = made.conv(fan.l0, (side, side), fan.bn5)
            self._reduce = made.conv(fan.conv6, (side, side))
            self._unify = made.linear(fan.fc)
            self._heads: list[list[tuple[Tensor, ...]]] = []
            for name in HEADS:
                first, _, norm, second = encoder.get_submodule(f"to_{name}").children()
                _, embed = encoder.get_submodule(f"{name}_embed").children()
                assert isinstance(first, nn.Linear)
                assert isinstance(norm, nn.BatchNorm1d)
                assert isinstance(second, nn.Linear)
                assert isinstance(embed, nn.Linear)
                self._heads.append([made.linear(first), made.linear(second, norm), made.linear(embed)])
        self.weight_bytes = made.weight_bytes

    def _add(self, hourglass: nn.Module, name: str, side: int, made: _Made) -> None:
        block = hourglass.get_submodule(name)
        assert isinstance(block, Block)
        self._hourglass[name] = _Block(block, side, made)

    @property
    def winograds(self) -> int:
        blocks = [self._first, self._second, self._third, *self._hourglass.values(), self._top]
        return sum(conv.is_winograd for block in blocks for conv in block.convs)

    @torch.inference_mode()
    def __call__(self, x_B3SS: Tensor) -> MotionCodes:
        with self._lock:
            unified_BU = self._unified(x_B3SS.contiguous(memory_format=torch.channels_last))
        found: dict[str, tuple[Tensor, Tensor]] = {}
        for name, (first, second, embed) in zip(HEADS, self._heads, strict=True):
            feature = F.linear(F.linear(unified_BU, *first).relu_(), *second)
            found[name] = feature, F.linear(F.relu(feature), *embed)
        lip512, lip = found["mouth"]
        return MotionCodes(unified_BU, found["headpose"][1], found["eye"][1], found["emo"][1], lip512, lip)

    def _unified(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self._first(self._stem(x).relu_()), 2)
        x = self._top(self._level(DEPTH, self._third(self._second(x))))
        x = self._maps(self._last(x).relu_()).relu_()
        return F.linear(self._reduce(x).relu_().flatten(1), *self._unify)

    def _level(self, level: int, x: Tensor) -> Tensor:
        parts = self._hourglass
        skip = parts[f"b1_{level}"](x)
        x = parts[f"b2_{level}"](F.max_pool2d(x, 2))
        x = self._level(level - 1, x) if level > 1 else parts["b2_plus_1"](x)
        x = parts[f"b3_{level}"](x)
        return F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False).add_(skip)


class _BasicBlock:
    def __init__(self, block: BasicBlock, plane: Plane, made: _Made) -> None:
        self.plane = _strided(plane, int(block.conv1.stride[0]))
        self._first = made.conv(block.conv1, plane)
        self._scale_C11, self._shift_C11 = made.keep(part[:, None, None] for part in _affine(block.bn1))
        self._second = made.conv(block.conv2, self.plane, block.bn2)
        squeeze, _, excite, _ = block.se.fc
        assert isinstance(squeeze, nn.Linear)
        assert isinstance(excite, nn.Linear)
        self._squeeze, self._excite = made.linear(squeeze), made.linear(excite)
        self._skip = None
        if block.downsample is not None:
            conv, norm = block.downsample
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            self._skip = made.conv(conv, plane, norm)

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        skip = x_BCHW if self._skip is None else self._skip(x_BCHW)
        x = self._first(x_BCHW).relu_()
        x = self._second(torch.addcmul(self._shift_C11, x, self._scale_C11, out=x))
        squeezed = F.linear(x.mean(dim=(2, 3)), *self._squeeze).relu_()
        gate_BC = F.linear(squeezed, *self._excite).sigmoid_()
        return torch.addcmul(skip, x, gate_BC[:, :, None, None], out=x).relu_()


class ReadyAudio:
    """Mel windows (B, 1, 80, 20), of the type given -> feature, lip."""

    def __init__(self, encoder: AudioEncoder, dtype: torch.dtype, *, deterministic: bool = False) -> None:
        """deterministic: each window alone, so that its bits do not depend on the batch."""
        net, plane = encoder.model, (MEL_BINS, MEL_FRAMES)
        largest = 4 * net.conv1.out_channels * MEL_BINS * MEL_FRAMES
        self.together = 1 if deterministic else together(largest, net.conv1.weight.device)
        made = _Made(dtype, self.together or 1)
        with torch.no_grad():
            self._stem = made.conv(net.conv1, plane)
            self._scale_C11, self._shift_C11 = made.keep(part[:, None, None] for part in _affine(net.bn1))
            self._blocks: list[_BasicBlock] = []
            for number in range(1, 5):
                for block in net.get_submodule(f"layer{number}").children():
                    assert isinstance(block, BasicBlock)
                    self._blocks.append(_BasicBlock(block, plane, made))
                    plane = self._blocks[-1].plane
            first, _, norm, second, _ = net.attention
            assert isinstance(first, nn.Conv1d)
            assert isinstance(norm, nn.BatchNorm1d)
            assert isinstance(second, nn.Conv1d)
            self._attend, self._weigh = made.linear(first), made.linear(second, norm)
            _, embed = encoder.mouth_embed
            assert isinstance(embed, nn.Linear)
            self._feature, self._embed = made.linear(net.fc), made.linear(embed)
        self.weight_bytes = made.weight_bytes

    @torch.inference_mode()
    def __call__(self, mel_B1FT: Tensor) -> tuple[Tensor, Tensor]:
        x = self._stem(mel_B1FT.contiguous(memory_format=torch.channels_last)).relu_()
        torch.addcmul(self._shift_C11, x, self._scale_C11, out=x)
        for block in self._blocks:
            x = block(x)
        x_BTC = x.flatten(1, 2).transpose(1, 2)
        weight_BTC = F.linear(F.linear(x_BTC, *self._attend).relu_(), *self._weigh).softmax(dim=1)
        feature = F.linear((x_BTC * weight_BTC).sum(dim=1), *self._feature)
        return feature, F.linear(F.relu(feature), *self._embed)


def _affine(norm: Norm) -> tuple[Tensor, Tensor]:
    """scale_C, shift_C that the norm's running statistics amount to."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() * torch.rsqrt(norm.running_var.double() + norm.eps)
    shift = norm.bias.double() - norm.running_mean.double() * scale
    return scale.float(), shift.float()


def _before(weight: Tensor, bias_O: Tensor | None, norm: Norm | None) -> tuple[Tensor, Tensor | None]:
    """The weight and bias of a layer that does what it and the norm after it did."""
    weight, bias = weight.float(), None if bias_O is None else bias_O.float()
    if norm is None:
        return weight, bias
    scale_O, shift_O = _affine(norm)
    return weight * scale_O[:, None, None, None], shift_O if bias is None else bias * scale_O + shift_O


def _strided(plane: Sequence[int], stride: int) -> Plane:
    """Height and width after a convolution of side 3, padding 1."""
    height, width = ((length - 1) // stride + 1 for length in plane)
    return height, width
