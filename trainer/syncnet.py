"""A lip-sync judge that the user brings: SyncNet (Chung & Zisserman 2016) or its like, exported.

The file is a `torch.export` program of two inputs, frames_B35SS in [-1, 1] (five crops in a row, at 25 a second) and
wave_BN (the 0.2 s of voice with them, 16 kHz), and two outputs, an embedding of each, (B, E). Whatever it wants to do
first, cutting out the mouth or making MFCCs, is part of the program.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.priors import PriorMissing

FILE: Final = "syncnet.pt2"
FRAMES: Final = 5
SAMPLES: Final = 3200
_HOP: Final = 640
_BATCH: Final = 16


@dataclass(frozen=True)
class SyncNet:
    program: Any
    name: str

    @torch.no_grad()
    def embeddings(self, x_T3SS: Tensor, wave: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """(mouth_WE, voice_WE) of the W = T - 4 windows of a clip at 25 frames a second."""
        frames = x_T3SS.unfold(0, FRAMES, 1).movedim(-1, 2)
        needed = _HOP * (len(frames) - 1) + SAMPLES
        samples = torch.from_numpy(np.pad(wave, (0, max(0, needed - len(wave)))))
        voices = samples.unfold(0, SAMPLES, _HOP)[: len(frames)]
        mouths, heard = [], []
        for start in range(0, len(frames), _BATCH):
            here = slice(start, start + _BATCH)
            mouth, voice = self.program(frames[here].contiguous(), voices[here].contiguous())
            mouths.append(mouth)
            heard.append(voice)
        return torch.cat(mouths), torch.cat(heard)


def open_syncnet(folder: Path) -> SyncNet | None:
    """folder/syncnet.pt2; None where there is no such file. Raises PriorMissing if it is no such program."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return SyncNet(torch.export.load(path).module(), path.name)
    except Exception as error:
        raise PriorMissing(f"{path} is not a torch.export program of frames and wave (docs/evaluation.md)") from error
