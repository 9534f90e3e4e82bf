"""Filmed faces as footage: a folder of videos, followed, cropped and heard as the farm does, cut into short clips.

Nobody knows their true factors: those of the frames as filmed, read by a reader, stand in for them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from farm.domain.job import FaceSetting
from farm.errors import Rejected
from farm.face import align
from farm.face.nets import FaceNets
from farm.face.planes import to_device
from farm.face.speaker import Sound
from farm.face.track import Tracker
from farm.media import audio, decode, mel
from trainer.corpus import FPS, MEL_PER_FRAME, Clips
from trainer.trial import Footage, Reader

SUFFIXES: Final = (".mp4", ".mov", ".mkv", ".webm", ".avi")
APART: Final = 4
"""Frames of the rest of the video, which show the person."""
MOST: Final = 32
"""Clips in all; the first of each video before the second of any."""


class NothingFilmed(RuntimeError):
    """No video of the folder has a face, and sound, for long enough."""


def filmed(
    folder: Path,
    size: int,
    reader: Reader,
    *,
    frames: int = 50,
    told: Callable[[str], None] = lambda _: None,
) -> Footage:
    """Clips of 25 frames a second of every video in the folder. Raises NothingFilmed, saying why for each video."""
    nets = FaceNets()
    pieces: list[list[_Piece]] = []
    reasons = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        told(path.name)
        try:
            pieces.append(_pieces(path, size, nets, frames))
        except Rejected as error:
            reasons.append(f"{path.name}: {error.detail}")
            continue
        if not pieces[-1]:
            reasons.append(f"{path.name}: no face for {frames / FPS:.1f} s in a row, {APART} frames apart from it")
    longest = max((len(several) for several in pieces), default=0)
    chosen = [several[i] for i in range(longest) for several in pieces if i < len(several)][:MOST]
    if not chosen:
        raise NothingFilmed("; ".join(reasons) or f"{folder} has no videos ({', '.join(SUFFIXES)})")
    pictures = torch.stack([piece.pictures for piece in chosen])
    read = torch.stack([reader.read(part.float() / 127.5 - 1) for part in pictures])
    strips = torch.from_numpy(np.stack([piece.strip for piece in chosen]))
    clips = Clips(pictures, read, strips, frames)
    name = f"videos of {folder.name}: {len(chosen)} clips of {sum(map(bool, pieces))} videos"
    return Footage(name, clips, f"read off the filmed frames by {reader.name}", None, [p.wave for p in chosen], FPS)


class _Piece:
    """pictures (T + APART, 3, S, S) uint8, strip (80, W), wave of the T frames."""

    def __init__(self, pictures: torch.Tensor, strip: NDArray[np.float32], wave: NDArray[np.float32]) -> None:
        self.pictures, self.strip, self.wave = pictures, strip, wave


def _pieces(path: Path, size: int, nets: FaceNets, frames: int) -> list[_Piece]:
    scan = decode.scan(path)
    tracker = Tracker(nets, scan.picture, FaceSetting())
    for frame in scan:
        tracker.add([frame])
    time_s = scan.index.pts.astype(np.float64) * float(scan.index.time_base)
    with tempfile.TemporaryDirectory() as scratch:
        wav = Path(scratch) / "voice.wav"
        audio.speech(path, wav)
        wave = audio.read(wav, 0, audio.length(wav))
        track = tracker.finish(lambda: Sound(wav, mel.rms(wave), time_s))
    places = align.crop_from_frame(track.anchors, track.run, (len(time_s) - 1) / max(1e-3, time_s[-1] - time_s[0]))
    grid = np.arange(0, time_s[-1] - time_s[0] - 1e-9, 1 / FPS)
    at = np.abs(time_s[:, None] - time_s[0] - grid).argmin(0)
    run = track.run[at]
    starts = [
        s for s in range(0, len(at) - frames + 1, frames) if run[s] >= 0 and (run[s : s + frames] == run[s]).all()
    ]
    wanted: list[NDArray[np.int64]] = []
    for start in starts:
        rest = np.flatnonzero((run >= 0) & ((np.arange(len(at)) < start) | (np.arange(len(at)) >= start + frames)))
        if len(rest) >= APART:
            apart = rest[np.linspace(0, len(rest) - 1, APART).astype(int)]
            wanted.append(np.concatenate([np.arange(start, start + frames), apart]))
    needed = sorted({int(at[i]) for several in wanted for i in several})
    crops = _crops(path, needed, places, size) if needed else {}
    loudness, found = mel.rms(wave), []
    for several in wanted:
        first_s = float(grid[several[0]])
        begin = round(first_s * mel.SAMPLE_RATE)
        voice = wave[begin : begin + round(frames / FPS * mel.SAMPLE_RATE)]
        pictures = torch.stack([crops[int(at[i])] for i in several])
        found.append(_Piece(pictures, _strip(wave, int(several[0]), frames, loudness), voice))
    return found


def _crops(path: Path, needed: list[int], places: NDArray[np.float64], size: int) -> dict[int, torch.Tensor]:
    crops: dict[int, torch.Tensor] = {}
    scan = decode.scan(path)
    wanted = set(needed)
    for number, frame in enumerate(scan):
        if number in wanted:
            x = align.crop(to_device([frame], scan.picture, torch.device("cpu")), places[number : number + 1], size)
            crops[number] = ((x[0] + 1) * 127.5).round().clamp(0, 255).byte()
    return crops


def _strip(wave: NDArray[np.float32], first: int, frames: int, loudness: float) -> NDArray[np.float32]:
    """As a corpus keeps it: mel frames from the start of the first frame's window to the end of the last one's."""
    start = mel.window_start(Fraction(first, FPS))
    count = MEL_PER_FRAME * (frames - 1) + mel.WINDOW_FRAMES
    starts = list(range(start, start + count, mel.WINDOW_FRAMES))
    low, high = mel.stretch(starts)
    samples = np.zeros(high - low, np.float32)
    begin, end = max(low, 0), min(high, len(wave))
    samples[begin - low : end - low] = wave[begin:end]
    return np.concatenate(list(mel.windows(samples, low, starts, loudness)[:, 0]), axis=1)[:, :count]
