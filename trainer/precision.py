"""Where a run computes and in which numbers: fp32 on CPUs, bf16 where a GPU has it, fp16 with a scaled loss on V100."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Precision:
    """half: what autocast computes in, None for fp32 throughout. scaler: only where gradients of fp16 would vanish."""

    device: torch.device
    half: torch.dtype | None = None
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler(enabled=False))

    def autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.half is None else torch.autocast(self.device.type, self.half)


def precision_of(device: torch.device) -> Precision:
    """What suits a device. Emulated bf16 (V100 says that it has it) is slower than fp16 and is not taken."""
    if device.type != "cuda":
        return Precision(device)
    _check_architecture(device)
    with torch.cuda.device(device):
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision(device, torch.bfloat16)
    return Precision(device, torch.float16, torch.amp.GradScaler("cuda"))


def best_device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def _check_architecture(device: torch.device) -> None:
    """This torch must hold code for this GPU: wheels drop old ones, and the error would come late and be obscure."""
    found = torch.cuda.get_device_capability(device)
    check_architecture(f"sm_{found[0]}{found[1]}", torch.cuda.get_arch_list(), torch.cuda.get_device_name(device))


def check_architecture(wanted: str, built: list[str], name: str) -> None:
    """Raises RuntimeError where none of the built kernels runs: the same major version at most as new, or PTX of any
    older one."""
    major, minor = _version(wanted)
    for arch in built:
        kind, _, _ = arch.partition("_")
        built_major, built_minor = _version(arch)
        if (kind == "sm" and built_major == major and built_minor <= minor) or (
            kind == "compute" and (built_major, built_minor) <= (major, minor)
        ):
            return
    raise RuntimeError(
        f"{name} is {wanted}, but this torch {torch.__version__} was built for {', '.join(built) or 'no GPU'}; "
        "V100 (sm_70) wants a cu126 build of torch 2.11 to 2.14"
    )


def _version(arch: str) -> tuple[int, int]:
    digits = "".join(c for c in arch.partition("_")[2] if c.isdigit())
    return int(digits[:-1]), int(digits[-1])


def full(seen: Any) -> Any:
    """Halves made whole, through tuples, lists and dataclasses: losses are taken in fp32."""
    if isinstance(seen, Tensor):
        return seen.float() if seen.dtype in (torch.float16, torch.bfloat16) else seen
    if isinstance(seen, tuple | list):
        return type(seen)(full(part) for part in seen)
    if dataclasses.is_dataclass(seen) and not isinstance(seen, type):
        parts = {f.name: full(getattr(seen, f.name)) for f in dataclasses.fields(seen)}
        return dataclasses.replace(seen, **parts)
    return seen
