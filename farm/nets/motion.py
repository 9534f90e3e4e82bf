"""Motion network: a face alignment network (Bulat & Tzimiropoulos 2017) with one hourglass, and four heads.

B batch, C channels, S image side; the hourglass works at S/4, the unified feature is read off at S/8.
Unlike the public FAN: max-pooling, bilinear resize-to-size, dropout on the hourglass's skips (PDFGC.md, section 2).
Attribute names are the official state-dict keys.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from farm.nets.sizes import Sizes

DEPTH = 4


class MotionCodes(NamedTuple):
    """unified_BU (512 officially); codes pose_B6, eye_B6, expression_B30, lip_BL; lip512_BU is what lip embeds."""

    unified: Tensor
    pose: Tensor
    eye: Tensor
    expression: Tensor
    lip512: Tensor
    lip: Tensor


class Block(nn.Module):
    """Three pre-activated 3x3 convolutions of C/2, C/4 and C/4 channels, side by side, plus a residual."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, out // 2, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out // 2)
        self.conv2 = nn.Conv2d(out // 2, out // 4, 3, 1, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out // 4)
        self.conv3 = nn.Conv2d(out // 4, out // 4, 3, 1, 1, bias=False)
        self.downsample = None
        if channels != out:
            self.downsample = nn.Sequential(
                nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, out, 1, bias=False)
            )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        skip = x_BCHW if self.downsample is None else self.downsample(x_BCHW)
        half = self.conv1(F.relu(self.bn1(x_BCHW)))
        quarter = self.conv2(F.relu(self.bn2(half)))
        last = self.conv3(F.relu(self.bn3(quarter)))
        return torch.cat([half, quarter, last], dim=1) + skip


class Hourglass(nn.Module):
    """Four levels down and up again; b1 is the skip, b2 and b3 the way through, b2_plus_1 the bottom."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        for level in range(DEPTH, 0, -1):
            self.add_module(f"b1_{level}", Block(channels, channels))
            self.add_module(f"b2_{level}", Block(channels, channels))
        self.b2_plus_1 = Block(channels, channels)
        for level in range(1, DEPTH + 1):
            self.add_module(f"b3_{level}", Block(channels, channels))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self._level(DEPTH, x_BCHW)

    def _level(self, level: int, x: Tensor) -> Tensor:
        skip = self.dropout(self.get_submodule(f"b1_{level}")(x))
        x = self.get_submodule(f"b2_{level}")(F.max_pool2d(x, 2))
        x = self._level(level - 1, x) if level > 1 else self.b2_plus_1(x)
        x = self.get_submodule(f"b3_{level}")(x)
        return skip + F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)


class Fan(nn.Module):
    """x_B3SS -> unified_BU."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        stem, wide = sizes.motion_stem, 4 * sizes.motion_stem
        self.conv1 = nn.Conv2d(3, stem, 7, 2, 3)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = Block(stem, 2 * stem)
        self.conv3 = Block(2 * stem, 2 * stem)
        self.conv4 = Block(2 * stem, wide)
        self.m0 = Hourglass(wide, sizes.dropout)
        self.top_m_0 = Block(wide, wide)
        self.conv_last0 = nn.Conv2d(wide, wide, 1)
        self.bn_end0 = nn.BatchNorm2d(wide)
        self.l0 = nn.Conv2d(wide, sizes.heatmaps, 1)
        self.bn5 = nn.BatchNorm2d(sizes.heatmaps)
        self.conv6 = nn.Conv2d(sizes.heatmaps, 1, 3, 2, 1)
        self.fc = nn.Linear((sizes.image // 8) ** 2, sizes.feature)

    def forward(self, x_B3SS: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x_B3SS)))
        x = F.max_pool2d(self.conv2(x), 2)
        x = self.conv4(self.conv3(x))
        x = self.top_m_0(self.m0(x))
        x = F.relu(self.bn_end0(self.conv_last0(x)))
        x = F.relu(self.bn5(self.l0(x)))
        return self.fc(F.relu(self.conv6(x)).flatten(1))


class MotionEncoder(nn.Module):
    """How the face moves: everything that drives it, each code from its own head on the unified feature."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.model = Fan(sizes)
        codes = {"mouth": sizes.lip, "headpose": sizes.pose, "eye": sizes.eye, "emo": sizes.expression}
        for name, length in codes.items():
            self.add_module(f"to_{name}", head(sizes.feature))
            self.add_module(f"{name}_embed", nn.Sequential(nn.ReLU(), nn.Linear(sizes.feature, length)))

    def forward(self, x_B3SS: Tensor) -> MotionCodes:
        """RGB in [-1, 1] -> all codes."""
        return self.codes(self.model(x_B3SS))

    def codes(self, unified_BU: Tensor) -> MotionCodes:
        """The heads alone; stages 2 and 3 train them on the frozen unified feature."""
        features = {n: self.get_submodule(f"to_{n}")(unified_BU) for n in ("mouth", "headpose", "eye", "emo")}
        pose, eye, expression, lip = (
            self.get_submodule(f"{name}_embed")(features[name]) for name in ("headpose", "eye", "emo", "mouth")
        )
        return MotionCodes(unified_BU, pose, eye, expression, features["mouth"], lip)


def head(feature: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(feature, feature), nn.ReLU(), nn.BatchNorm1d(feature), nn.Linear(feature, feature))
