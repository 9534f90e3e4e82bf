"""Facts of a media file, probed once and kept with the job."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Light:
    """What HDR video says of the light it was made for; () and 0 where it says nothing.

    primaries: x and y of red, green, blue, and `white`, of the display it was mastered on (CIE 1931). luminance: least
    and most of that display, cd/m2. max_content, max_average: of the brightest pixel and frame, cd/m2.
    """

    primaries: tuple[Fraction, ...] = ()
    white: tuple[Fraction, ...] = ()
    luminance: tuple[Fraction, ...] = ()
    max_content: int = 0
    max_average: int = 0


@dataclass(frozen=True)
class VideoFacts:
    """One video stream, as frames are shown: width and height are after `rotation`.

    frame_rate: average frames a second, exact. time_base: seconds a pts tick. rotation: clockwise degrees (0, 90,
    180, 270) that turn a decoded picture into the shown one, before left and right are swapped where `mirrored`.
    sample_aspect: width/height of a shown pixel. interlaced: the source says so; its frames are kept woven.
    bottom_first: its lower lines are the earlier ones.
    """

    codec: str
    width: int
    height: int
    rotation: int
    sample_aspect: Fraction
    frame_rate: Fraction
    time_base: Fraction
    frames: int
    duration_s: Fraction
    is_vfr: bool
    pixel_format: str
    bit_depth: int
    full_range: bool
    color_space: str
    color_primaries: str
    color_transfer: str
    mirrored: bool = False
    interlaced: bool = False
    bottom_first: bool = False
    light: Light | None = None


@dataclass(frozen=True)
class AudioFacts:
    """One audio stream. duration_s is what the samples add up to, not what the header says."""

    codec: str
    sample_rate_hz: int
    channels: int
    layout: str
    duration_s: Fraction


@dataclass(frozen=True)
class MediaFacts:
    """What a file is: a `container` name, its first video stream and its first audio stream, either may be absent."""

    container: str
    size_bytes: int
    video: VideoFacts | None = None
    audio: AudioFacts | None = None
