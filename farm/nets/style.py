"""The style: all codes of a frame in the order that the generator's modulations expect (PDFGC.md, section 2)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from farm.nets.sizes import Sizes


def style(appearance_BA: Tensor, lip_BL: Tensor, expression_BX: Tensor, eye_BE: Tensor, pose_BP: Tensor) -> Tensor:
    """style_BD: appearance | lip | expression | eye | pose. An appearance of batch 1 serves every frame."""
    batch = lip_BL.shape[0]
    return torch.cat([appearance_BA.expand(batch, -1), motion(lip_BL, expression_BX, eye_BE, pose_BP)], dim=1)


def motion(lip_BL: Tensor, expression_BX: Tensor, eye_BE: Tensor, pose_BP: Tensor) -> Tensor:
    """motion_BM: the style without the appearance, all that changes from frame to frame."""
    return torch.cat([lip_BL, expression_BX, eye_BE, pose_BP], dim=1)


def style_parts(sizes: Sizes) -> Mapping[str, slice]:
    """Where each code lies in the style."""
    parts: dict[str, slice] = {}
    start = 0
    for name in ("appearance", "lip", "expression", "eye", "pose"):
        stop = start + getattr(sizes, name)
        parts[name] = slice(start, stop)
        start = stop
    return parts
