"""What stage 1 has learned, of a training that is under way: its own generator, and what its unified feature knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from trainer.losses import psnr
from trainer.metrics import by_factor, metric
from trainer.metrics_factors import r2_where
from trainer.stages import Setting
from trainer.trial import Trial

_BATCH = 64


@metric("stage1", "Eq. 1, on held-out people", "neither", {"stage1"})
@torch.no_grad()
def stage1(trial: Trial) -> Mapping[str, Any]:
    """PSNR of held-out frames rebuilt by stage 1's generator, and R^2 of their factors: read off those pictures, and
    as the linear read-out of the unified feature has them, where the recipe trains one."""
    setting: Setting = trial.has["stage1"]
    cast, clips = setting.cast, trial.clips
    count = min(trial.scope.pictures, clips.frames * len(clips))
    number = torch.arange(count)
    clip, frame = number % len(clips), (3 + 7 * (number // len(clips))) % clips.frames
    source, wanted = trial.source(clip), clips.picture(clip, frame)
    true = clips.factors[clip, frame]
    rebuilt, told = [], []
    for here in number.split(_BATCH):
        appearance, map_ = cast.appearance(source[here])
        unified = cast.motion.model(wanted[here])
        rebuilt.append(cast.generator0_average(torch.cat([appearance, unified], 1), map_))
        told.append(cast.distil(unified))
    features, groups = setting.features, trial.reader.groups
    made = torch.cat(rebuilt)
    return {
        "psnr": float(psnr(made, wanted)),
        "psnr_copy": float(psnr(source, wanted)),
        "readout_r2": by_factor(groups, r2_where(trial.reader.read(made), true, trial)),
        "unified_r2": by_factor(
            groups, r2_where(torch.cat(told) * features.deviation_F.cpu() + features.mean_F.cpu(), true, trial)
        ),
    }
