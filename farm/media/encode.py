"""Frames to a segment: one closed GOP sequence with exact timestamps, the same bytes for the same frames."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from farm.domain.job import OutputSetting
from farm.media.frame import Frame, PictureFormat


@dataclass(frozen=True)
class VideoTags:
    """What is written beside the samples. Colours by ffmpeg's names (`VideoFacts.color_*`), "unknown" left untagged."""

    sample_aspect: Fraction = Fraction(1)
    color_space: str = "unknown"
    color_primaries: str = "unknown"
    color_transfer: str = "unknown"


class SegmentEncoder:
    """Encodes the frames of one chunk to an mp4 segment that starts with an IDR picture and refers to nothing before.

    time_base: seconds a tick of the frames' pts; frame_rate: for rate control and players' display only.
    Output is 4:2:0 in the picture's depth (players show little else): 4:2:2 and 4:4:4 chroma is averaged down, luma is
    untouched. Odd sizes are padded by one row or column of repeated samples, as 4:2:0 streams cannot crop by one.
    """

    def __init__(
        self,
        path: Path,
        picture: PictureFormat,
        time_base: Fraction,
        frame_rate: Fraction,
        output: OutputSetting,
        tags: VideoTags = VideoTags(),
    ) -> None:
        raise NotImplementedError

    def add(self, frame: Frame) -> None:
        """Encode the next frame; its pts must be greater than the last one's."""
        raise NotImplementedError

    def close(self) -> int:
        """Finish the file; the number of frames in it."""
        raise NotImplementedError

    def abort(self) -> None:
        """Give up: close what is open and remove the file."""
        raise NotImplementedError
