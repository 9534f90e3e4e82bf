"""Voices: any audio to 16 kHz mono, and windows of it by sample."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farm.domain.media import AudioFacts

SPEECH_HZ: Final = 16_000


def speech(path: Path, dest_wav: Path) -> AudioFacts:
    """Write the first audio stream as 16 kHz mono pcm_s16le wav; sample 0 is time 0 of the file as players play it.

    Encoder priming and padding are left out; a stream that starts late gets silence in front. The facts describe the
    source; duration_s is the exact length of the wav.
    Rejected: media_no_audio, media_damaged (nothing decodes), and those of `probe`.
    """
    raise NotImplementedError


def read(wav: Path, start: int, stop: int) -> NDArray[np.float32]:
    """Samples [start, stop) of a wav made by `speech`, in [-1, 1); zeros outside the file."""
    raise NotImplementedError


def length(wav: Path) -> int:
    """Samples in a wav made by `speech`."""
    raise NotImplementedError
