"""Make the demo's material, puppets and synthesised voices, ours to ship: `python -m … .demo_material DIR`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import torch
from numpy.typing import NDArray

from trainer.puppets.clip import act
from trainer.puppets.parameters import COLUMN
from trainer.puppets.render import render
from trainer.puppets.speech import RATE_HZ, say

HEIGHT, WIDTH, FPS = 360, 640, 25
ACTOR, PORTRAIT = 14, 7
ENGLISH = "Welcome to the farm. Every frame of this film is rendered again, and the lips follow the new voice."
SPANISH = "Bienvenidos a la granja. Cada imagen de esta película se hace de nuevo, y los labios siguen a la voz."
GREETING = "Hello. I was one picture, and now I speak."


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    clip = act(say(ENGLISH, "en-us+m3"), ACTOR, FPS)
    _video(folder / "actor.mp4", _wide(render(clip.parameters_TP, HEIGHT)), clip.wave)
    for name, text, voice in (("voice_es.flac", SPANISH, "es+m7"), ("voice_en.flac", GREETING, "en-us+f2")):
        _sound(folder / name, say(text, voice).wave)
    still = act(say(GREETING, "en-us+f2"), PORTRAIT, FPS).parameters_TP[:1].clone()
    still[:, [COLUMN[name] for name in ("blink", "yaw", "gaze_x", "furrow", "jaw")]] = 0
    still[:, COLUMN["mouth_corner"]] = 0.4
    _run([*_raw_video(2 * HEIGHT, 2 * HEIGHT), str(folder / "portrait.png")], _bytes(render(still, 2 * HEIGHT)))
    _video(folder / "no_face.mp4", _dawn(2 * FPS), None)


def _bytes(pictures_N3HW: torch.Tensor) -> NDArray[np.uint8]:
    return ((pictures_N3HW.permute(0, 2, 3, 1) + 1) * 127.5).round().clamp(0, 255).byte().numpy()


def _wide(pictures_N3SS: torch.Tensor) -> NDArray[np.uint8]:
    """A wide picture: the background of a puppet is the same along a row, so its edge column goes on."""
    side = (WIDTH - HEIGHT) // 2
    return np.pad(_bytes(pictures_N3SS), ((0, 0), (0, 0), (side, side), (0, 0)), "edge")


def _dawn(frames: int) -> NDArray[np.uint8]:
    """A landscape without anybody in it: a sun that rises behind hills."""
    x, y = np.meshgrid(np.linspace(-1, 1, WIDTH), np.linspace(-1, 1, HEIGHT))
    hills = y > 0.35 + 0.15 * np.sin(5 * x) * np.cos(2 * x + 1)
    pictures = []
    for i in range(frames):
        sun = (x - 0.3) ** 2 * 3 + (y - 0.5 + i / frames) ** 2 < 0.05
        sky = np.stack([140 + 60 * y, 160 + 10 * y, 210 - 60 * y], -1)
        sky[sun] = (255, 220, 120)
        sky[hills] = (60, 110, 60)
        pictures.append(sky.clip(0, 255).astype(np.uint8))
    return np.stack(pictures)


def _raw_video(width: int, height: int) -> list[str]:
    return ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(FPS), "-i", "pipe:0"]


def _video(path: Path, pictures_THW3: NDArray[np.uint8], wave: NDArray[np.float32] | None) -> None:
    height, width = pictures_THW3.shape[1:3]
    sound: list[str] = []
    track = path.with_suffix(".wav.tmp")
    if wave is not None:
        _sound(track, wave, ["-f", "wav"])
        sound = ["-i", str(track)]
    codec = [
        "-c:v",
        "libx264",
        "-preset",
        "veryslow",
        "-crf",
        "23",
        "-pix_fmt",
        "yuv420p",
        "-c:a",
        "aac",
        "-b:a",
        "48k",
    ]
    colour = [
        "-vf",
        "scale=out_color_matrix=bt709",
        "-colorspace",
        "bt709",
        "-color_primaries",
        "bt709",
        "-color_trc",
        "bt709",
    ]
    _run([*_raw_video(width, height), *sound, *colour, *codec, "-movflags", "+faststart", str(path)], pictures_THW3)
    track.unlink(missing_ok=True)


def _sound(path: Path, wave: NDArray[np.float32], format_: list[str] | None = None) -> None:
    _run(
        [
            "-f",
            "f32le",
            "-ar",
            str(RATE_HZ),
            "-ac",
            "1",
            "-i",
            "pipe:0",
            "-sample_fmt",
            "s16",
            *(format_ or []),
            str(path),
        ],
        wave,
    )


def _run(arguments: list[str], data: NDArray[np.uint8] | NDArray[np.float32]) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *arguments]
    subprocess.run(command, input=data.tobytes(), check=True)


if __name__ == "__main__":
    main()
