"""What a file is, by its first bytes alone: the name and the extension are the user's and prove nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from farm.errors import Rejected

HEAD: Final = 64 * 1024
PLAYLISTS: Final = re.compile(
    rb"#EXTM3U|#EXT-X-|ffconcat\s+version|\[playlist\]|\[Reference\]|<ASX|<smil|<MPD[\s>]|<playlist|v=0\r?\no=",
    re.IGNORECASE,
)
MOV_BOXES: Final = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp"})
HEIF_BRANDS: Final = frozenset({b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis"})


@dataclass(frozen=True)
class Kind:
    """A container by our name, and libavformat's demuxer that may open it (no other is ever tried)."""

    container: str
    demuxer: str
    is_image: bool = False


MOV: Final = Kind("mp4", "mov")
MATROSKA: Final = Kind("matroska", "matroska")
AVI: Final = Kind("avi", "avi")
MPEGTS: Final = Kind("mpegts", "mpegts")
MP3: Final = Kind("mp3", "mp3")
AAC: Final = Kind("aac", "aac")
WAV: Final = Kind("wav", "wav")
FLAC: Final = Kind("flac", "flac")
OGG: Final = Kind("ogg", "ogg")
AIFF: Final = Kind("aiff", "aiff")
PNG: Final = Kind("png", "png_pipe", is_image=True)
JPEG: Final = Kind("jpeg", "jpeg_pipe", is_image=True)
WEBP: Final = Kind("webp", "webp_pipe", is_image=True)
BMP: Final = Kind("bmp", "bmp_pipe", is_image=True)


def sniff(path: Path) -> Kind:
    """The kind of the file at `path`.

    Rejected: media_empty (zero bytes), media_playlist_refused (HLS, DASH, concat and other files that only point to
    media elsewhere), media_not_recognised (anything off the list above).
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
        if not head:
            raise Rejected("media_empty", "the file has zero bytes")
        kind = _by_magic(head) or _after_id3(head, file.seek, file.read)
    if kind is not None:
        return kind
    if PLAYLISTS.search(head[:4096]):
        raise Rejected("media_playlist_refused", "a playlist points to media elsewhere; send the media file itself")
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS:
        raise Rejected("media_not_recognised", "HEIF and AVIF pictures are not read; send JPEG, PNG or WebP")
    what = "text" if _is_text(head) else "no media format that is read here"
    raise Rejected("media_not_recognised", f"the content is {what} (its first bytes were looked at, not its name)")


def _by_magic(head: bytes) -> Kind | None:
    four = head[:4]
    if head[4:8] in MOV_BOXES and not (head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS):
        return MOV
    if four == b"\x1aE\xdf\xa3":
        return MATROSKA
    if four in (b"RIFF", b"RF64", b"BW64"):
        return {b"AVI ": AVI, b"WAVE": WAV, b"WEBP": WEBP}.get(head[8:12])
    if four == b"fLaC":
        return FLAC
    if four == b"OggS":
        return OGG
    if four == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return AIFF
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return PNG
    if head[:3] == b"\xff\xd8\xff":
        return JPEG
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        return BMP
    if _is_mpegts(head):
        return MPEGTS
    return _by_audio_sync(head)


def _by_audio_sync(head: bytes) -> Kind | None:
    """MPEG audio and ADTS share the sync word; the layer bits tell them apart (0 is ADTS)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    if head[1] & 0xF6 == 0xF0:
        return AAC if head[2] >> 2 & 15 < 13 else None
    is_layer = head[1] >> 1 & 3 != 0 and head[1] >> 3 & 3 != 1
    return MP3 if is_layer and head[2] >> 4 != 15 and head[2] >> 2 & 3 != 3 else None


def _after_id3(head: bytes, seek, read) -> Kind | None:
    """What follows an ID3v2 tag; its pictures may be larger than the head."""
    if head[:3] != b"ID3" or len(head) < 10:
        return None
    size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    seek(10 + size + (10 if head[5] & 0x10 else 0))
    after = read(4096).lstrip(b"\0")
    return FLAC if after[:4] == b"fLaC" else _by_audio_sync(after)


def _is_mpegts(head: bytes) -> bool:
    for packet, lead in ((188, 0), (192, 4)):
        at = range(lead, min(len(head), lead + 5 * packet), packet)
        if len(at) >= 3 and all(head[i] == 0x47 for i in at):
            return True
    return False


def _is_text(head: bytes) -> bool:
    try:
        head[: HEAD - 4].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in head
