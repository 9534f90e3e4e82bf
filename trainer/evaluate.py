"""First figures of a run, all on identities and voices that were never trained on. The full tables are issue 5's.

B pictures, N candidates, F factors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from farm.nets.style import style
from trainer import losses
from trainer.corpus import FACTORS
from trainer.stages import Setting


@dataclass(frozen=True)
class Rendering:
    """Pictures in [-1, 1]: the appearance frame, the wanted one, stage 1's and stage 3's renderings of it."""

    source: Tensor
    wanted: Tensor
    rebuilt: Tensor
    composed: Tensor


def held_out_frames(setting: Setting, count: int) -> tuple[Tensor, Tensor]:
    """`count` (clip, frame) pairs as in life, spread over the held-out clips."""
    clips = setting.corpus.held_out
    number = torch.arange(count)
    return number % len(clips), (7 + 11 * number) % clips.frames


@torch.no_grad()
def render_held_out(setting: Setting, clip_B: Tensor, frame_B: Tensor, shift: int = 0) -> Rendering:
    """Held-out frames rendered from a loose frame of the same person; lips from the voice, `shift` frames off."""
    return _render(setting, setting.features.plain(setting.corpus.held_out), clip_B, frame_B, shift)


def _render(setting: Setting, unified_KNU: Tensor, clip_B: Tensor, frame_B: Tensor, shift: int = 0) -> Rendering:
    cast, clips = setting.cast.eval(), setting.corpus.held_out
    source = clips.picture(clip_B, torch.full_like(frame_B, clips.frames))
    wanted = clips.picture(clip_B, frame_B)
    appearance_BA, map_BCMM = cast.appearance(source)
    unified_BU = unified_KNU[clip_B, frame_B]
    eye, pose = (cast.code(name, unified_BU) for name in ("eye", "pose"))
    heard = cast.audio(clips.window(clip_B, (frame_B + shift).clamp(0, clips.frames - 1)))[1]
    reach = setting.choices.window // 2
    window = (frame_B[:, None] + torch.arange(-reach, reach + 1)).clamp(0, clips.frames - 1)
    around = unified_KNU[clip_B[:, None], window]
    expression = cast.code("expression", around.flatten(0, 1)).unflatten(0, window.shape).mean(1)
    return Rendering(
        source,
        wanted,
        cast.generator0_average(torch.cat([appearance_BA, unified_BU], 1), map_BCMM),
        cast.generator_average(style(appearance_BA, heard, expression, eye, pose), map_BCMM),
    )


@torch.no_grad()
def evaluate(setting: Setting, pictures: int = 96, *, lips: bool = True) -> dict[str, object]:
    """PSNR, read-out R^2 on true and on generated pictures, lip retrieval, jaw against the true jaw by shift.

    The network is left in eval mode.
    """
    clips, cast = setting.corpus.held_out, setting.cast.eval()
    unified_KNU = setting.features.plain(clips)
    clip, frame = held_out_frames(setting, pictures)
    true = setting.features.units(clips.factors[clip, frame])
    shown = _render(setting, unified_KNU, clip, frame)
    return {
        "pictures": pictures,
        "held_out_identities": len(clips),
        "psnr": {
            "source": _round(losses.psnr(shown.source, shown.wanted)),
            "stage1": _round(losses.psnr(shown.rebuilt, shown.wanted)),
            "stage3": _round(losses.psnr(shown.composed, shown.wanted)),
        },
        "readout_r2": {
            "true": _by_factor(cast.readout(shown.wanted), true),
            "stage1": _by_factor(cast.readout(shown.rebuilt), true),
            "stage3": _by_factor(cast.readout(shown.composed), true),
            "unified": _by_factor(cast.distil(unified_KNU[clip, frame]), true),
        },
        "lip_retrieval_of_9": _retrieval(setting, unified_KNU),
        "jaw_by_shift": _jaw_by_shift(setting, unified_KNU) if lips else {},
    }


def _retrieval(setting: Setting, unified_KNU: Tensor) -> float:
    """Share of held-out frames whose own window of the voice is the likeliest among nine of the clip."""
    clips, cast = setting.corpus.held_out, setting.cast
    frames = torch.linspace(0, clips.frames - 1, 9).long()
    clip = torch.arange(len(clips)).repeat_interleave(9)
    frame = frames.repeat(len(clips))
    seen = torch.nn.functional.normalize(cast.code("lip", unified_KNU[clip, frame]), dim=1).unflatten(0, (-1, 9))
    heard = torch.nn.functional.normalize(cast.audio(clips.window(clip, frame))[1], dim=1).unflatten(0, (-1, 9))
    best = (seen @ heard.transpose(1, 2)).argmax(2)
    return _round((best == torch.arange(9)).float().mean())


def _jaw_by_shift(setting: Setting, unified_KNU: Tensor, several: int = 6) -> dict[str, float]:
    """Correlation of the generated jaw, read, with the true one, the voice so many frames off; mean over clips."""
    clips = setting.corpus.held_out
    frames = torch.arange(4, clips.frames - 4)
    result = {}
    for shift in (-4, -2, 0, 2, 4):
        values = []
        for clip in range(min(several, len(clips))):
            at = torch.full_like(frames, clip)
            composed = _render(setting, unified_KNU, at, frames, shift).composed
            values.append(losses.correlation(setting.cast.readout(composed)[:, 0], clips.factors[at, frames, 0]))
        result[str(shift)] = _round(torch.stack(values).mean())
    return result


def _by_factor(read: Tensor, true: Tensor) -> dict[str, float]:
    values = losses.r_squared(read, true)
    return {name: _round(value) for name, value in zip(FACTORS, values, strict=True)}


def _round(value: Tensor) -> float:
    return round(float(value), 3)
