"""Who of several people speaks: the one whose mouth moves with the sound (farm.face.speaking)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farm.face import speaking
from farm.media import audio

WINDOW_S: Final = 4.0
MOST_WINDOWS: Final = 24
"""Of one person, spread over the video."""
SPEAKS: Final = 0.2
"""Mean agreement from which on somebody is taken to speak."""
AHEAD: Final = 0.1
"""By so much the speaker's agreement must be beyond the main face's to be preferred to it."""


@dataclass(frozen=True)
class Sound:
    """A video's own sound as 16 kHz mono wav, how loud it is as a whole, and when its frames are shown in it."""

    wav: Path
    rms: float
    time_s_T: NDArray[np.float64]


Mouths = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""(M, 2) of farm.face.speaking.mouth, of M frames of one person."""


def agreement(frames: Sequence[int], mouths: Mouths, sound: Sound) -> float:
    """Mean agreement of a person's mouth with the sound while there is any; 0.0 where they never come together."""
    values: list[float] = []
    total = audio.length(sound.wav)
    for window in _spread(windows(np.asarray(frames, np.int64), sound.time_s_T)):
        time_s = sound.time_s_T[window]
        start, stop = speaking.stretch(time_s)
        start, stop = max(0, start), min(stop, total)
        samples = audio.read(sound.wav, start, max(start, stop))
        if speaking.is_speech(samples, sound.rms):
            heard = speaking.expected(samples, start, sound.rms, time_s)
            values.append(speaking.agreement(mouths(window), heard, time_s))
    return float(np.mean(values)) if values else 0.0


def chosen(weights: Sequence[float], agreements: Sequence[float]) -> int:
    """The speaker's number, or the main face's (the greatest weight) where nobody clearly speaks."""
    main = int(np.argmax(weights))
    speaker = int(np.argmax(agreements))
    clearly = agreements[speaker] >= max(SPEAKS, agreements[main] + AHEAD)
    return speaker if clearly else main


def windows(frames: NDArray[np.int64], time_s_T: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """The frames in stretches of WINDOW_S, without those in which the person is seen for less than half of it."""
    frames = frames[frames < len(time_s_T)]
    number = (time_s_T[frames] // WINDOW_S).astype(np.int64)
    parts = [frames[number == n] for n in np.unique(number)]
    return [p for p in parts if len(p) >= 8 and time_s_T[p[-1]] - time_s_T[p[0]] >= WINDOW_S / 2]


def _spread(parts: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    if len(parts) <= MOST_WINDOWS:
        return parts
    return [parts[n] for n in np.linspace(0, len(parts) - 1, MOST_WINDOWS).round().astype(int)]
