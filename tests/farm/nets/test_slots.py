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
ASKED = [
    *(range(*span) for span in [(0, 1), (3, 4), (3, 9), (7, 8), (4, 12), (5, 18), (18, 19)]),
    (2, 3, 9, 17),
    (12, 1),
]


@pytest.fixture(params=["appearance", "motion", "audio", "generator"])
def case(request: pytest.FixtureRequest, tiny_bundle: Bundle) -> tuple[Callable[[Tensor], Any], Tensor]:
    torch.manual_seed(0)
    pictures = torch.rand(COUNT, 3, 64, 64) * 2 - 1
    if request.param == "audio":
        return tiny_bundle.audio, torch.rand(COUNT, 1, 80, 20)
    if request.param == "generator":
        app_map = torch.randn(1, tiny_bundle.sizes.map, 2, 2)
        return lambda style: tiny_bundle.generator(style, app_map), torch.randn(COUNT, tiny_bundle.sizes.style)
    return tiny_bundle.networks.named()[request.param], pictures


@pytest.mark.parametrize("batch", [4, 8])
def test_what_else_is_asked_for_does_not_show(case: tuple[Callable[[Tensor], Any], Tensor], batch: int) -> None:
    network, items = case
    with torch.inference_mode():
        whole = run_in_slots(network, range(COUNT), items, batch)
        for asked in ASKED:
            part = run_in_slots(network, asked, items[list(asked)], batch)
            assert type(part) is type(whole)
            for a, b in zip(_tensors(part), _tensors(whole), strict=True):
                assert torch.equal(a, b[list(asked)])


def test_every_call_is_a_full_batch_in_place() -> None:
    seen: list[list[int]] = []

    def network(x: Tensor) -> Tensor:
        seen.append(x.tolist())
        return 3 * x

    asked = [16, *range(10, 15)]
    assert run_in_slots(network, asked, torch.tensor(asked), 4).tolist() == [3 * index for index in asked]
    assert seen == [[16, 0, 0, 0], [0, 0, 10, 11], [12, 13, 14, 0]]


@pytest.mark.parametrize(("indices", "items"), [([], 0), ([1, 2], 3), ([4, 4], 2)])
def test_indices_name_items(indices: list[int], items: int) -> None:
    with pytest.raises(ValueError, match="do not name"):
        run_in_slots(lambda x: x, indices, torch.zeros(items, 2), 4)


def _tensors(result: Any) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)
