"""Segments and the voice to the finished file: packets untouched, timestamps from the plan, audio encoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from farm.domain.job import OutputSetting


class OutputCheckFailed(Exception):
    """The file that was made is not the file that was planned; workers report it as output_check_failed."""


@dataclass(frozen=True)
class OutputFacts:
    """What the finished file holds, read back from it."""

    frames: int
    duration_s: Fraction
    width: int
    height: int
    video_codec: str
    audio_rate_hz: int
    audio_channels: int
    size_bytes: int


def assemble(
    segments: Sequence[Path],
    pts: Sequence[int],
    end_pts: int,
    time_base: Fraction,
    voice: Path,
    dest: Path,
    output: OutputSetting,
    progress: Callable[[int, int], None] | None = None,
) -> OutputFacts:
    """Write `dest` (mp4, index first) from segments in order and the voice from 0, cut or padded to `end_pts`.

    The segments' packets are copied bit by bit; frame k is shown at pts[k]. Then the whole file is read back and
    decoded: frame count, every pts, the ends of both tracks. progress(frames decoded, frames) may raise to stop.
    Raises OutputCheckFailed. Rejected: those of `audio.speech`.
    """
    raise NotImplementedError
