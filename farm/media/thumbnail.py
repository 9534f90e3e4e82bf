"""A frame as a small JPEG."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final

from av.codec import CodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation

from farm.media import colors, pixels
from farm.media.frame import Frame, PictureFormat

BT601: Final = 5
QUALITY: Final = 4  # of 2 (best) to 31


def jpeg(frame: Frame, picture: PictureFormat, max_side: int) -> bytes:
    """The frame as JPEG (BT.601, full range, 4:4:4), its longer side at most `max_side` pixels."""
    scale = min(Fraction(1), Fraction(max_side, max(picture.width, picture.height)))
    width, height = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    small = _filled(frame, picture).reformat(
        width=width,
        height=height,
        format="yuvj444p",
        src_colorspace=colors.MATRIX_SPACES[picture.matrix],
        dst_colorspace=BT601,
        src_color_range=pixels.JPEG if picture.full_range else pixels.MPEG,
        dst_color_range=pixels.JPEG,
        interpolation=int(Interpolation.AREA | Interpolation.ACCURATE_RND),
        threads=1,
    )
    small.pts = 0
    context: Any = CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = width, height, "yuvj444p"
    context.color_range = pixels.JPEG
    context.time_base = Fraction(1, 25)
    context.thread_count = 1
    context.options = {"qmin": str(QUALITY), "qmax": str(QUALITY)}
    return b"".join(bytes(packet) for packet in (*context.encode(small), *context.encode(None)))


def _filled(frame: Frame, picture: PictureFormat) -> VideoFrame:
    name = pixels.NAMES[picture.chroma_x, picture.chroma_y] + ("" if picture.bit_depth == 8 else "10le")
    whole = VideoFrame(picture.width, picture.height, name)
    for plane, samples in zip(whole.planes, (frame.y, frame.u, frame.v), strict=True):
        height, width = samples.shape
        pixels.view(plane, height, width, picture.bit_depth)[:] = samples
    return whole
