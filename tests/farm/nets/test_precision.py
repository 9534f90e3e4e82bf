"""Each device computes in what it is good at."""

from __future__ import annotations

import pytest
import torch

from farm.nets.precision import of_gpu, precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((6, 1), torch.float32), ((7, 0), torch.float16), ((7, 5), torch.float16), ((8, 0), torch.bfloat16)],
)
def test_gpus(capability: tuple[int, int], dtype: torch.dtype) -> None:
    assert of_gpu(capability) is dtype


@pytest.mark.parametrize("is_native", [False, True])
def test_cpus_take_bfloat16_only_where_it_is_native(is_native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: is_native)
    assert precision("auto", CPU) is (torch.bfloat16 if is_native else torch.float32)


def test_what_is_named_is_taken() -> None:
    assert precision("bfloat16", CPU) is torch.bfloat16
    assert precision("float32", CPU) is torch.float32
