"""Batches that do not show: item i of a job always meets a network at slot i % B of a batch of exactly B items.

The same sums in another batch shape, or at another place in it, may round differently. With the shape and the place
fixed, the result of an item is the same bits whichever span of items is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result", Tensor, tuple[Any, ...])


def run_in_slots(network: Callable[..., Result], start: int, items: Tensor | tuple[Tensor, ...], batch: int) -> Result:
    """network's results for items start, start + 1, ..., as if there were no spans.

    items: (N, ...), or several such tensors, one an argument of `network`; N >= 1. Empty slots are zeros. network
    returns a tensor, a tuple or a NamedTuple of tensors, each with B results; so does this, with N.
    """
    inputs = items if isinstance(items, tuple) else (items,)
    count = inputs[0].shape[0]
    if count == 0 or any(tensor.shape[0] != count for tensor in inputs):
        raise ValueError(f"items of lengths {[tensor.shape[0] for tensor in inputs]} do not make a span")
    pieces: list[Result] = []
    first = start
    while first < start + count:
        slot = first % batch
        stop = min(start + count, first - slot + batch)
        filled = tuple(_placed(tensor[first - start : stop - start], slot, batch) for tensor in inputs)
        pieces.append(_each(network(*filled), slot, slot + stop - first))
        first = stop
    return _joined(pieces)


def _placed(items_N: Tensor, slot: int, batch: int) -> Tensor:
    placed = items_N.new_zeros((batch, *items_N.shape[1:]))
    placed[slot : slot + items_N.shape[0]] = items_N
    return placed


def _each(result: Any, start: int, stop: int) -> Any:
    if isinstance(result, Tensor):
        return result[start:stop]
    return _like(result, [tensor[start:stop] for tensor in result])


def _joined(pieces: list[Any]) -> Any:
    if isinstance(pieces[0], Tensor):
        return torch.cat(pieces)
    return _like(pieces[0], [torch.cat(column) for column in zip(*pieces, strict=True)])


def _like(result: tuple[Any, ...], values: list[Tensor]) -> Any:
    return type(result)(*values) if hasattr(result, "_fields") else tuple(values)
