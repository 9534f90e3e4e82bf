"""How good pictures are: likeness to the true ones, their statistics, where landmarks lie.

N pictures, D features, P points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from farm.face.align import SIDE
from farm.face.points import IBUG_68
from trainer.landmarks import points_of
from trainer.losses import psnr as psnr_of
from trainer.metrics import metric
from trainer.priors import Prior
from trainer.trial import Trial


@metric("psnr", "ours (self-driving)", "higher")
def psnr(trial: Trial) -> float:
    """Of held-out frames made anew, dB."""
    return float(psnr_of(trial.self_driven.made, trial.self_driven.wanted))


@metric("psnr_copy", "ours", "neither")
def psnr_copy(trial: Trial) -> float:
    """What showing the person's picture instead would score, dB."""
    return float(psnr_of(trial.self_driven.source, trial.self_driven.wanted))


@metric("fid", "Table 1, FID, in the judge's features", "lower", {"features"})
def fid(trial: Trial) -> Mapping[str, Any]:
    """Frechet distance of true and made frames in the features of `network` (not Inception's: comparable among models
    here only), and of two halves of the true ones, which is what so few pictures leave."""
    return _fid(trial, "features")


@metric("fid_lite0", "Table 1, FID, with EfficientNet-Lite0", "lower", {"lite0"})
def fid_lite0(trial: Trial) -> Mapping[str, Any]:
    """The same in the 320 features of EfficientNet-Lite0, trained on ImageNet, where its file is at hand."""
    return _fid(trial, "lite0")


def _fid(trial: Trial, which: str) -> Mapping[str, Any]:
    network, driven = trial.has[which], trial.self_driven
    true, made = network.features(driven.wanted), network.features(driven.made)
    # The same people in both halves, at other times.
    middle = len(true) // 2
    halves = frechet(true[:middle], true[middle:]) if middle >= 2 else float("nan")
    return {"distance": frechet(true, made), "halves": halves, "pictures": len(made), "network": network.name}


@metric("lmd", "Table 1, LMD and LMD_m", "lower", {"landmarks"})
def lmd(trial: Trial) -> Mapping[str, float]:
    """Mean distance of 68 landmarks, and of the mouth's 20, of made and true frames, pixels of a 224 px crop, found by
    the farm's landmark network; each face's own mean taken away for `mouth`."""
    few = slice(0, min(trial.scope.landmarks, len(trial.self_driven.made)))
    prior = trial.has["landmarks"]
    made, true = (
        points_of(prior, part[few])[:, IBUG_68, :2] for part in (trial.self_driven.made, trial.self_driven.wanted)
    )
    return {"face": point_distance(made, true), "mouth": point_distance(centred(made[:, 48:]), centred(true[:, 48:]))}


@dataclass(frozen=True)
class Lite0:
    """EfficientNet-Lite0 (ImageNet), its last map averaged: 320 features."""

    network: Prior
    name: str = "EfficientNet-Lite0"

    @torch.no_grad()
    def features(self, x_N3SS: Tensor) -> Tensor:
        large = [F.interpolate(part, (SIDE, SIDE), mode="bilinear", antialias=True) for part in x_N3SS.split(16)]
        return torch.cat([self.network.features(part)[-1].mean((2, 3)) for part in large])


def frechet(a_ND: Tensor, b_ND: Tensor) -> float:
    """Frechet distance of two Gaussians fitted to features (Heusel et al. 2017)."""
    a, b = a_ND.double(), b_ND.double()
    cov_a, cov_b = (torch.atleast_2d(torch.cov(part.T)) for part in (a, b))
    root = _root(cov_a)
    # tr((A B)^(1/2)) through a symmetric matrix of the same eigenvalues.
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    apart = (a.mean(0) - b.mean(0)).square().sum()
    return max(0.0, float(apart + torch.trace(cov_a) + torch.trace(cov_b) - 2 * cross))


def _root(symmetric: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(symmetric)
    return vectors * values.clamp_min(0).sqrt() @ vectors.T


def point_distance(a_NP2: Tensor, b_NP2: Tensor) -> float:
    return float((a_NP2 - b_NP2).square().sum(-1).sqrt().mean())


def centred(points_NP2: Tensor) -> Tensor:
    return points_NP2 - points_NP2.mean(1, keepdim=True)
