"""Pictures and sound into ordinary files, through ffmpeg: what puppets play in."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import torch
from numpy.typing import NDArray

from trainer.puppets.speech import RATE_HZ

_COLOUR = ["-vf", "scale=out_color_matrix=bt709"]
_COLOUR += [part for name in ("colorspace", "color_primaries", "color_trc") for part in (f"-{name}", "bt709")]


def pixels(pictures_N3HW: torch.Tensor) -> NDArray[np.uint8]:
    """RGB (N, H, W, 3) of pictures in [-1, 1]."""
    return ((pictures_N3HW.permute(0, 2, 3, 1) + 1) * 127.5).round().clamp(0, 255).byte().numpy()


def video(
    path: Path,
    pictures: Iterable[NDArray[np.uint8]],
    fps: int,
    wave: NDArray[np.float32] | None = None,
    *,
    crf: int = 20,
    preset: str = "medium",
) -> None:
    """An mp4 (H.264, BT.709; AAC where there is a voice) of batches of pictures (N, H, W, 3), which are streamed."""
    batches = iter(pictures)
    first = next(batches)
    height, width = first.shape[1:3]
    with tempfile.TemporaryDirectory(prefix="film-") as folder:
        heard: list[str] = []
        if wave is not None:
            track = Path(folder) / "voice.wav"
            sound(track, wave)
            heard = ["-i", str(track), "-c:a", "aac", "-b:a", "48k"]
        codec = ["-c:v", "libx264", "-preset", preset, "-crf", str(crf), "-pix_fmt", "yuv420p"]
        end = ["-movflags", "+faststart", "-fflags", "+bitexact", "-f", "mp4", str(path)]
        command = _command([*_raw(width, height, fps), *heard, *_COLOUR, *codec, *end])
        with subprocess.Popen(command, stdin=subprocess.PIPE) as encoder:
            assert encoder.stdin is not None
            encoder.stdin.write(first.tobytes())
            for batch in batches:
                encoder.stdin.write(batch.tobytes())
            encoder.stdin.close()
        if encoder.returncode:
            raise RuntimeError(f"ffmpeg could not write {path}")


def sound(path: Path, wave: NDArray[np.float32]) -> None:
    """A voice of 16 kHz, in the format that the name's ending asks for (wav, flac)."""
    source = ["-f", "f32le", "-ar", str(RATE_HZ), "-ac", "1", "-i", "pipe:0", "-sample_fmt", "s16"]
    subprocess.run(_command([*source, str(path)]), input=wave.tobytes(), check=True)


def picture(path: Path, picture_HW3: NDArray[np.uint8]) -> None:
    height, width = picture_HW3.shape[:2]
    subprocess.run(_command([*_raw(width, height, 1), str(path)]), input=picture_HW3.tobytes(), check=True)


def _raw(width: int, height: int, fps: int) -> list[str]:
    return ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "pipe:0"]


def _command(arguments: list[str]) -> list[str]:
    return [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *arguments]
