"""The generated square as a picture of its own, for animated stills."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from farm.face.planes import PlanesBatch, codes, codes_from_rgb
from farm.media.encode import VideoTags
from farm.media.frame import PictureFormat

TAGS = VideoTags(color_space="bt709", color_primaries="bt709", color_transfer="bt709")


def picture(side: int) -> PictureFormat:
    """8-bit 4:2:0 BT.709 in limited range, what every player shows right."""
    return PictureFormat(side, side, 8, 1, 1, "bt709", False)


def planes(generated_B3SS: torch.Tensor) -> PlanesBatch:
    """R'G'B' in [-1, 1] to planes; chroma sited left: [1 2 1] / 4 across, the mean of two rows down."""
    side = generated_B3SS.shape[-1]
    form = picture(side)
    codes_B3SS = codes_from_rgb((generated_B3SS.float() + 1).mul(0.5).clamp(0, 1), form)
    chroma = F.pad(codes_B3SS[:, 1:], (1, 0, 0, 0), mode="replicate")
    across = chroma[..., 0:-1:2] * 0.25 + chroma[..., 1::2] * 0.5
    across = across + F.pad(chroma, (0, 1, 0, 0), mode="replicate")[..., 2::2] * 0.25
    down = (across[:, :, 0::2] + across[:, :, 1::2]) * 0.5
    peak = codes(form).peak

    def stored(samples: torch.Tensor) -> torch.Tensor:
        return samples.round().clamp(0, peak).to(torch.uint8)

    return PlanesBatch(stored(codes_B3SS[:, 0]), stored(down[:, 0]), stored(down[:, 1]), form)
