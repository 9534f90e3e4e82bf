"""Appearance network: ResNeXt50-32x4d (Xie et al. 2017), pooled code, a 1x1 map of its last layer, identity head.

B batch, C channels, S image side, M = S / 32. Attribute names are the official state-dict keys.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from farm.nets.sizes import Sizes


class Bottleneck(nn.Module):
    """1x1, grouped 3x3 (which strides), 1x1 to four times the planes; residual."""

    def __init__(self, channels: int, planes: int, stride: int, groups: int) -> None:
        super().__init__()
        inner, out = 2 * planes, 4 * planes
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        skip = x_BCHW if self.downsample is None else self.downsample(x_BCHW)
        x = F.relu(self.bn1(self.conv1(x_BCHW)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + skip)


class ResNeXt(nn.Module):
    """x_B3SS -> features of the last layer, (B, 32 * stem, S/32, S/32)."""

    def __init__(self, stem: int, blocks: tuple[int, ...], groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        channels = stem
        for number, count in enumerate(blocks, start=1):
            planes = stem * 2 ** (number - 1)
            layer = []
            for index in range(count):
                stride = 2 if number > 1 and index == 0 else 1
                layer.append(Bottleneck(channels, planes, stride, groups))
                channels = 4 * planes
            self.add_module(f"layer{number}", nn.Sequential(*layer))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x_B3SS: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x_B3SS)))
        x = F.max_pool2d(x, 3, 2, 1)
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        return x


class AppearanceEncoder(nn.Module):
    """Who is shown. Runs once a job: one appearance frame."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.model = ResNeXt(sizes.appearance_stem, sizes.appearance_blocks, sizes.appearance_groups)
        self.conv1x1 = nn.Conv2d(sizes.appearance, sizes.map, 1)
        self.fc = nn.Linear(sizes.appearance, sizes.identities) if sizes.identities else None

    def forward(self, x_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        """RGB in [-1, 1] -> appearance_BA (2048 officially), map_BCMM (512 x 7 x 7 officially)."""
        x = self.model(x_B3SS)
        return x.mean(dim=(2, 3)), self.conv1x1(x)

    def identity_logits(self, appearance_BA: Tensor) -> Tensor:
        """Class scores (B, identities) of the identity head; only where sizes.identities > 0."""
        if self.fc is None:
            raise RuntimeError("this appearance network was built without an identity head")
        return self.fc(appearance_BA)
