"""Convolutions whose weights are made ready once, for pictures of one shape.

On CPUs oneDNN computes with weights in an order of its own; given plain ones it reorders them at every call, which at
7x7 and 14x14 pixels costs as much as the convolution. Elsewhere the weights lie channels-last.
B batch, C/O channels in and out, k side of the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

# Private operators, those that torch.compile itself calls: they hold for the pinned version of torch.
_mkldnn: Final[Any] = torch.ops.mkldnn


def is_packable(weight: Tensor) -> bool:
    """Whether oneDNN has kernels of its own for this weight's type on this machine."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype is torch.bfloat16:
        return _mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype is torch.float32


TOGETHER_BYTES: Final = 4 * 2**20
MOST_TOGETHER: Final = 8


def together(largest: int, device: torch.device) -> int | None:
    """Pictures that go through a network at once; None for all of the batch. largest: bytes of one's largest layer.

    On a CPU as many as have it in the caches, within limits.
    """
    return min(max(TOGETHER_BYTES // largest, 1), MOST_TOGETHER) if device.type == "cpu" else None


class PackedConv:
    """x_BCHW of `shape` (channels last) -> conv2d, or conv_transpose2d where `transposed`. No gradients.

    weight: (O, C / groups, k, k), for a transposed one (C, O, k, k). shape: of the input, batch included.
    """

    def __init__(
        self,
        weight: Tensor,
        bias_O: Tensor | None,
        shape: Sequence[int],
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        transposed: bool = False,
    ) -> None:
        self._transposed, self._bias = transposed, bias_O
        self._steps, self._pads, self._groups = [stride] * 2, [padding] * 2, groups
        self._packed = is_packable(weight)
        if not self._packed:
            self._weight = weight.contiguous(memory_format=torch.channels_last)
        elif transposed:
            self._weight = _mkldnn._reorder_convolution_transpose_weight(
                weight.contiguous(), self._pads, [0, 0], self._steps, [1, 1], groups, list(shape)
            )
        else:
            self._weight = _mkldnn._reorder_convolution_weight(
                weight.contiguous(), self._pads, self._steps, [1, 1], groups, list(shape)
            )

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self._weight,)

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        weight, bias, pads, steps = self._weight, self._bias, self._pads, self._steps
        if self._packed and self._transposed:
            return _mkldnn._convolution_transpose_pointwise(
                x_BCHW, weight, bias, pads, [0, 0], steps, [1, 1], self._groups, "none", [], ""
            )
        if self._packed:
            return _mkldnn._convolution_pointwise(
                x_BCHW, weight, bias, pads, steps, [1, 1], self._groups, "none", [], ""
            )
        conv = F.conv_transpose2d if self._transposed else F.conv2d
        return conv(x_BCHW, weight, bias, steps, pads, groups=self._groups)
