"""Whether a file ends where its own structure says: what cut-off downloads and unfinished recordings fail."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from farm.media import sniff
from farm.media.sniff import Kind

STREAMED: Final = 0x7FFF_F000  # data sizes from here on mean "not known when this was written" (wav from a pipe)


def missing_end(path: Path, kind: Kind) -> str | None:
    """What shows that the end of the file is missing, None if nothing does.

    Transport streams, MPEG audio and Ogg carry no length: a cut there is not seen, and what is left is played.
    """
    look = LOOKS.get(kind.container)
    if look is None:
        return None
    size = path.stat().st_size
    with path.open("rb") as file:
        return look(file, size)


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
    sniff.PNG.container: _png,
    sniff.JPEG.container: _jpeg,
    sniff.WEBP.container: _webp,
}
