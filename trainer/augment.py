"""What the motion branch sees instead of the picture, so that it forgets who is shown. B pictures, S pixels a side."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

DICE = 16
"""Dice that one picture takes."""


@dataclass(frozen=True)
class Augmentation:
    """Ranges, each on both sides of no change. scale is per axis; probability of any change of shape.

    Burkov et al. also sharpen, emboss, bend and compress; those four are not here.
    """

    scale: float = 0.2
    scale_probability: float = 0.5
    turn_deg: float = 0.0
    brightness: float = 0.5
    offset: float = 0.08
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.4
    noise: float = 0.1
    blur_probability: float = 0.3


def augment(x_B3SS: Tensor, dice_BD: Tensor, ranges: Augmentation) -> Tensor:
    """Pictures changed in shape and colour, each by its own DICE dice."""
    die_B, dice_BD = dice_BD[:, 14], dice_BD.to(x_B3SS.device)
    x = _reshape(x_B3SS, dice_BD[:, :4], ranges)
    x = _recolour(x, dice_BD[:, 4:12] * 2 - 1, ranges)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.where((dice_BD[:, 12] < ranges.blur_probability)[:, None, None, None], blurred, x)
    x = x + ranges.noise * dice_BD[:, 13, None, None, None] * _grain(x, die_B)
    return x.clamp(-1.5, 1.5).contiguous(memory_format=torch.channels_last)


def _reshape(x: Tensor, dice_B4: Tensor, ranges: Augmentation) -> Tensor:
    on = (dice_B4[:, 3] < ranges.scale_probability).float()
    across, down = (1 + ranges.scale * (2 * dice_B4[:, i] - 1) * on for i in (0, 1))
    angle = torch.deg2rad(ranges.turn_deg * (2 * dice_B4[:, 2] - 1))
    zero = torch.zeros_like(angle)
    rows = [[across * angle.cos(), -across * angle.sin(), zero], [down * angle.sin(), down * angle.cos(), zero]]
    grid = F.affine_grid(torch.stack([torch.stack(row, 1) for row in rows], 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _recolour(x: Tensor, way_B8: Tensor, ranges: Augmentation) -> Tensor:
    way = way_B8[:, :, None, None, None]
    x = x * (1 + ranges.brightness * way[:, 0]) + ranges.offset * way[:, 1]
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * (1 + ranges.contrast * way[:, 2])
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (1 + ranges.saturation * way[:, 3])
    tint_B3 = way_B8[:, 4:7] - way_B8[:, 4:7].mean(1, keepdim=True)
    return x + 0.5 * ranges.hue * tint_B3[:, :, None, None]


def _grain(x: Tensor, dice_B: Tensor) -> Tensor:
    """Noise that follows from each picture's own die, whatever the batch it stands in."""
    if x.is_cuda:
        return _hashed_grain(x.shape, dice_B, x.device).to(x.dtype)
    pictures = []
    for die in dice_B.tolist():
        dice = torch.Generator().manual_seed(int(die * 2**24))
        pictures.append(torch.randn(x.shape[1:], generator=dice))
    return torch.stack(pictures)


def _hashed_grain(shape: torch.Size, dice_B: Tensor, device: torch.device) -> Tensor:
    """The like of it where a generator a picture would leave a GPU waiting: normals from hashes of pixel numbers
    (splitmix64's finaliser, then Box and Muller)."""
    count = shape[1] * shape[2] * shape[3]
    seeds = (dice_B.double() * 2**24).long().to(device)
    x = seeds[:, None] * count + torch.arange(count, device=seeds.device)
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * factor
    x = x ^ ((x >> 31) & ((1 << 33) - 1))
    low, high = (((part & 0xFFFFFF).float() + 0.5) / 2**24 for part in (x, x >> 32))
    return ((-2 * low.log()).sqrt() * torch.cos(2 * torch.pi * high)).view(shape)
