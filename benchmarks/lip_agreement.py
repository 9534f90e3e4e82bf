"""Lip agreement, the right voice against one that is 5 frames off: `python -m benchmarks.lip_agreement`.

Puppets first: held-out identities with held-out voices, as they are rendered (true lips), and as the model that ships
makes them from the voice. Then real clips that are given (--clip VIDEO, with its own sound), where faces are found by
the farm's tracker. Windows of each length are scored with their own voice and with it 5 frames (of 25 a second) early
and late; the figure is the ROC AUC of the former against the latter.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

# Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.report import Table, machine, note, show
from farm.domain.job import FaceSetting
from farm.face import points as layout
from farm.face import speaking
from farm.face.align import FACE
from farm.face.landmarks import see
from farm.face.nets import FaceNets
from farm.face.pictures import TensorPictures
from farm.face.speaker import Sound
from farm.face.track import Tracker
from farm.media import audio, decode, mel
from farm.nets import bundle
from farm.nets.style import style
from trainer.puppets.clip import act
from trainer.puppets.framing import picture_from_crop
from trainer.puppets.render import render
from trainer.puppets.sentences import speak

SHIPPED: Final = Path(bundle.__file__).parent / "shipped" / "pdfgc-puppets-64"
FPS: Final = 25
SHIFT_S: Final = 5 / 25
HOP_S: Final = 0.5
LENGTHS_S: Final = (1.5, 2.4, 4.0)
SIDE: Final = 192


@dataclass(frozen=True)
class Clip:
    """A mouth over time (farm.face.speaking.mouth), when, and the voice that goes with it."""

    mouth_T2: NDArray[np.float32]
    time_s_T: NDArray[np.float64]
    wave: NDArray[np.float32]


def puppets(count: int, nets: FaceNets) -> dict[str, list[Clip]]:
    """Held-out puppets, as rendered and as generated from their own voice, other factors kept."""
    found: dict[str, list[Clip]] = {"puppets, true": [], "puppets, generated": []}
    model = bundle.load(SHIPPED, torch.device("cpu"))
    for number in range(count):
        dice = np.random.default_rng((77, number))
        clip = act(speak(dice, 16, held_out=True), 9_000_000 + number, FPS)
        frames = len(clip.parameters_TP)
        place = picture_from_crop(clip.parameters_TP, np.zeros(frames, np.int32), torch.zeros(frames, 4))
        time_s = np.arange(frames, dtype=np.float64) / FPS
        true = render(clip.parameters_TP, SIDE, 16, place)
        made = generated(model, true, clip.wave, time_s)
        for name, pictures in (("puppets, true", true), ("puppets, generated", made)):
            found[name].append(Clip(mouths((pictures + 1) / 2, nets), time_s, clip.wave))
        note(f"puppet {number + 1} of {count}: {frames} frames")
    return found


@torch.inference_mode()
def generated(
    model: bundle.Bundle, true_T3SS: torch.Tensor, wave: NDArray[np.float32], time_s: NDArray[np.float64]
) -> torch.Tensor:
    """The frames made anew by the model: appearance of the first, pose, eyes and expression of each, lips by voice."""
    size = model.sizes.image
    seen = torch.nn.functional.interpolate(true_T3SS, (size, size), mode="bilinear", antialias=True)
    code_1A, map_1CMM = model.appearance(seen[:1])
    loudness, out = mel.rms(wave), []
    for start in range(0, len(seen), 16):
        part = seen[start : start + 16]
        codes = model.motion(part)
        starts = [mel.window_start(k) for k in _fractions(range(start, start + len(part)))]
        first, last = mel.stretch(starts)
        samples = np.zeros(last - first, np.float32)
        begin, end = max(first, 0), min(last, len(wave))
        samples[begin - first : end - first] = wave[begin:end]
        _, lip = model.audio(torch.from_numpy(mel.windows(samples, first, starts, loudness)))
        made = model.generator(style(code_1A, lip, codes.expression, codes.eye, codes.pose), map_1CMM)
        out.append(made.float().clamp(-1, 1))
    return torch.cat(out)


def _fractions(frames: Sequence[int]) -> list[Fraction]:
    return [Fraction(k, FPS) for k in frames]


def mouths(pictures_T3SS: torch.Tensor, nets: FaceNets) -> NDArray[np.float32]:
    """Of crops (R'G'B' in [0, 1]), as workers.scoring looks at what was rendered."""
    scale = pictures_T3SS.shape[-1] / 224
    squares = np.tile(np.array([*FACE, 0.0]) * [scale, scale, scale, 1], (len(pictures_T3SS), 1))
    points = []
    with torch.inference_mode():
        for start in range(0, len(pictures_T3SS), 16):
            part = pictures_T3SS[start : start + 16]
            points.append(see(nets, TensorPictures(part), range(len(part)), squares[: len(part)], iris=False)[0])
    found = torch.cat(points).numpy()
    return speaking.mouth(layout.kept(found)[..., :2], layout.anchors(found))


def real(path: Path, nets: FaceNets, folder: Path) -> Clip:
    """A filmed clip with its own sound; the face is that of who speaks, where there are several."""
    scan = decode.scan(path)
    tracker = Tracker(nets, scan.picture, FaceSetting())
    for frame in scan:
        tracker.add([frame])
    wav = folder / f"{path.stem}.wav"
    audio.speech(path, wav)
    wave = audio.read(wav, 0, audio.length(wav))
    time_s = scan.index.pts.astype(np.float64) * float(scan.index.time_base)
    track = tracker.finish(lambda: Sound(wav, mel.rms(wave), time_s))
    return Clip(speaking.mouth(track.points, track.anchors)[track.found], time_s[track.found], wave)


def scores(clip: Clip, length_s: float, shift_s: float) -> list[float]:
    """Of every window of the clip in which anybody speaks, the voice shifted by so much."""
    loudness, found = mel.rms(clip.wave), []
    for start_s in np.arange(clip.time_s_T[0], clip.time_s_T[-1] - length_s + 0.05, HOP_S):
        window = (clip.time_s_T >= start_s) & (clip.time_s_T < start_s + length_s)
        time_s = clip.time_s_T[window]
        said = clip.wave[int(start_s * mel.SAMPLE_RATE) : int((start_s + length_s) * mel.SAMPLE_RATE)]
        if len(time_s) < 8 or not speaking.is_speech(said, loudness):
            continue
        heard = speaking.expected(clip.wave, 0, loudness, time_s + shift_s)
        found.append(speaking.agreement(clip.mouth_T2[window], heard, time_s))
    return found


def auc(right: Sequence[float], wrong: Sequence[float]) -> float:
    """The share of pairs in which the right one scores higher; ties count half."""
    a, b = np.asarray(right)[:, None], np.asarray(wrong)
    return float((a > b).mean() + 0.5 * (a == b).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--puppets", type=int, default=8)
    parser.add_argument("--clip", type=Path, action="append", default=[], help="a filmed clip with its own sound")
    asked = parser.parse_args()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    nets = FaceNets("cpu")
    clips = puppets(asked.puppets, nets)
    with tempfile.TemporaryDirectory() as folder:
        if asked.clip:
            clips["real clips"] = [real(path, nets, Path(folder)) for path in asked.clip]
    rows: list[tuple[str | int | float, ...]] = []
    result: dict[str, object] = {}
    for name, several in clips.items():
        for length_s in LENGTHS_S:
            right, wrong = ([s for clip in several for shift in shifts for s in scores(clip, length_s, shift)]
                            for shifts in ((0.0,), (SHIFT_S, -SHIFT_S)))  # fmt: skip
            if right:
                figure = auc(right, wrong)
                means = (float(np.mean(right)), float(np.mean(wrong)))
                rows.append((name, length_s, len(right), *means, figure))
                result[f"{name}, {length_s} s"] = {"auc": round(figure, 4), "windows": len(right)}
    columns = ("clips", "window, s", "windows", "right voice", "5 frames off", "ROC AUC")
    show([Table(f"Lip agreement ({machine()})", columns, rows)], result)


if __name__ == "__main__":
    main()
