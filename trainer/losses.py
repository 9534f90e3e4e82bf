"""Every term of the training, one function each, with its equation in Wang et al. 2023 (PDFGC.md, section 4).

B samples, N candidates, L length of a code, S image side. Each returns a scalar.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_FLOOR = 1e-4


def motion(features: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Eq. 1, one half: || phi(I_0) - phi(I_gt) ||_2, and the same with psi. Mean over the batch and the features."""
    parts = [(a - b).flatten(1).square().mean(1).add(1e-8).sqrt().mean() for a, b in zip(features, wanted, strict=True)]
    return torch.stack(parts).mean()


def info_nce(anchor_BNL: Tensor, candidates_BNL: Tensor, temperature: float) -> Tensor:
    """Eq. 2 and 3, by which way round it is called: anchor n belongs to candidate n; the others, frames of the same
    clip at other times, are its negatives. Cosine similarity."""
    likeness = F.normalize(anchor_BNL, dim=2) @ F.normalize(candidates_BNL, dim=2).transpose(1, 2) / temperature
    wanted = torch.arange(likeness.shape[1], device=likeness.device).expand(likeness.shape[:2])
    return F.cross_entropy(likeness.flatten(0, 1), wanted.flatten())


def eye_contrast(anchor_BL: Tensor, positive_BL: Tensor, negative_BL: Tensor, temperature: float) -> Tensor:
    """Eq. 4: the anchor, frame 2 with frame 1's eyes, is like frame 1 and unlike frame 2."""
    pair = [F.cosine_similarity(anchor_BL, other) / temperature for other in (positive_BL, negative_BL)]
    return F.cross_entropy(torch.stack(pair, 1), torch.zeros(len(anchor_BL), dtype=torch.long, device=anchor_BL.device))


def pose(pose_BP: Tensor, wanted_BP: Tensor) -> Tensor:
    """Eq. 5: L1 to three Euler angles and three translations."""
    return F.l1_loss(pose_BP, wanted_BP)


def decorrelation(expression_NX: Tensor, audio_NL: Tensor) -> Tensor:
    """Eq. 6: mean over (i, j) of Corr_ij(expression, audio)^2, over the memory banks with the batch in them."""
    x = (expression_NX - expression_NX.mean(0)) / (expression_NX.std(0, correction=0) + _FLOOR)
    y = (audio_NL - audio_NL.mean(0)) / (audio_NL.std(0, correction=0) + _FLOOR)
    return (x.T @ y / len(x)).square().mean()


def perceptual(features: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Eq. 7: L1 between the features of a perceptual network, mean over layers."""
    return torch.stack([F.l1_loss(a, b) for a, b in zip(features, wanted, strict=True)]).mean()


def lip_sync(lip_BL: Tensor, audio_BL: Tensor) -> Tensor:
    """Eq. 8, first part: exp(-cos(V_lip(I_g), E_aud(a)))."""
    return torch.exp(-F.cosine_similarity(lip_BL, audio_BL)).mean()


def gaze(gaze_B2: Tensor, wanted_B2: Tensor) -> Tensor:
    """Eq. 8, second part: | gaze(I_g) - gaze(I_t) |_1."""
    return F.l1_loss(gaze_B2, wanted_B2)


def image(image_B3SS: Tensor, wanted_B3SS: Tensor) -> Tensor:
    """L1 of the picture."""
    return F.l1_loss(image_B3SS, wanted_B3SS)


def pyramid(image_B3SS: Tensor, wanted_B3SS: Tensor, levels: int = 2) -> Tensor:
    """L1 of the picture at halves and quarters of its size, summed [ours]."""
    total = image_B3SS.new_zeros(())
    for _ in range(levels):
        image_B3SS, wanted_B3SS = F.avg_pool2d(image_B3SS, 2), F.avg_pool2d(wanted_B3SS, 2)
        total = total + F.l1_loss(image_B3SS, wanted_B3SS)
    return total


def regions(image_B3SS: Tensor, wanted_B3SS: Tensor) -> Tensor:
    """L1 around the eyes and the mouth, where the crop puts them [ours]: small, yet what the factors move most."""
    return torch.stack([F.l1_loss(box(image_B3SS, name), box(wanted_B3SS, name)) for name in BOXES]).mean()


BOXES = {"eyes": (0.14, 0.48, 0.16, 0.84), "mouth": (0.46, 0.90, 0.24, 0.76)}
"""Shares of the crop: rows from, to, columns from, to."""


def box(x_BCSS: Tensor, name: str) -> Tensor:
    top, bottom, left, right = (round(part * x_BCSS.shape[-1]) for part in BOXES[name])
    return x_BCSS[:, :, top:bottom, left:right]


def hinge_real(scores: Sequence[Tensor]) -> Tensor:
    """Discriminator, real pictures (Burkov et al. 2020, hinge)."""
    return torch.stack([F.relu(1 - score).mean() for score in scores]).mean()


def hinge_fake(scores: Sequence[Tensor]) -> Tensor:
    """Discriminator, generated pictures."""
    return torch.stack([F.relu(1 + score).mean() for score in scores]).mean()


def adversarial(scores: Sequence[Tensor]) -> Tensor:
    """Generator against the discriminator."""
    return -torch.stack([score.mean() for score in scores]).mean()


def distillation(read_BF: Tensor, factors_BF: Tensor, shown_BF: Tensor | None = None) -> Tensor:
    """Squared error of factors read off a feature [ours, beyond the paper; weight 0 in `paper`], where they show."""
    error = (read_BF - factors_BF).square()
    return (error if shown_BF is None else error * shown_BF).mean()


def correlation(x_N: Tensor, y_N: Tensor) -> Tensor:
    """Pearson's, of two curves."""
    x, y = x_N - x_N.mean(), y_N - y_N.mean()
    return (x * y).sum() / (x.square().sum() * y.square().sum()).sqrt().clamp_min(_FLOOR)


def r_squared(read_NF: Tensor, true_NF: Tensor) -> Tensor:
    """Share of each factor's variance that is read, (F,)."""
    return 1 - (read_NF - true_NF).square().mean(0) / true_NF.var(0, correction=0).clamp_min(_FLOOR)


def psnr(image_B3SS: Tensor, wanted_B3SS: Tensor) -> Tensor:
    """dB, mean over pictures in [-1, 1]."""
    return (10 * torch.log10(4 / (image_B3SS - wanted_B3SS).square().mean((1, 2, 3)))).mean()
