"""The facts of a video stream, from its first picture and its index."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from farm.domain.media import VideoFacts
from farm.media import colors, light
from farm.media.index import FrameIndex
from farm.media.pixels import Reading

BOTTOM_FIRST: Final = (3, 5)  # AV_FIELD_BB, AV_FIELD_BT


def video_facts(stream: VideoStream, frame: VideoFrame, reading: Reading, index: FrameIndex) -> VideoFacts:
    """Facts as `farm.domain.media` defines them; bit_depth and pixel_format are those of the source."""
    source = VideoFormat(reading.source_format)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    return VideoFacts(
        codec=stream.codec_context.codec.canonical_name,
        width=reading.picture.width,
        height=reading.picture.height,
        rotation=reading.turn.rotation,
        sample_aspect=1 / aspect if reading.turn.transpose else aspect,
        frame_rate=index.frame_rate,
        time_base=index.time_base,
        frames=len(index),
        duration_s=index.duration_s,
        is_vfr=index.is_vfr,
        pixel_format=reading.source_format,
        bit_depth=max((part.bits for part in source.components), default=8),
        full_range=reading.picture.full_range,
        color_space=colors.name(colors.SPACES, int(frame.colorspace)),
        color_primaries=colors.name(colors.PRIMARIES, int(frame.color_primaries)),
        color_transfer=colors.name(colors.TRANSFERS, int(frame.color_trc)),
        mirrored=reading.turn.mirrored,
        interlaced=bool(frame.interlaced_frame),
        bottom_first=bool(frame.interlaced_frame) and int(stream.codec_context.field_order) in BOTTOM_FIRST,
        light=light.of_frame(frame, stream.codec_context.codec.canonical_name),
    )
