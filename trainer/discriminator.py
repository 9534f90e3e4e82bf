"""Discriminator: a PatchGAN at several scales (Wang et al. 2018), with spectral and instance norm."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class Patches(nn.Module):
    """x_B3SS -> scores of overlapping patches, and the features on the way to them."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        widths = [min(width * 2**i, 8 * width) for i in range(layers)]
        steps: list[nn.Module] = [nn.Sequential(spectral_norm(nn.Conv2d(3, width, 4, 2, 2)), nn.LeakyReLU(0.2))]
        for i in range(1, layers):
            conv = nn.Conv2d(widths[i - 1], widths[i], 4, 2 if i < layers - 1 else 1, 2, bias=False)
            steps.append(nn.Sequential(spectral_norm(conv), nn.InstanceNorm2d(widths[i]), nn.LeakyReLU(0.2)))
        self.steps = nn.ModuleList(steps)
        self.score = spectral_norm(nn.Conv2d(widths[-1], 1, 4, 1, 2))

    def forward(self, x_B3SS: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = []
        for step in self.steps:
            x_B3SS = step(x_B3SS)
            features.append(x_B3SS)
        return self.score(x_B3SS), features


class Discriminator(nn.Module):
    """Officially 2 scales of 4 layers, 64 wide: 5,527,682 parameters."""

    def __init__(self, width: int = 64, layers: int = 4, scales: int = 2) -> None:
        super().__init__()
        self.scales = nn.ModuleList([Patches(width, layers) for _ in range(scales)])

    def forward(self, x_B3SS: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Scores of each scale, and all features, coarse scales last."""
        scores, features = [], []
        for patches in self.scales:
            score, seen = patches(x_B3SS)
            scores.append(score)
            features += seen
            x_B3SS = F.avg_pool2d(x_B3SS, 3, 2, 1, count_include_pad=False)
        return scores, features
