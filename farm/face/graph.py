"""Runs the small convolutional graphs that infra/convert_face_weights.py takes from TFLite files.

Shapes: x_BCHW inside; TFLite's own layout is BHWC, which matters only to reshape, concat and pad.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from farm.errors import Rejected


class GraphNet(nn.Module):
    """A fixed network: x_B3HW -> its outputs in TFLite's layout. Gradients flow to the input, never to the weights."""

    def __init__(self, path: Path) -> None:
        """Rejected("face_weights_missing") when the file is not there."""
        super().__init__()
        if not path.is_file():
            raise Rejected("face_weights_missing", f"{path} is not there: run infra/convert_face_weights.py")
        with safe_open(path, framework="pt") as file:
            graph = json.loads(file.metadata()["graph"])
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                self.register_buffer(_buffer(name), file.get_tensor(name).float())
        self._steps: list[dict[str, Any]] = graph["steps"]
        self._input: int = graph["input"]
        self._outputs: list[int] = graph["outputs"]
        self.size: int = graph["input_shape"][0]
        self._last_use = {source: number for number, step in enumerate(self._steps) for source in step["from"]}

    def forward(self, x_B3HW: Tensor) -> tuple[Tensor, ...]:
        # Channels-last is 1.5 times as fast on CPU for these thin layers.
        values: dict[int, Tensor] = {self._input: x_B3HW.contiguous(memory_format=torch.channels_last)}
        for number, step in enumerate(self._steps):
            inputs = [values[source] for source in step["from"]]
            values[step["to"]] = self._run(step, inputs)
            for source in step["from"]:
                if self._last_use[source] == number and source not in self._outputs:
                    values.pop(source, None)
        return tuple(values[output] for output in self._outputs)

    def _run(self, step: dict[str, Any], inputs: list[Tensor]) -> Tensor:
        x = inputs[0]
        match step["do"]:
            case "conv" | "depthwise":
                weight, bias = self._weight(step["weight"]), self._weight(step["bias"])
                groups = x.shape[1] if step["do"] == "depthwise" else 1
                x, padding = _same(x, step, weight.shape[-2:], 0.0)
                x = F.conv2d(x, weight, bias, stride=step["stride"], padding=padding, groups=groups)
            case "max_pool":
                x, _ = _same(x, step, step["window"], float("-inf"), fold=False)
                x = F.max_pool2d(x, step["window"], step["stride"])
            case "add":
                x = x + inputs[1]
            case "relu":
                x = x.relu()
            case "prelu":
                x = F.prelu(x, self._weight(step["weight"]))
            case "pad":
                (_, _), rows, columns, channels = step["amounts"]
                x = F.pad(x, [*columns, *rows, *channels])
            case "resize":
                # half_pixel is torch's align_corners=False; TFLite's third way (neither) is not met in these files.
                x = F.interpolate(x, step["size"], mode="bilinear", align_corners=step["align_corners"])
            case "reshape":
                x = x.permute(0, 2, 3, 1).reshape(x.shape[0], *step["shape"])
            case "concat":
                x = torch.cat(inputs, dim=step["axis"])
            case unknown:
                raise ValueError(f"step {unknown} is not known")
        return x.relu() if step.get("relu") else x

    def _weight(self, name: str) -> Tensor:
        weight = self._buffers[_buffer(name)]  # looked up here at once: `get_buffer` takes as long as a small layer
        assert weight is not None
        return weight


def _buffer(name: str) -> str:
    return "w_" + name.replace(".", "_")


def _same(
    x: Tensor, step: dict[str, Any], window: Any, value: float, fold: bool = True
) -> tuple[Tensor, int | tuple[int, int]]:
    """TensorFlow's SAME padding: as little as needed, the odd one after. Even ones are left to the convolution."""
    if not step["same"]:
        return x, 0
    sides = []
    for length, size, stride in zip(x.shape[-2:], window, step["stride"], strict=True):
        total = max(0, (-(-length // stride) - 1) * stride + size - length)
        sides.append((total // 2, total - total // 2))
    (top, bottom), (left, right) = sides
    if fold and top == bottom and left == right:
        return x, (top, left)
    if top or bottom or left or right:
        x = F.pad(x, [left, right, top, bottom], value=value)
    return x, 0
