"""A puppet clip: one identity speaking one text, with head, eyes and face moving as in life."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.puppets.parameters import COLUMN, columns, identity
from trainer.puppets.speech import RATE_HZ, SHAPE_HZ, Speech, mouth_shapes

LEAD_S: Final = 0.2
"""Rest before the speech."""


@dataclass(frozen=True)
class Clip:
    """parameters (T, P): the true factors of every frame. wave: 16 kHz, exactly T / fps long."""

    parameters_TP: torch.Tensor
    wave: NDArray[np.float32]
    fps: float


def act(speech: Speech, seed: int, fps: float = 25.0, lead_s: float = LEAD_S) -> Clip:
    """Let puppet `seed` speak: lips from the phonemes, nods with loudness, blinks with head turns, slow moods.

    The speech starts after `lead_s` of rest and is followed by as much, cut to whole frames.
    """
    dice = np.random.default_rng(seed)
    rest = np.zeros(int(lead_s * RATE_HZ), np.float32)
    wave = np.concatenate([rest, speech.wave, rest])
    frames = int(len(wave) / RATE_HZ * fps)
    wave = wave[: round(frames / fps * RATE_HZ)]
    times_s = np.arange(frames) / fps
    rows = identity(seed).repeat(frames, 1)
    mouth = mouth_shapes(speech)
    at = (times_s - lead_s) * SHAPE_HZ
    for i, name in enumerate(("jaw", "lip_width", "pucker")):
        rows[:, COLUMN[name]] = torch.from_numpy(
            np.interp(at, np.arange(len(mouth)), mouth[:, i], mouth[0, i], mouth[-1, i])
        ).float()
    turns = _wander(dice, times_s, len(columns("pose")), period_s=2.2)
    rows[:, columns("pose")] = torch.from_numpy(turns * [0.35, 0.22, 0.25, 0.25, 0.2, 0.15]).float()
    rows[:, COLUMN["pitch"]] += 0.12 * torch.from_numpy(_loudness(wave, times_s)).float()
    rows[:, columns("gaze")] = torch.from_numpy(_glances(dice, times_s) * [0.5, 0.3]).float()
    rows[:, COLUMN["blink"]] = torch.from_numpy(_blinks(dice, times_s)).float()
    moods = _wander(dice, times_s, len(columns("expression")), period_s=4.0)
    rows[:, columns("expression")] = torch.from_numpy(moods * [0.4, 0.3, 0.35, 0.25]).float()
    return Clip(rows, wave, fps)


def _wander(dice: np.random.Generator, times_s: NDArray, curves: int, period_s: float) -> NDArray:
    """Smooth random curves (T, curves) of about unit size: a few sines of random phase around one period."""
    rate = dice.uniform(0.6, 1.7, (3, curves)) / period_s
    phase = dice.uniform(0, 2 * np.pi, (3, curves))
    return np.sin(2 * np.pi * times_s[:, None, None] * rate + phase).sum(1) / np.sqrt(3)


def _loudness(wave: NDArray[np.float32], times_s: NDArray) -> NDArray:
    """Root mean square of the voice over 120 ms around each time, as a share of its loudest."""
    half = int(0.06 * RATE_HZ)
    power = np.convolve(wave**2, np.ones(2 * half) / (2 * half), "same")
    at = np.minimum((times_s * RATE_HZ).astype(int), len(power) - 1)
    level = np.sqrt(np.maximum(power, 0))
    return level[at] / max(float(level.max()), 1e-6)


def _glances(dice: np.random.Generator, times_s: NDArray) -> NDArray:
    """Gaze (T, 2) that rests and jumps, as eyes do."""
    gaze = np.zeros((len(times_s), 2))
    at, aim = 0.0, np.zeros(2)
    while at < times_s[-1]:
        gaze[times_s >= at] = aim
        at, aim = at + dice.uniform(0.4, 1.6), dice.uniform(-1, 1, 2)
    return gaze


def _blinks(dice: np.random.Generator, times_s: NDArray) -> NDArray:
    """Blink curve (T,): a lid closes and opens within a quarter of a second, every few seconds."""
    blink = np.zeros(len(times_s))
    at = dice.uniform(0.5, 2.0)
    while at < times_s[-1]:
        blink = np.maximum(blink, np.exp(-(((times_s - at) / 0.07) ** 2)))
        at += dice.uniform(1.5, 4.0)
    return blink
