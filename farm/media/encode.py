"""Frames to a segment: one closed GOP sequence with exact timestamps, the same bytes for the same frames."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from farm.domain.job import OutputSetting
from farm.domain.media import Light, VideoFacts
from farm.media import colors, hardware, light, pixels
from farm.media.frame import Frame, PictureFormat

THREADS: Final = 4
"""Where a plan says nothing else: the bytes depend on their number, so that it cannot be the rendering machine's."""
KEY_EVERY_S: Final = 4
REORDERED: Final = 8  # frames that decoding may run ahead of showing; the encoders below stay under it
MAX_TIMESCALE: Final = 2**31 - 1
FALLBACK_TIMESCALE: Final = 90_000


@dataclass(frozen=True)
class VideoTags:
    """What is written beside the samples. Colours by ffmpeg's names (`VideoFacts.color_*`), "unknown" left untagged.

    interlaced, bottom_first: coded and marked as such where the codec can (H.264 whose height is a multiple of 4); the
    other codecs carry woven frames unmarked.
    """

    sample_aspect: Fraction = Fraction(1)
    color_space: str = "unknown"
    color_primaries: str = "unknown"
    color_transfer: str = "unknown"
    interlaced: bool = False
    bottom_first: bool = False
    light: Light | None = None

    @staticmethod
    def of(facts: VideoFacts) -> VideoTags:
        """The source's own."""
        return VideoTags(
            facts.sample_aspect,
            facts.color_space,
            facts.color_primaries,
            facts.color_transfer,
            facts.interlaced,
            facts.bottom_first,
            facts.light,
        )


UNTAGGED: Final = VideoTags()


@dataclass(frozen=True)
class Clock:
    """The clock of an mp4 video track. mp4 counts in whole 1/timescale seconds, where ours may count in thirds of one.

    Exact, but for time bases with more than 31 bits below the line (averages of long videos of changing rate): those
    are rounded to 1/90000 s.
    """

    time_base: Fraction

    @property
    def timescale(self) -> int:
        return self.time_base.denominator if self.time_base.denominator <= MAX_TIMESCALE else FALLBACK_TIMESCALE

    @property
    def tick_s(self) -> Fraction:
        return Fraction(1, self.timescale)

    def ticks(self, pts: int) -> int:
        return round(pts * self.time_base * self.timescale)


class SegmentEncoder:
    """Encodes the frames of one chunk to an mp4 segment that starts with an IDR picture and refers to nothing before.

    time_base: seconds a tick of the frames' pts; frame_rate: for rate control and players' display only. The segment's
    own clock starts at its first frame. encoder: one of `farm.media.hardware`, the processor's where None; threads: of
    one on the processor, whose bytes depend on it. on_packet: is given what the encoder makes, in its order.
    Output is 4:2:0 in the picture's depth (players show little else): 4:2:2 and 4:4:4 chroma is averaged down, luma is
    untouched. Odd sizes are padded by one row or column of repeated samples, as 4:2:0 streams cannot crop by one: the
    file is then one pixel wider or taller than the source. Range, colours and sample aspect are the source's.
    """

    def __init__(
        self,
        path: Path,
        picture: PictureFormat,
        time_base: Fraction,
        frame_rate: Fraction,
        output: OutputSetting,
        tags: VideoTags = UNTAGGED,
        encoder: str | None = None,
        threads: int = THREADS,
        on_packet: Callable[[Packet], None] | None = None,
    ) -> None:
        self._path = path
        self._on_packet = on_packet
        self._picture = picture
        self._clock = Clock(time_base)
        self._encoder = encoder or hardware.SOFTWARE[output.video_codec]
        self._threads = threads
        self._format = "yuv420p" if picture.bit_depth == 8 else "yuv420p10le"
        self._width, self._height = even(picture.width), even(picture.height)
        self._first: int | None = None
        self._shown: list[int] = []
        self._packets = 0
        options = {"video_track_timescale": str(self._clock.timescale), "fflags": "+bitexact"}
        self._container: OutputContainer = av.open(str(path), "w", format="mp4", container_options=options)
        steady = (1 / frame_rate / time_base).denominator == 1
        self._stream = self._add_stream(frame_rate, steady, output, tags)

    def add(self, frame: Frame) -> None:
        """Encode the next frame; its pts must be greater than the last one's."""
        at = self._clock.ticks(frame.pts)
        if self._first is None:
            self._first = at
        at -= self._first
        if self._shown and at <= self._shown[-1]:
            raise ValueError(f"frame {frame.index} is not later than the one before")
        self._shown.append(at)
        picture = self._filled(frame)
        picture.pts, picture.time_base = at, self._clock.tick_s
        self._mux(picture)

    def close(self) -> int:
        """Finish the file; the number of frames in it. A segment without frames is an error."""
        if self._first is None:
            self.abort()
            raise ValueError("a segment needs at least one frame")
        self._mux(None)
        self._container.close()
        return self._packets

    def abort(self) -> None:
        """Give up: close what is open and remove the file."""
        try:
            self._container.close()
        finally:
            self._path.unlink(missing_ok=True)

    def _mux(self, picture: VideoFrame | None) -> None:
        for packet in self._stream.encode(picture):
            # x265 leaves dts unset in clips shorter than its look-ahead. Any increasing dts not later than pts will do
            # here, as the finished file gets its own.
            earlier = self._packets - REORDERED
            packet.dts = self._shown[earlier] if earlier >= 0 else earlier
            self._packets += 1
            self._container.mux(packet)
            if self._on_packet is not None:
                self._on_packet(packet)

    @property
    def header(self) -> bytes | None:
        """What a decoder needs beside the packets; known with the first of them."""
        return self._stream.codec_context.extradata

    def _add_stream(self, frame_rate: Fraction, steady: bool, output: OutputSetting, tags: VideoTags) -> VideoStream:
        key_every = max(1, round(frame_rate * KEY_EVERY_S))
        options, tag = settings(self._encoder, output, key_every, steady, tags, self._height, self._threads)
        # Encoders keep the rate in 32 bits; it only steers them.
        stream: Any = self._container.add_stream(
            self._encoder, rate=frame_rate.limit_denominator(1001), options=options
        )
        context = stream.codec_context
        context.width, context.height = self._width, self._height
        context.pix_fmt = hardware.pixel_format(self._encoder, self._picture.bit_depth)
        context.time_base = self._clock.tick_s
        context.gop_size = key_every
        if tag:
            context.codec_tag = tag
        context.sample_aspect_ratio = tags.sample_aspect.limit_denominator(65535)
        context.color_range = pixels.JPEG if self._picture.full_range else pixels.MPEG
        space = colors.SPACES.get(tags.color_space, 2)
        if space != 2 and space not in colors.spaces_of(self._picture.matrix):
            space = colors.MATRIX_SPACES[self._picture.matrix]  # the source was RGB; its planes are not
        context.colorspace = space
        context.color_primaries = colors.PRIMARIES.get(tags.color_primaries, 2)
        context.color_trc = colors.TRANSFERS.get(tags.color_transfer, 2)
        return stream

    def _filled(self, frame: Frame) -> VideoFrame:
        picture = VideoFrame(self._width, self._height, self._format)
        chroma = (self._height // 2, self._width // 2)
        shapes = ((self._height, self._width), chroma, chroma)
        x, y = self._picture.chroma_x, self._picture.chroma_y
        planes = (frame.y, halved(frame.u, not x, not y), halved(frame.v, not x, not y))
        for plane, samples, shape in zip(picture.planes, planes, shapes, strict=True):
            dest = pixels.view(plane, *shape, self._picture.bit_depth)
            height, width = samples.shape
            dest[:height, :width] = samples
            dest[:height, width:] = samples[:, -1:]
            dest[height:] = dest[height - 1]
        return picture


def even(side: int) -> int:
    """The side of the encoded picture: odd ones gain a row or column."""
    return side + side % 2


def halved(plane: NDArray[Any], across: bool, down: bool) -> NDArray[Any]:
    """Chroma averaged down, rounding to nearest: across by (1 2 1)/4 on even columns (left siting), down by pairs."""
    kind = plane.dtype
    if across:
        wide = np.pad(plane.astype(np.uint32), ((0, 0), (1, 1)), mode="edge")
        plane = ((wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:] + 2) >> 2)[:, ::2].astype(kind)
    if down:
        tall = np.pad(plane.astype(np.uint32), ((0, plane.shape[0] % 2), (0, 0)), mode="edge")
        plane = ((tall[::2] + tall[1::2] + 1) >> 1).astype(kind)
    return plane


def settings(
    encoder: str,
    output: OutputSetting,
    key_every: int,
    steady: bool,
    tags: VideoTags = UNTAGGED,
    height: int = 0,
    threads: int = THREADS,
) -> tuple[dict[str, str], str | None]:
    """An encoder's options, and the mp4 sample entry where players insist on one."""
    crf = str(output.crf)
    tag = "hvc1" if output.video_codec == "hevc" else None
    if encoder == "libx264":
        x264 = f"threads={threads}:open-gop=0" + (":force-cfr=1" if steady else "")
        if tags.interlaced and height % 4 == 0:
            x264 += ":bff=1" if tags.bottom_first else ":tff=1"
        x264 += light.x26x(tags.light, "mastering-display", "cll")
        return {"crf": crf, "preset": "fast", "x264-params": x264}, tag
    if encoder == "libx265":
        x265 = f"log-level=none:info=0:open-gop=0:frame-threads=2:pools={threads}:keyint={key_every}"
        x265 += light.x26x(tags.light, "master-display", "max-cll")
        return {"crf": crf, "preset": "faster", "x265-params": x265}, tag
    if encoder == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # errors only: the library writes to stderr by itself
        svt = f"lp={threads}:irefresh-type=2{light.svt(tags.light)}"
        return {"crf": crf, "preset": "8", "svtav1-params": svt}, tag
    return hardware.options(encoder, output.crf), tag
