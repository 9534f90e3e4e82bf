"""Whether a mouth moves with a voice: how far it opens and rounds, against what the voice lets one expect.

The expectation comes from a small convolutional network over the voice's mel spectrogram, trained on synthesised speech
whose mouth shapes are known (`python -m trainer.speaking`). Agreement is the correlation of the two over a stretch of
time, each freed of what is slower than speech: a smile, a face that is wider, a mouth that is read as half open.

Suffixes: K mel frames, T video frames, F mel bins.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from farm.face import points as layout
from farm.media import mel

WEIGHTS: Final = Path(__file__).parent / "weights" / "speaking.safetensors"
LEAD_FRAMES: Final = 3
"""A mel frame's middle lies so many hops before its number."""

AHEAD_S: Final = 0.04
"""Mouths move a little before they are heard: real ones by about twice that, synthesised ones not at all."""
SLOW_S: Final = 1.0
_WIDTH: Final = 48
_OPEN_PAIRS: Final = ((13, 14), (82, 87), (312, 317))  # mesh points: inner lips, above and below
_CORNERS: Final = (61, 291)


class SpeakingNet(nn.Module):
    """mel_BFK -> (B, 3, K): jaw, lip width and pucker at each mel frame's time."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(mel.BINS, _WIDTH, 5, padding=2),
            nn.GELU(),
            nn.Conv1d(_WIDTH, _WIDTH, 9, padding=4),
            nn.GELU(),
            nn.Conv1d(_WIDTH, _WIDTH, 9, padding=8, dilation=2),
            nn.GELU(),
            nn.Conv1d(_WIDTH, 3, 1),
        )

    def forward(self, mel_BFK: Tensor) -> Tensor:
        return self.body(mel_BFK * 2 - 1)


@cache
def _net() -> SpeakingNet:
    net = SpeakingNet()
    net.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return net.eval().requires_grad_(False)


def stretch(time_s_T: NDArray[np.floating]) -> tuple[int, int]:
    """[start, stop) of the voice's samples that `expected` wants for these times; may pass the voice's ends."""
    first, last = _frames(time_s_T)
    return mel.stretch([first, last - mel.WINDOW_FRAMES])


@torch.inference_mode()
def expected(
    samples: NDArray[np.float32], first_sample: int, rms_of_voice: float, time_s_T: NDArray[np.floating]
) -> NDArray[np.float32]:
    """(T, 2): how far the mouth should be open, and how wide, at these times of the voice.

    samples: 16 kHz, a stretch of the voice from first_sample on; what it lacks of `stretch(time_s_T)` is taken for
    silence.
    """
    first, last = _frames(time_s_T)
    start, stop = stretch(time_s_T)
    whole = np.zeros(stop - start, np.float32)
    begin, end = max(start, first_sample), min(stop, first_sample + len(samples))
    if begin < end:
        whole[begin - start : end - start] = samples[begin - first_sample : end - first_sample]
    starts = range(first, last, mel.WINDOW_FRAMES)
    mel_FK = np.concatenate(list(mel.windows(whole, start, starts, rms_of_voice)[:, 0]), axis=1)
    jaw, width, pucker = shapes(torch.from_numpy(mel_FK)).numpy()
    at = 100 * (np.asarray(time_s_T, np.float64) + AHEAD_S) + LEAD_FRAMES - first
    known = np.arange(mel_FK.shape[1])
    return np.stack([np.interp(at, known, jaw), np.interp(at, known, width - pucker)], 1).astype(np.float32)


@torch.inference_mode()
def shapes(mel_FK: Tensor) -> Tensor:
    """(3, K): jaw, lip width and pucker that the voice lets one expect. Mel frame k tells of its time LEAD_FRAMES
    before."""
    return _net()(mel_FK[None])[0]


def is_speech(samples: NDArray[np.float32], rms_of_voice: float) -> bool:
    """Whether anything is said here, against how loud the whole voice is."""
    return rms_of_voice > 1e-4 and mel.rms(samples) > 0.2 * rms_of_voice


def _frames(time_s_T: NDArray[np.floating]) -> tuple[int, int]:
    """Mel frames, in whole windows, half a second about the times."""
    first = int(np.floor(100 * (float(np.min(time_s_T)) - 0.5)))
    count = int(np.ceil(100 * (float(np.max(time_s_T)) + 0.5))) - first
    return first, first + -(-count // mel.WINDOW_FRAMES) * mel.WINDOW_FRAMES


def mouth(points_TK2: NDArray[np.floating], anchors_T32: NDArray[np.floating]) -> NDArray[np.float32]:
    """(T, 2): how far the mouth is open and how wide it is, in distances between the eyes. Kept points of a track."""
    eyes = np.maximum(np.linalg.norm(anchors_T32[:, 0] - anchors_T32[:, 1], axis=-1), 1e-3)
    gaps = [_distance(points_TK2, *pair) for pair in _OPEN_PAIRS]
    return np.stack([np.mean(gaps, 0) / eyes, _distance(points_TK2, *_CORNERS) / eyes], 1).astype(np.float32)


def _distance(points_TK2: NDArray[np.floating], first: int, second: int) -> NDArray[np.floating]:
    a, b = layout.KEPT.index(first), layout.KEPT.index(second)
    return np.linalg.norm(points_TK2[:, a] - points_TK2[:, b], axis=-1)


def agreement(
    mouth_T2: NDArray[np.floating], expected_T2: NDArray[np.floating], time_s_T: NDArray[np.floating]
) -> float:
    """-1 to 1: correlation of the mouth's opening (and, less, its width) with what the voice lets one expect.

    0 where either does not move at all. Times may have gaps.
    """
    seen, heard = (_fast(values, time_s_T) for values in (mouth_T2, expected_T2))
    return _correlation(seen, heard)


def _fast(values_TC: NDArray[np.floating], time_s_T: NDArray[np.floating]) -> NDArray[np.float64]:
    """Without what changes more slowly than speech does: the mean around each time taken away."""
    near = np.exp(-0.5 * ((time_s_T[:, None] - time_s_T) / (SLOW_S / 2)) ** 2)
    return values_TC - near @ values_TC / near.sum(1, keepdims=True)


def _correlation(seen: NDArray[np.float64], heard: NDArray[np.float64]) -> float:
    power = np.sqrt((seen**2).sum(0) * (heard**2).sum(0))
    each = (seen * heard).sum(0) / np.maximum(power, 1e-9)
    return float(each @ _WEIGHTS)


_WEIGHTS: Final = np.array([0.8, 0.2])
