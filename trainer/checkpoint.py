"""Checkpoints: one safetensors file, written whole or not at all. Networks, optimisers, and where the run stands."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Place:
    """Where a run stands: `step` steps of stage number `stage` are done."""

    stage: int
    step: int


def save(
    path: Path, place: Place, recipe_key: str, cast: nn.Module, optimisers: dict[str, torch.optim.Optimizer]
) -> None:
    """Replace the checkpoint. Random states need no keeping: every draw follows from the step's number."""
    tensors = {f"cast/{key}": value.contiguous() for key, value in cast.state_dict().items()}
    for name, optimiser in optimisers.items():
        for number, state in optimiser.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"optimiser/{name}/{number}/{key}"] = torch.as_tensor(value).contiguous()
    # Shared storage (tied tensors) is written out twice: safetensors refuses it.
    tensors = {key: value.detach().cpu().clone() for key, value in tensors.items()}
    about = {"place": json.dumps([place.stage, place.step]), "recipe": recipe_key}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    safetensors.torch.save_file(tensors, unfinished, about)
    os.replace(unfinished, path)


def place(path: Path, recipe_key: str) -> Place | None:
    """Where the checkpoint stands; None without one. Raises ValueError if another recipe wrote it."""
    if not path.exists():
        return None
    with safetensors.safe_open(path, "pt") as file:
        about = file.metadata()
    if about["recipe"] != recipe_key:
        raise ValueError(f"{path} was written by another recipe: take another --out, or that recipe")
    stage, step = json.loads(about["place"])
    return Place(stage, step)


def load(path: Path, cast: nn.Module, optimisers: dict[str, torch.optim.Optimizer]) -> None:
    """Fill cast and optimisers with what was saved. Optimisers whose state is not there stay as they are."""
    tensors = safetensors.torch.load_file(path)
    cast.load_state_dict({key[5:]: value for key, value in tensors.items() if key.startswith("cast/")})
    for name, optimiser in optimisers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"optimiser/{name}/"):
                number, field = key.split("/")[2:]
                state.setdefault(int(number), {})[field] = value
        if state:
            optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
