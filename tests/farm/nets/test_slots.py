"""A span of items gives, bit for bit, what the whole run gives at those items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from farm.nets.bundle import Bundle
from farm.nets.slots import run_in_slots

COUNT = 19
SPANS = [(0, 1), (0, 19), (3, 4), (3, 9), (7, 8), (4, 12), (5, 18), (18, 19)]


@pytest.fixture(params=["appearance", "motion", "audio", "generator"])
def case(request: pytest.FixtureRequest, tiny_bundle: Bundle) -> tuple[Callable[..., Any], tuple[Tensor, ...]]:
    torch.manual_seed(0)
    pictures = torch.rand(COUNT, 3, 64, 64) * 2 - 1
    if request.param == "audio":
        return tiny_bundle.audio, (torch.rand(COUNT, 1, 80, 20),)
    if request.param == "generator":
        app_map = torch.randn(1, tiny_bundle.sizes.map, 2, 2)
        return lambda style: tiny_bundle.generator(style, app_map), (torch.randn(COUNT, tiny_bundle.sizes.style),)
    return tiny_bundle.networks.named()[request.param], (pictures,)


@pytest.mark.parametrize("batch", [4, 8])
def test_spans_do_not_show(case: tuple[Callable[..., Any], tuple[Tensor, ...]], batch: int) -> None:
    network, items = case
    with torch.inference_mode():
        whole = run_in_slots(network, 0, items, batch)
        for start, stop in SPANS:
            part = run_in_slots(network, start, tuple(tensor[start:stop] for tensor in items), batch)
            assert type(part) is type(whole)
            for a, b in zip(_tensors(part), _tensors(whole), strict=True):
                assert torch.equal(a, b[start:stop])


def test_every_call_is_a_full_batch_in_place() -> None:
    seen: list[list[int]] = []

    def network(x: Tensor, y: Tensor) -> Tensor:
        seen.append(x.tolist())
        return x + y

    items = torch.arange(10, 17)
    result = run_in_slots(network, 10, (items, 2 * items), 4)
    assert result.tolist() == (3 * items).tolist()
    assert seen == [[0, 0, 10, 11], [12, 13, 14, 15], [16, 0, 0, 0]]


@pytest.mark.parametrize("items", [(torch.zeros(0, 2),), (torch.zeros(2), torch.zeros(3))])
def test_no_span(items: tuple[Tensor, ...]) -> None:
    with pytest.raises(ValueError, match="do not make a span"):
        run_in_slots(lambda *x: x[0], 0, items, 4)


def _tensors(result: Any) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)
