"""Material for the benchmarks: a puppet that speaks in front of a moving, textured background, under film grain.

Nothing in it is easy for a codec: the background pans, and no two frames have the same grain, so that encoding costs
what it costs for filmed video.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from trainer.puppets.clip import act
from trainer.puppets.render import render
from trainer.puppets.speech import RATE_HZ, say

FPS = 25
ACTOR = 14
SENTENCE = "Welcome to the farm. Every frame of this film is rendered again, and the lips follow the new voice."
GRAIN = 2.5
"""Standard deviation of the grain, 8-bit codes."""


@dataclass(frozen=True)
class Footage:
    """A video with sound and, beside it, the voice that it is to be dubbed with."""

    video: Path
    voice: Path
    frames: int


def footage(folder: Path, frames: int, *, width: int = 1280, height: int = 720, seed: int = ACTOR) -> Footage:
    """Write `frames` frames at 25 a second, H.264, crf 18; the same for the same arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    clip = act(say(SENTENCE, "en-us+m3"), seed, FPS)
    side = height * 2 // 3 // 2 * 2
    # Drawing is the slowest part: puppets are drawn small, and the same ones forward and backward for long videos.
    drawn = _puppets(clip.parameters_TP[:frames], side)
    lap = np.arange(max(1, 2 * len(drawn) - 2))
    order = np.minimum(lap, len(lap) - lap)
    dice = np.random.default_rng(seed)
    wall = _texture(dice, height, 2 * width)
    soft = _soft_disc(side)
    left, top = (width - side) // 2, height - side
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error",
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(FPS), "-i", "pipe:0",
        "-vf", "scale=out_color_matrix=bt709", "-colorspace", "bt709", "-color_primaries", "bt709",
        "-color_trc", "bt709", "-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-pix_fmt", "yuv420p",
        str(folder / "actor.mp4"),
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE) as encoder:
        assert encoder.stdin is not None
        for number in range(frames):
            puppet = drawn[order[number % len(order)]]
            pan = round(width / 2 * (1 - np.cos(number / 60)))
            picture = wall[:, pan : pan + width].copy()
            part = picture[top:, left : left + side]
            part += (puppet - part) * soft
            picture += dice.standard_normal((height, width, 1), np.float32) * GRAIN
            encoder.stdin.write(picture.round().clip(0, 255).astype(np.uint8).tobytes())
    if encoder.returncode:
        raise RuntimeError(f"ffmpeg ended with {encoder.returncode}")
    voice = folder / "voice.wav"
    wave = np.resize(clip.wave, round(frames / FPS * RATE_HZ))
    sound = ["-f", "f32le", "-ar", str(RATE_HZ), "-ac", "1", "-i", "pipe:0", "-sample_fmt", "s16", str(voice)]
    subprocess.run([*command[:4], *sound], input=wave.tobytes(), check=True)
    return Footage(folder / "actor.mp4", voice, frames)


def _puppets(parameters_TP: torch.Tensor, side: int) -> NDArray[np.uint8]:
    """(T, side, side, 3)."""
    out = np.empty((len(parameters_TP), side, side, 3), np.uint8)
    for start in range(0, len(out), 8):
        small = render(parameters_TP[start : start + 8], side // 2)
        large = F.interpolate(small, (side, side), mode="bicubic").permute(0, 2, 3, 1)
        out[start : start + 8] = ((large + 1) * 127.5).clamp(0, 255).byte().numpy()
    return out


def _texture(dice: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """(height, width, 3): noise of every size from 2 to 256 pixels, the larger the stronger, as in nature."""
    out = np.full((height, width, 3), 110, np.float32)
    size = 256
    while size >= 2:
        coarse = dice.standard_normal((-(-height // size), -(-width // size), 3)).astype(np.float32)
        fine = np.repeat(np.repeat(coarse, size, 0), size, 1)[:height, :width]
        out += fine * 3 * np.sqrt(np.log2(size))
        size //= 2
    return out


def _soft_disc(side: int) -> NDArray[np.float32]:
    """(side, side, 1): 1 where the puppet is shown, 0 where the background is; open towards the bottom."""
    x, y = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
    out = (1 - np.hypot(x, np.minimum(y, 0))) / 0.08
    return out.clip(0, 1).astype(np.float32)[:, :, None]
