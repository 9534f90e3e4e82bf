"""CUDA graphs: a network of fixed shapes, launched as one."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

WARM_UP = 3
Shapes: TypeAlias = tuple[tuple[int, ...], ...]
Recording: TypeAlias = tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Any]


class Graphed:
    """function, recorded once a shape of its inputs and replayed from then on; on other devices simply called.

    function: tensors -> a tensor or a tuple of them, without side effects, always the same launches for one shape.
    Results are copies: the next call does not touch them. A shape that cannot be recorded is called from then on, after
    a warning; running out of memory is no such case, and is raised.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._recorded: dict[Shapes, Recording | None] = {}
        self._lock = threading.Lock()

    def __call__(self, *inputs: Tensor) -> Any:
        if inputs[0].device.type != "cuda":
            return self._function(*inputs)
        with self._lock:
            shapes = tuple(tuple(x.shape) for x in inputs)
            if shapes not in self._recorded:
                self._recorded[shapes] = self._recording(inputs)
            recording = self._recorded[shapes]
            if recording is None:
                return self._function(*inputs)
            graph, kept, result = recording
            for mine, given in zip(kept, inputs, strict=True):
                mine.copy_(given)
            graph.replay()
            return _copied(result)

    def _recording(self, inputs: tuple[Tensor, ...]) -> Recording | None:
        try:
            return self._record(inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            torch.cuda.synchronize(inputs[0].device)
            warnings.warn(f"no CUDA graph, so the network runs slower: {error}", RuntimeWarning, stacklevel=3)
            return None

    def _record(self, inputs: tuple[Tensor, ...]) -> Recording:
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
