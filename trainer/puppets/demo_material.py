"""Make the demo's material, puppets and synthesised voices, ours to ship: `python -m … .demo_material DIR`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.puppets import film
from trainer.puppets.clip import act
from trainer.puppets.parameters import COLUMN
from trainer.puppets.render import render
from trainer.puppets.speech import say

HEIGHT, WIDTH, FPS = 360, 640, 25
ACTOR, PORTRAIT = 14, 7
ENGLISH = "Welcome to the farm. Every frame of this film is rendered again, and the lips follow the new voice."
SPANISH = "Bienvenidos a la granja. Cada imagen de esta película se hace de nuevo, y los labios siguen a la voz."
GREETING = "Hello. I was one picture, and now I speak."


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    clip = act(say(ENGLISH, "en-us+m3"), ACTOR, FPS)
    actor = _wide(render(clip.parameters_TP, HEIGHT))
    film.video(folder / "actor.mp4", [actor], FPS, clip.wave, crf=23, preset="veryslow")
    for name, text, voice in (("voice_es.flac", SPANISH, "es+m7"), ("voice_en.flac", GREETING, "en-us+f2")):
        film.sound(folder / name, say(text, voice).wave)
    still = act(say(GREETING, "en-us+f2"), PORTRAIT, FPS).parameters_TP[:1].clone()
    still[:, [COLUMN[name] for name in ("blink", "yaw", "gaze_x", "furrow", "jaw")]] = 0
    still[:, COLUMN["mouth_corner"]] = 0.4
    film.picture(folder / "portrait.png", film.pixels(render(still, 2 * HEIGHT))[0])
    film.video(folder / "no_face.mp4", [_dawn(2 * FPS)], FPS, crf=23, preset="veryslow")


def _wide(pictures_N3SS: torch.Tensor) -> NDArray[np.uint8]:
    """A wide picture: the background of a puppet is the same along a row, so its edge column goes on."""
    side = (WIDTH - HEIGHT) // 2
    return np.pad(film.pixels(pictures_N3SS), ((0, 0), (0, 0), (side, side), (0, 0)), "edge")


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


if __name__ == "__main__":
    main()
