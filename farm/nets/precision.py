"""What a device computes the networks in."""

from __future__ import annotations

from typing import Any, Final

import torch

CHOICES: Final = ("auto", "float32", "bfloat16", "float16")
_mkldnn: Final[Any] = torch.ops.mkldnn


def precision(wanted: str, device: torch.device) -> torch.dtype:
    """The type named, one of CHOICES; "auto" is the fastest that this device computes in and that keeps the picture.

    On a CPU bfloat16 only where it is native: emulated, it is many times slower than float32.
    Raises RuntimeError on a GPU that this build of torch has no kernels for.
    """
    if wanted != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        dtype = of_gpu(capability)
        if capability == (7, 0) and "sm_70" not in torch.cuda.get_arch_list():
            raise RuntimeError("this build of torch has no kernels for V100 (sm_70): install one for CUDA 12.6")
        return dtype
    if device.type == "cpu" and torch.backends.mkldnn.is_available() and _mkldnn._is_mkldnn_bf16_supported():
        return torch.bfloat16
    return torch.float32


def of_gpu(capability: tuple[int, int]) -> torch.dtype:
    """Tensor cores know float16 since 7.0 (V100), bfloat16 since 8.0 (A100)."""
    if capability >= (8, 0):
        return torch.bfloat16
    return torch.float16 if capability >= (7, 0) else torch.float32
