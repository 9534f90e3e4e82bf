"""What codes know, before any picture is made: retrieval, what can be read off them, DCI.

N frames, C code dimensions, F factors, M blocks of codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.losses import r_squared
from trainer.metrics import by_group, metric
from trainer.subject import Codes
from trainer.trial import Trial

BLOCKS: Final[Mapping[str, tuple[str, ...]]] = {
    "lip": ("lip",),
    "expression": ("expression",),
    "eye": ("gaze", "blink"),
    "pose": ("pose",),
}
"""Code -> the groups of factors that are its own."""
CANDIDATES: Final = 9
_LASSO: Final = 0.02
_SWEEPS: Final = 400


@metric("retrieval", "Eq. 2 and 3, on held-out people", "higher")
def retrieval(trial: Trial) -> Mapping[str, float]:
    """Share of frames whose lips are likest to their own voice among nine of the clip (`lip`: a frame's voice found;
    `voice`: a voice's frame found), with those nine spread over the clip. Chance is 1/9."""
    clips = trial.clips
    frames = torch.linspace(0, clips.frames - 1, min(CANDIDATES, clips.frames)).long()
    rows = (torch.arange(len(clips))[:, None] * clips.frames + frames).flatten()
    several = len(frames)
    seen = F.normalize(trial.subject.seen_lip(clips)[rows], dim=1).unflatten(0, (-1, several))
    heard = F.normalize(trial.codes.lip[rows], dim=1).unflatten(0, (-1, several))
    likeness = seen @ heard.transpose(1, 2)
    own = torch.arange(several)
    return {
        "lip": float((likeness.argmax(2) == own).float().mean()),
        "voice": float((likeness.argmax(1) == own).float().mean()),
    }


@metric("code_r2", "ours", "neither", {"two people"})
def code_r2(trial: Trial) -> Mapping[str, Mapping[str, float]]:
    """code -> group of factors -> R^2 of a ridge regression of the factors on the code, fitted on one half of the
    people and asked of the other. A code should know its own factors and no others."""
    fit, ask = _halves(trial)
    result = {}
    for name, code in _blocks(trial.codes).items():
        read = ridge(code[fit], trial.true[fit], code[ask])
        values = r_squared(read, trial.true[ask]).clamp_min(0)
        result[name] = by_group(trial.reader.groups, values)
    return result


@metric("pose_error", "Eq. 5, on held-out people", "lower", {"two people"})
def pose_error(trial: Trial) -> float:
    """Mean absolute error of the pose that the pose code tells (ridge, as code_r2), in deviations of the pose."""
    fit, ask = _halves(trial)
    own = trial.columns("pose")
    read = ridge(trial.codes.pose[fit], trial.true[fit][:, own], trial.codes.pose[ask])
    return float(((read - trial.true[ask][:, own]).abs() / trial.natural[own].sqrt()).mean())


@metric("dci", "Eastwood & Williams 2018, with lasso", "higher", {"two people"})
def dci(trial: Trial) -> Mapping[str, Any]:
    """Disentanglement, completeness, informativeness of the codes against the true factors, from the sizes of lasso
    coefficients: dimension by dimension, and code by code (`blocks`), which is how jobs drive them. Informativeness is
    R^2 on people that the lasso was not fitted on."""
    fit, ask = _halves(trial)
    blocks = _blocks(trial.codes)
    x, y = torch.cat([*blocks.values()], 1), trial.true
    mean, deviation = x[fit].mean(0), x[fit].std(0).clamp_min(1e-6)
    centre, spread = y[fit].mean(0), y[fit].std(0).clamp_min(1e-6)
    x, y = (x - mean) / deviation, (y - centre) / spread
    weight_CF = lasso(x[fit], y[fit], _LASSO)
    informed = r_squared(x[ask] @ weight_CF, y[ask]).clamp_min(0)
    importance = weight_CF.abs()
    sizes = [code.shape[1] for code in blocks.values()]
    groups = torch.stack([trial.columns(group).float() for several in BLOCKS.values() for group in several])
    owned = torch.stack([groups[list(_owned(name))].sum(0) for name in BLOCKS])
    by_block_MF = torch.stack([part.sum(0) for part in importance.split(sizes)])
    block_MM = by_block_MF / by_block_MF.sum(0).clamp_min(1e-9) @ owned.T / owned.sum(1)
    return {
        "disentanglement": disentanglement(importance),
        "completeness": disentanglement(importance.T),
        "informativeness": float(informed.mean()),
        "blocks": {
            "disentanglement": disentanglement(block_MM),
            "completeness": disentanglement(block_MM.T),
            "own": {name: float(block_MM[i, i]) for i, name in enumerate(BLOCKS)},
        },
    }


def disentanglement(importance_CF: Tensor) -> float:
    """1 where every row matters for one column alone, 0 where for all alike; rows weighted by how much they matter.
    Of the transposed matrix it is completeness."""
    total = importance_CF.sum(1)
    share = importance_CF / total[:, None].clamp_min(1e-12)
    entropy = -(share * share.clamp_min(1e-12).log()).sum(1) / torch.log(torch.tensor(float(share.shape[1])))
    return float(((1 - entropy) * total).sum() / total.sum().clamp_min(1e-12))


def lasso(x_NC: Tensor, y_NF: Tensor, strength: float, sweeps: int = _SWEEPS) -> Tensor:
    """weight_CF that minimises |y - x w|^2 / 2 N + strength |w|_1 (FISTA, Beck & Teboulle 2009)."""
    square = x_NC.T @ x_NC / len(x_NC)
    target = x_NC.T @ y_NF / len(x_NC)
    step = 1 / torch.linalg.eigvalsh(square)[-1].clamp_min(1e-6)
    weight = ahead = torch.zeros_like(target)
    pace = 1.0
    for _ in range(sweeps):
        moved = ahead - step * (square @ ahead - target)
        fresh = torch.sign(moved) * (moved.abs() - step * strength).clamp_min(0)
        quicker = (1 + (1 + 4 * pace * pace) ** 0.5) / 2
        ahead = fresh + (pace - 1) / quicker * (fresh - weight)
        weight, pace = fresh, quicker
    return weight


def ridge(x_NC: Tensor, y_NF: Tensor, ask_MC: Tensor, strength: float = 1e-2) -> Tensor:
    """y of `ask`, by ridge regression on standardised x."""
    mean, deviation = x_NC.mean(0), x_NC.std(0).clamp_min(1e-6)
    x, ask = (x_NC - mean) / deviation, (ask_MC - mean) / deviation
    square = x.T @ x + strength * len(x) * torch.eye(x.shape[1])
    return ask @ torch.linalg.solve(square, x.T @ (y_NF - y_NF.mean(0))) + y_NF.mean(0)


def _blocks(codes: Codes) -> dict[str, Tensor]:
    return {name: getattr(codes, name) for name in BLOCKS}


def _owned(name: str) -> list[int]:
    order = [group for several in BLOCKS.values() for group in several]
    return [order.index(group) for group in BLOCKS[name]]


def _halves(trial: Trial) -> tuple[Tensor, Tensor]:
    """Rows of one half of the people, and of the other."""
    person = torch.arange(len(trial.true)) // trial.clips.frames
    first = person % 2 == 0
    return torch.nonzero(first)[:, 0], torch.nonzero(~first)[:, 0]
