"""Audio network: ResNetSE34 V2 with self-attentive pooling (Chung et al. 2020), then the lip embedding.

B batch, C channels, T time. ReLU comes before batch norm in stem and block. Input is a mel window (80 bins, 20
frames). Attribute names are the official state-dict keys.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from farm.nets.sizes import MEL_BINS, Sizes

REDUCTION = 8


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(4, channels // REDUCTION)  # fewer units could all be dead; officially 4 is the least
        self.fc = nn.Sequential(nn.Linear(channels, squeezed), nn.ReLU(), nn.Linear(squeezed, channels), nn.Sigmoid())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW * self.fc(x_BCHW.mean(dim=(2, 3)))[:, :, None, None]


class BasicBlock(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.se = SqueezeExcite(out)
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        skip = x_BCHW if self.downsample is None else self.downsample(x_BCHW)
        x = self.bn1(F.relu(self.conv1(x_BCHW)))
        x = self.se(self.bn2(self.conv2(x)))
        return F.relu(x + skip)


class ResNetSE(nn.Module):
    """mel_B1FT -> feature_BU."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        channels = sizes.audio_widths[0]
        self.conv1 = nn.Conv2d(1, channels, 3, 1, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        for number, (width, count) in enumerate(zip(sizes.audio_widths, sizes.audio_blocks, strict=True), start=1):
            layer = []
            for index in range(count):
                layer.append(BasicBlock(channels, width, 2 if number > 1 and index == 0 else 1))
                channels = width
            self.add_module(f"layer{number}", nn.Sequential(*layer))
        pooled = channels * MEL_BINS // 8
        self.attention = nn.Sequential(
            nn.Conv1d(pooled, sizes.audio_attention, 1),
            nn.ReLU(),
            nn.BatchNorm1d(sizes.audio_attention),
            nn.Conv1d(sizes.audio_attention, pooled, 1),
            nn.Softmax(dim=2),
        )
        self.fc = nn.Linear(pooled, sizes.feature)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, mel_B1FT: Tensor) -> Tensor:
        x = self.bn1(F.relu(self.conv1(mel_B1FT)))
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        x_BCT = x.flatten(1, 2)
        return self.fc((x_BCT * self.attention(x_BCT)).sum(dim=2))


class AudioEncoder(nn.Module):
    """What the lips do, heard."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.model = ResNetSE(sizes)
        self.mouth_embed = nn.Sequential(nn.ReLU(), nn.Linear(sizes.feature, sizes.lip))

    def forward(self, mel_B1FT: Tensor) -> tuple[Tensor, Tensor]:
        """Mel windows (B, 1, 80, 20) -> feature_BU (512 officially), lip_BL (500 officially)."""
        feature = self.model(mel_B1FT)
        return feature, self.mouth_embed(feature)
