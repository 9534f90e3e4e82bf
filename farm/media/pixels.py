"""Decoded pictures to planes: line padding stripped, other pixel formats converted knowingly, the rotation applied.

8- and 10-bit planar 4:2:0, 4:2:2 and 4:4:4 keep every sample. The rest goes through swscale to the nearest of them,
with matrix and range kept: NV12 and the like without loss, 12 bits and more to 10, 4:1:1 to 4:2:2, RGB to 4:4:4. Alpha
is left out (colours as stored); grey gets neutral chroma. Interlaced pictures stay woven.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from farm.errors import Rejected
from farm.media import colors
from farm.media.frame import PictureFormat, Plane
from farm.media.turn import Turn

MPEG: Final = 1
JPEG: Final = 2
SWSCALE: Final = int(
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP | Interpolation.BITEXACT
)
NAMES: Final = {(1, 1): "yuv420p", (1, 0): "yuv422p", (0, 0): "yuv444p"}
ALIKE: Final = {  # the same samples under another name: with a range of its own, or with alpha behind
    "yuvj420p": "yuv420p", "yuvj422p": "yuv422p", "yuvj444p": "yuv444p",
    "yuva420p": "yuv420p", "yuva422p": "yuv422p", "yuva444p": "yuv444p",
    "yuva420p10le": "yuv420p10le", "yuva422p10le": "yuv422p10le", "yuva444p10le": "yuv444p10le",
}  # fmt: skip
GREY: Final = {"gray": 8, "gray10le": 10}


@dataclass(frozen=True)
class Reading:
    """How the pictures of one stream are read, fixed by the first one; later ones of another size are scaled to it."""

    picture: PictureFormat
    turn: Turn
    width: int
    height: int
    format: str
    """Pixel format after conversion: planar YUV, or gray."""
    source_format: str
    space: int
    """H.273 matrix code of the planes as read."""

    def planes(self, frame: VideoFrame) -> tuple[Plane, Plane, Plane]:
        """The y, u and v planes as shown; copies."""
        y, u, v = self._decoded(frame)
        return self.turn(y), self.turn(u), self.turn(v)

    def check(self, frame: VideoFrame) -> int:
        """CRC-32 over every fourth row of the luma: enough to tell frames apart and wrong decodes from right ones."""
        plane = frame.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height : 4]
        bits = frame.format.components[0].bits if len(frame.format.components) else 8
        width = frame.width * (2 if bits > 8 else 1)
        return zlib.crc32(rows[:, : min(width, plane.line_size)].tobytes())

    def _decoded(self, frame: VideoFrame) -> tuple[Plane, Plane, Plane]:
        name = ALIKE.get(frame.format.name, frame.format.name)
        if (name, frame.width, frame.height) != (self.format, self.width, self.height):
            frame = self._converted(frame)
        depth = self.picture.bit_depth
        y = view(frame.planes[0], self.height, self.width, depth).copy()
        if self.format in GREY:
            shape = (-(-self.height // 2), -(-self.width // 2))
            neutral = np.full(shape, 1 << depth - 1, y.dtype)
            return y, neutral, neutral
        x, down = _subsampling(VideoFormat(self.format))
        shape = (-(-self.height // (1 << down)), -(-self.width // (1 << x)))
        return y, view(frame.planes[1], *shape, depth).copy(), view(frame.planes[2], *shape, depth).copy()

    def _converted(self, frame: VideoFrame) -> VideoFrame:
        is_rgb = frame.format.is_rgb or frame.format.has_palette
        range_to = JPEG if self.picture.full_range else MPEG
        range_from = JPEG if is_rgb else range_to
        return frame.reformat(
            width=self.width,
            height=self.height,
            format=self.format,
            src_colorspace=self.space,
            dst_colorspace=self.space,
            src_color_range=range_from,
            dst_color_range=range_to,
            interpolation=SWSCALE,
            threads=1,
        )


def reading(frame: VideoFrame, how: Turn, *, still: bool) -> Reading:
    """How to read a stream, by its first decoded picture, turned by `how`.

    `still`: a picture file, where RGB becomes full-range BT.601 and grey has full range, as in JPEG files.

    Rejected: media_codec_unsupported for pictures stored from the bottom up (some AVI files).
    """
    source = frame.format
    if any(plane.line_size < 0 for plane in frame.planes):
        raise Rejected("media_codec_unsupported", "its pictures are stored from the bottom up")
    bits = max((part.bits for part in source.components if not part.is_alpha), default=8)
    depth = 8 if bits <= 8 or source.has_palette else 10
    is_rgb = source.is_rgb or source.has_palette
    grey = len([part for part in source.components if not part.is_alpha]) == 1 and not is_rgb
    space = int(frame.colorspace)
    matrix = "bt601" if is_rgb and still else colors.matrix(space, frame.width, frame.height)
    if space not in colors.spaces_of(matrix):
        space = colors.MATRIX_SPACES[matrix]
    told = int(frame.color_range) == JPEG or source.name.startswith("yuvj")
    full = still if is_rgb or (grey and still) else told
    if grey:
        name, x, y = ("gray" if depth == 8 else "gray10le"), 1, 1
    else:
        x, y = (0, 0) if is_rgb else _nearest(*_subsampling(source))
        if _breaks_chroma(how, x, y, frame.width, frame.height):
            x, y = 0, 0
        name = NAMES[x, y] + ("" if depth == 8 else "10le")
    width, height = (frame.height, frame.width) if how.transpose else (frame.width, frame.height)
    picture = PictureFormat(width, height, depth, x, y, matrix, full)
    return Reading(picture, how, frame.width, frame.height, name, source.name, space)


def _subsampling(form: VideoFormat) -> tuple[int, int]:
    return (64 // form.chroma_width(64)).bit_length() - 1, (64 // form.chroma_height(64)).bit_length() - 1


def _nearest(x: int, y: int) -> tuple[int, int]:
    """4:1:1 to 4:2:2, 4:1:0 to 4:2:0, 4:4:0 to 4:4:4: never less chroma in a direction than two steps below."""
    if y == 0:
        return min(x, 1), 0
    return (1, 1) if x else (0, 0)


def _breaks_chroma(how: Turn, x: int, y: int, width: int, height: int) -> bool:
    """Whether turned chroma would not fit the turned luma: 4:2:2 on its side, or pairs that start at an odd border."""
    lopsided = how.transpose and x != y
    flips_width = how.flip_y if how.transpose else how.flip_x
    flips_height = how.flip_x if how.transpose else how.flip_y
    return lopsided or bool(x and flips_width and width % 2) or bool(y and flips_height and height % 2)


def view(plane: VideoPlane, height: int, width: int, depth: int) -> NDArray[Any]:
    """The samples of a plane without its line padding, sharing its memory."""
    kind = np.uint8 if depth == 8 else np.uint16
    rows = np.frombuffer(memoryview(plane), kind)
    return rows.reshape(-1, plane.line_size // rows.itemsize)[:height, :width]
