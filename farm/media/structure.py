"""Whether a file ends where its own structure says: what cut-off downloads and unfinished recordings fail."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from farm.media import sniff
from farm.media.sniff import Kind

OGG_PAGE: Final = 27 + 255 + 255 * 255
STREAMED: Final = 0x7FFF_F000  # data sizes from here on mean "not known when this was written" (wav from a pipe)


def missing_end(path: Path, kind: Kind) -> str | None:
    """What shows that the end of the file is missing, None if nothing does.

    Transport streams, ADTS, and MPEG audio without a Xing header carry no length: a cut there is not seen, and what is
    left is played.
    """
    look = LOOKS.get(kind.container)
    if look is None:
        return None
    size = path.stat().st_size
    with path.open("rb") as file:
        return look(file, size)


def frames_told(path: Path, kind: Kind) -> int:
    """How many frames an mp4's index says that its largest video track has; 0 for other files.

    libavformat makes room for all of them before it has seen one.
    """
    if kind is not sniff.MOV:
        return 0
    with path.open("rb") as file:
        return _most_frames(file, 0, path.stat().st_size)


def _most_frames(file: BinaryIO, at: int, stop: int, depth: int = 0) -> int:
    """ISO 14496-12: moov > trak > mdia > (hdlr, minf > stbl > stsz); sound tracks count samples, and are left out."""
    most, is_video = 0, True
    while at + 16 <= stop and depth < 6:
        file.seek(at)
        length, name = struct.unpack(">I4s", file.read(8))
        start = at + 8
        if length == 1:
            length, start = int.from_bytes(file.read(8), "big"), at + 16
        elif length == 0:
            length = stop - at
        if length < 8:
            break
        if name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
            most = max(most, _most_frames(file, start, min(stop, at + length), depth + 1))
        elif name == b"hdlr":
            file.seek(start + 8)
            is_video = file.read(4) == b"vide"
        elif name in (b"stsz", b"stz2"):
            file.seek(start + 8)
            most = max(most, int.from_bytes(file.read(4), "big"))
        at += length
    return most if is_video else 0


def size_told(path: Path, kind: Kind) -> tuple[int, int] | None:
    """Width and height that a picture file's header tells: libav does not repeat those that it refuses."""
    with path.open("rb") as file:
        head = file.read(32)
        if kind is sniff.PNG:
            return struct.unpack(">II", head[16:24]) if len(head) >= 24 else None
        if kind is sniff.BMP and len(head) >= 26:
            width, height = struct.unpack("<ii", head[18:26])
            return abs(width), abs(height)
        if kind is sniff.WEBP and head[12:16] == b"VP8X" and len(head) >= 30:
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        return _jpeg_size(file) if kind is sniff.JPEG else None


def _jpeg_size(file: BinaryIO) -> tuple[int, int] | None:
    """The first frame header (ITU-T T.81, B.2.2); segments before it are passed over."""
    at = 2
    for _ in range(1000):
        file.seek(at)
        mark = file.read(9)
        if len(mark) < 9 or mark[0] != 0xFF:
            return None
        if 0xC0 <= mark[1] <= 0xCF and mark[1] not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", mark[5:9])
            return width, height
        at += 1 if mark[1] == 0xFF else 2 + int.from_bytes(mark[2:4], "big")
    return None


def _mov(file: BinaryIO, size: int) -> str | None:
    """ISO 14496-12, 4.2: boxes of 32-bit size and type; size 1 has 64 bits behind, size 0 runs to the end."""
    at = 0
    seen: set[bytes] = set()
    while at + 8 <= size:
        file.seek(at)
        length, name = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        elif length == 0:
            length = size - at
        if length < 8 or not all(32 <= byte < 127 or byte == 0xA9 for byte in name):
            break  # junk behind the last box
        seen.add(name)
        if at + length > size and name in (b"moov", b"moof", b"mdat"):
            return f"the file ends {at + length - size} bytes before its {name.decode()} box does"
        at += length
    if b"moov" not in seen:
        return "the file has no index (moov): its end is missing, or its recording was not finished"
    return None


def _matroska(file: BinaryIO, size: int) -> str | None:
    """RFC 8794: the EBML header, then one segment whose size may be unknown."""
    _, header = _element(file)
    file.seek(header or 0, 1)
    name, length = _element(file)
    if name == 0x18538067 and length is not None and file.tell() + length > size:
        return f"the file ends {file.tell() + length - size} bytes before its segment does"
    return None


def _element(file: BinaryIO) -> tuple[int, int | None]:
    """Id and length of the element at the file's position; None for an unknown length."""
    first = file.read(1)
    more = 8 - first[0].bit_length() if first and first[0] else 0
    name = int.from_bytes(first + file.read(more), "big")
    first = file.read(1)
    more = 8 - first[0].bit_length() if first and first[0] else 0
    bits = 7 * (more + 1)
    length = int.from_bytes(first + file.read(more), "big") & (1 << bits) - 1
    return name, None if length == (1 << bits) - 1 else length


def _avi(file: BinaryIO, size: int) -> str | None:
    file.seek(4)
    length = int.from_bytes(file.read(4), "little")
    return f"the file ends {length + 8 - size} bytes before its RIFF list does" if length + 8 > size + 1 else None


def _wav(file: BinaryIO, size: int) -> str | None:
    file.seek(0)
    if file.read(4) != b"RIFF":
        return None  # RF64 keeps its lengths elsewhere
    at = 12
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"data":
            short = at + 8 + length - size
            return f"the file ends {short} bytes before its samples do" if short > 1 and length < STREAMED else None
        at += 8 + length + length % 2
    return "the file has no samples: its end is missing"


def _ogg(file: BinaryIO, size: int) -> str | None:
    """RFC 3533: the last page that begins in the file must end in it."""
    tail = min(size, 2 * OGG_PAGE)
    file.seek(size - tail)
    data = file.read(tail)
    at = data.rfind(b"OggS")
    if at < 0:
        return None
    table = data[at + 27 : at + 27 + data[at + 26]] if at + 27 <= len(data) else b""
    if at + 27 > len(data) or len(table) < data[at + 26] or at + 27 + len(table) + sum(table) > len(data):
        return "the file ends before its last page does"
    return None


def _mp3(file: BinaryIO, size: int) -> str | None:
    """The Xing or Info header that encoders put into the first frame tells the bytes of all of them."""
    file.seek(0)
    head = file.read(10)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:
        length = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        start = 10 + length + (10 if head[5] & 0x10 else 0)
    file.seek(start)
    frame = file.read(256)
    for name in (b"Xing", b"Info"):
        at = frame.find(name, 4, 60)
        if at < 0 or len(frame) < at + 16:
            continue
        flags = int.from_bytes(frame[at + 4 : at + 8], "big")
        told = int.from_bytes(frame[at + 8 + 4 * (flags & 1) : at + 12 + 4 * (flags & 1)], "big") if flags & 2 else 0
        short = start + told - size
        return f"the file ends {short} bytes before its sound does" if short > 0 else None
    return None


def _png(file: BinaryIO, size: int) -> str | None:
    at = 8
    while at + 12 <= size:
        file.seek(at)
        length, name = struct.unpack(">I4s", file.read(8))
        at += 12 + length
        if name == b"IEND":
            return None
    return "the picture's end is missing"


def _jpeg(file: BinaryIO, size: int) -> str | None:
    file.seek(max(0, size - 65536))
    return None if b"\xff\xd9" in file.read() else "the picture's end is missing"


def _webp(file: BinaryIO, size: int) -> str | None:
    return "the picture's end is missing" if _avi(file, size) else None


LOOKS: Final[dict[str, Callable[[BinaryIO, int], str | None]]] = {
    sniff.MOV.container: _mov,
    sniff.MATROSKA.container: _matroska,
    sniff.AVI.container: _avi,
    sniff.WAV.container: _wav,
    sniff.OGG.container: _ogg,
    sniff.MP3.container: _mp3,
    sniff.PNG.container: _png,
    sniff.JPEG.container: _jpeg,
    sniff.WEBP.container: _webp,
}
