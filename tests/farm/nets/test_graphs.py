"""What happens where a CUDA graph cannot be recorded. The recording itself needs a GPU: it is made to fail here."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from farm.nets.graphs import Graphed


class OnGpu(Tensor):
    """A tensor that says it lies on a GPU."""

    @property
    def device(self) -> torch.device:  # pyright: ignore[reportIncompatibleVariableOverride]
        return torch.device("cuda:0")


def _graphed(error: Exception, monkeypatch: pytest.MonkeyPatch) -> tuple[Graphed, list[int]]:
    tries: list[int] = []

    def fail(self: Graphed, inputs: tuple[Tensor, ...]) -> None:
        tries.append(len(inputs[0]))
        raise error

    monkeypatch.setattr(Graphed, "_record", fail)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    return Graphed(lambda x: 2 * x), tries


def test_a_shape_that_cannot_be_recorded_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    graphed, tries = _graphed(RuntimeError("operation not permitted when stream is capturing"), monkeypatch)
    x = torch.ones(3).as_subclass(OnGpu)
    with pytest.warns(RuntimeWarning, match="not permitted"):
        assert graphed(x).tolist() == [2, 2, 2]
    assert graphed(x).tolist() == [2, 2, 2]
    assert tries == [3]


def test_out_of_memory_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    graphed, tries = _graphed(torch.OutOfMemoryError("none left"), monkeypatch)
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            graphed(torch.ones(3).as_subclass(OnGpu))
    assert tries == [3, 3]
