"""Batches that do not show: item i of a job always meets a network at slot i % B of a batch of exactly B items.

The same sums in another batch shape, or at another place in it, may round differently. With the shape and the place
fixed, the result of an item is the same bits whichever items are asked for with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Result = TypeVar("Result", bound=Tensor | tuple[Any, ...])


def blocks(indices: Iterable[int], batch: int) -> list[list[int]]:
    """Indices put together that share a batch, in the order that their batches first appear."""
    found: dict[int, list[int]] = {}
    for index in indices:
        found.setdefault(index // batch, []).append(index)
    return list(found.values())


def in_slots(items_M: Tensor, indices: Sequence[int], batch: int) -> Tensor:
    """(M, ...) -> (batch, ...): each item at its slot, zeros elsewhere. The indices share a batch."""
    placed = items_M.new_zeros((batch, *items_M.shape[1:]))
    placed[[index % batch for index in indices]] = items_M
    return placed


def out_of_slots(results_B: Result, indices: Sequence[int], batch: int) -> Result:
    """The inverse, of a tensor or of each tensor of a tuple: (batch, ...) -> (M, ...)."""
    slots = [index % batch for index in indices]
    given: Any = results_B
    if isinstance(given, Tensor):
        return cast(Result, given[slots])
    return _like(given, [tensor[slots] for tensor in given])


def run_in_slots(network: Callable[..., Result], indices: Sequence[int], items_M: Tensor, batch: int) -> Result:
    """network's results for the items of these indices (distinct, at least one), as if all others were there too.

    network takes (batch, ...) and returns a tensor, a tuple or a NamedTuple of tensors with as many results; so does
    this, with M, in the order of `indices`.
    """
    if not indices or len(indices) != items_M.shape[0] or len(set(indices)) != len(indices):
        raise ValueError(f"{len(indices)} indices do not name {items_M.shape[0]} items")
    row = {index: number for number, index in enumerate(indices)}
    order: list[int] = []
    pieces: list[Any] = []
    for block in blocks(indices, batch):
        placed = in_slots(items_M[[row[index] for index in block]], block, batch)
        pieces.append(out_of_slots(network(placed), block, batch))
        order += [row[index] for index in block]
    back = torch.tensor(order).argsort().to(items_M.device)
    return _joined(pieces, back)


def _joined(pieces: list[Any], order: Tensor) -> Any:
    if isinstance(pieces[0], Tensor):
        return torch.cat(pieces)[order]
    return _like(pieces[0], [torch.cat(column)[order] for column in zip(*pieces, strict=True)])


def _like(result: tuple[Any, ...], values: list[Tensor]) -> Any:
    return type(result)(*values) if hasattr(result, "_fields") else tuple(values)
