"""CUDA graphs: a network of fixed shapes, launched as one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3


class Graphed:
    """function, recorded once a shape of its inputs and replayed from then on; on other devices simply called.

    function: tensors -> a tensor or a tuple of them, without side effects, always the same launches for one shape.
    Results are copies: the next call does not touch them.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._recorded: dict[tuple[tuple[int, ...], ...], tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Any]] = {}
        self._lock = threading.Lock()

    def __call__(self, *inputs: Tensor) -> Any:
        if inputs[0].device.type != "cuda":
            return self._function(*inputs)
        with self._lock:
            shapes = tuple(tuple(x.shape) for x in inputs)
            if shapes not in self._recorded:
                self._recorded[shapes] = self._record(inputs)
            graph, kept, result = self._recorded[shapes]
            for mine, given in zip(kept, inputs, strict=True):
                mine.copy_(given)
            graph.replay()
            return _copied(result)

    def _record(self, inputs: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Any]:
        kept = tuple(x.clone() for x in inputs)
        # Libraries set themselves up at the first calls, which must not be recorded.
        aside = torch.cuda.Stream(inputs[0].device)
        aside.wait_stream(torch.cuda.current_stream(inputs[0].device))
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self._function(*kept)
        torch.cuda.current_stream(inputs[0].device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # The other stages of the line go on allocating in their threads.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = self._function(*kept)
        return graph, kept, result


def _copied(result: Any) -> Any:
    if isinstance(result, Tensor):
        return result.clone()
    values = [tensor.clone() for tensor in result]
    return type(result)(*values) if hasattr(result, "_fields") else tuple(values)
