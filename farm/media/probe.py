"""What a file holds: refused, or described. Nothing is decoded here but the first picture and the first samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from farm.domain.media import MediaFacts
from farm.media.index import FrameIndex


@dataclass(frozen=True)
class MediaLimits:
    """The most that is taken. Errors name the limit; 0 never means endless."""

    max_bytes: int
    max_duration_s: float
    max_pixels: int


def probe(path: Path, limits: MediaLimits) -> MediaFacts:
    """Facts of the file: container, first video stream, first audio stream.

    Frames and durations come from reading every packet, not from headers; `decode.Scan.facts` and `audio.speech` give
    the ones that decoding confirms. A still picture has container png, jpeg, webp or bmp and one video frame.
    Rejected: media_empty, media_not_recognised, media_playlist_refused, media_truncated, media_damaged,
    media_codec_unsupported, media_too_large, media_too_long, media_too_many_pixels.
    """
    raise NotImplementedError


def frame_index(path: Path) -> FrameIndex:
    """The index of every frame that decodes, by decoding them all (`decode.scan` yields the frames as well)."""
    raise NotImplementedError
