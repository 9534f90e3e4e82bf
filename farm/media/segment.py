"""Whether a segment holds the pictures that were handed to its encoder.

Its packets are decoded as they are made, beside the encoder, and their bytes remembered; the finished file is then read
back, and need be decoded again only where its packets are not those, byte for byte.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from numpy.typing import NDArray

from farm.media.encode import Clock, even
from farm.media.frame import Frame, PictureFormat
from farm.media.glance import Glance, differs, glance, stands_still
from farm.media.mux import OutputCheckFailed, opened

DECODERS: Final = {"h264": "h264", "hevc": "hevc", "av1": "libdav1d"}
_START: Final = b"\0\0\1"
_PARAMETERS: Final = {"h264": (7, 8), "hevc": (32, 33, 34)}
_DELIMITER: Final = b"\x12\0"


class Given:
    """What is handed to the encoder of a segment, in few numbers: times of the frames, and a glance at each."""

    def __init__(self, picture: PictureFormat, time_base: Fraction) -> None:
        self.size = (even(picture.width), even(picture.height))
        self.ticks: list[int] = []
        self.glances: list[Glance] = []
        self._clock, self._bit_depth = Clock(time_base), picture.bit_depth

    def add(self, frame: Frame) -> None:
        self.ticks.append(self._clock.ticks(frame.pts))
        self.glances.append(glance(frame.y, self._bit_depth))


class Watch:
    """Decodes a segment's packets, in the order in which the encoder makes them.

    header: the encoder's extradata. What cannot be decoded here is left to `check_segment`, which then finds fault.
    """

    def __init__(self, video_codec: str, header: bytes | None) -> None:
        self.video_codec = video_codec
        self.packets: list[int] = []
        self.found: dict[int, Glance] = {}
        self.broken = False
        self._decoder: Any = av.CodecContext.create(DECODERS[video_codec], "r")
        self._decoder.extradata = header
        self._decoder.thread_count = 1
        # Frames that no other goes by need no finish: a glance does not see it.
        self._decoder.options = {"skip_loop_filter": "noref"}

    def add(self, packet: Packet | None) -> None:
        """The next packet; None behind the last."""
        try:
            if packet is not None:
                self.packets.append(_crc(bytes(packet), self.video_codec, in_file=False))
            for picture in self._decoder.decode(packet):
                if picture.is_corrupt or picture.pts is None:
                    self.broken = True
                else:
                    self.found[picture.pts] = glance(*_luma(picture))
        except FFmpegError:
            self.broken = True


def check_segment(path: Path, given: Given, watched: Watch | None = None) -> None:
    """The segment holds the pictures that were handed in, at their times. Raises OutputCheckFailed.

    watched: what its packets were seen to hold; None, or where the file's are others: the file is decoded.
    """
    with opened(path) as container:
        context = container.streams.video[0].codec_context
        size = (context.width, context.height)
        if size != given.size:
            wanted = f"{given.size[0]} x {given.size[1]}"
            raise OutputCheckFailed(f"{path.name} is {size[0]} x {size[1]} pixels instead of {wanted}")
        shown = None if watched is None else _shown(container, watched)
    if shown is None:
        with opened(path) as container:
            shown = _decoded(container, path)
    at, found = [pts for pts, _ in shown], [seen for _, seen in shown]
    frames = len(given.ticks)
    if len(found) != frames:
        raise OutputCheckFailed(f"{path.name} holds {len(found)} frames instead of {frames}")
    if [pts - at[0] for pts in at] != [pts - given.ticks[0] for pts in given.ticks]:
        raise OutputCheckFailed(f"{path.name}: its frames are not at the planned times")
    for k, (wanted, seen) in enumerate(zip(given.glances, found, strict=True)):
        if differs(wanted, seen):
            raise OutputCheckFailed(f"{path.name}: frame {k} is not the picture that was encoded")
    if stands_still(given.glances, found):
        raise OutputCheckFailed(f"{path.name}: its picture stands still where it should move")


def _decoded(container: InputContainer, path: Path) -> list[tuple[int, Glance]]:
    """Time and glance of every picture in the file."""
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    found: list[tuple[int, Glance]] = []
    try:
        for packet in container.demux(stream):
            pictures: Any = packet.decode()
            found += [(picture.pts, glance(*_luma(picture))) for picture in pictures if not picture.is_corrupt]
    except FFmpegError as error:
        raise OutputCheckFailed(f"{path.name} does not decode behind frame {len(found)}: {error.strerror}") from error
    return found


def _shown(container: InputContainer, watched: Watch) -> list[tuple[int, Glance]] | None:
    """The same by what was seen of the packets; None where the file does not hold these very ones at these times."""
    at: list[int] = []
    try:
        for number, packet in enumerate(packet for packet in container.demux(video=0) if packet.size):
            crc = _crc(bytes(packet), watched.video_codec, in_file=True)
            if watched.broken or packet.pts is None or watched.packets[number : number + 1] != [crc]:
                return None
            at.append(packet.pts)
    except FFmpegError:
        return None
    seen = sorted(watched.found)
    if len(at) != len(watched.packets) or len(at) != len(seen):
        return None
    first = min(at, default=0)
    shown = sorted(at)
    if [pts - first for pts in shown] != [pts - seen[0] for pts in seen]:
        return None
    return [(pts, watched.found[its]) for pts, its in zip(shown, seen, strict=True)]


def _crc(data: bytes, video_codec: str, *, in_file: bool) -> int:
    """Of a packet's coded pictures, as an encoder packs them or as mp4 does: start codes there, lengths here, and
    parameter sets and delimiters with either."""
    if video_codec not in _PARAMETERS:
        return zlib.crc32(data.removeprefix(_DELIMITER))
    crc = 0
    for unit in _with_lengths(data) if in_file or not data.startswith((_START, b"\0" + _START)) else _started(data):
        kind = unit[0] & 31 if video_codec == "h264" else unit[0] >> 1 & 63
        if kind not in _PARAMETERS[video_codec]:
            crc = zlib.crc32(unit, zlib.crc32(len(unit).to_bytes(4, "big"), crc))
    return crc


def _started(data: bytes) -> Iterator[bytes]:
    """Units between start codes; no unit ends in a zero byte."""
    return filter(None, (unit.rstrip(b"\0") for unit in data.split(_START)))


def _with_lengths(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + 4 < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 4 + size].rstrip(b"\0") or b"\0"
        at += 4 + size


def _luma(picture: Any) -> tuple[NDArray[Any], int]:
    depth = picture.format.components[0].bits
    plane = picture.planes[0]
    rows = np.frombuffer(plane, np.uint16 if depth > 8 else np.uint8).reshape(plane.height, -1)
    return rows[:, : plane.width], depth
