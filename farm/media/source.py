"""Opening users' files: one pinned demuxer, no other file or URL, decoders from a list."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from farm.errors import Rejected
from farm.media import sniff, structure
from farm.media.sniff import Kind

VIDEO_CODECS: Final = frozenset(
    {
        "h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "prores", "dnxhd", "cfhd",
        "ffv1", "huffyuv", "ffvhuff", "utvideo", "qtrle", "png", "h263", "msmpeg4v2", "msmpeg4v3", "theora", "v210",
    }
)  # fmt: skip
IMAGE_CODECS: Final = frozenset({"png", "mjpeg", "webp", "bmp"})
AUDIO_CODECS: Final = frozenset(
    {
        "aac", "aac_latm", "mp3", "mp2", "ac3", "eac3", "opus", "vorbis", "flac", "alac", "adpcm_ms", "adpcm_ima_wav",
        "pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le",
        "pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be",
    }
)  # fmt: skip
DECODERS: Final = VIDEO_CODECS | IMAGE_CODECS | AUDIO_CODECS | {"libdav1d", "libvpx", "libvpx-vp9", "mp3float"}
OPEN_S: Final = 120.0


@dataclass(frozen=True)
class Source:
    """An open file and the streams of it that are used."""

    path: Path
    kind: Kind
    container: InputContainer
    video: VideoStream | None
    audio: AudioStream | None


def is_ours(error: FFmpegError) -> bool:
    """Whether it is this machine that fails, and not the content: libav says EIO and EPERM of damaged streams too."""
    return isinstance(error, MemoryError | FileNotFoundError | BlockingIOError)


@contextmanager
def damage(what: str) -> Iterator[None]:
    """Turn libav's complaints about the content into Rejected media_damaged; what is ours stays loud."""
    try:
        yield
    except FFmpegError as error:
        if is_ours(error):
            raise
        raise Rejected("media_damaged", f"{what} cannot be read: {error.strerror}") from error


def open_source(path: Path, max_pixels: int | None = None, device: str | None = None) -> Source:
    """Open a user's file. device: what is to decode its video ("cuda"), where it can; None for the processor.

    Rejected: those of `sniff`, media_truncated, media_damaged, media_codec_unsupported. Raises FileNotFoundError.
    """
    kind = sniff.sniff(path)
    short = structure.missing_end(path, kind)
    if short is not None:
        raise Rejected("media_truncated", f"{short}; {_readable(path, kind)} can be read")
    with damage("the file"):
        container = _open(path, kind, max_pixels, device)
    try:
        return _chosen(path, kind, container)
    except BaseException:
        container.close()
        raise


def _open(path: Path, kind: Kind, max_pixels: int | None = None, device: str | None = None) -> InputContainer:
    # An absolute path behind "file:" cannot be taken for a URL. Data references of QuickTime files to other files stay
    # off (`enable_drefs`), and no demuxer on the list follows others; the whitelists are the second fence.
    options: dict[str, Any] = {
        "protocol_whitelist": "file",
        "format_whitelist": kind.demuxer,
        "codec_whitelist": ",".join(sorted(DECODERS)),
    }
    if kind is sniff.MOV:
        options["enable_drefs"] = "0"
    if max_pixels:
        options["max_pixels"] = str(max_pixels)
    # Titles and the like are in any encoding.
    how: Any = {"format": kind.demuxer, "timeout": OPEN_S, "metadata_errors": "replace"}
    where = f"file:{path.resolve()}"
    if device is not None:
        # A GPU that is gone by now is no fault of the file.
        with suppress(FFmpegError):
            gpu = HWAccel(device, allow_software_fallback=True)
            return av.open(where, options=dict(options), hwaccel=gpu, **how)
    return av.open(where, options=options, **how)


def _chosen(path: Path, kind: Kind, container: InputContainer) -> Source:
    video = next((s for s in container.streams.video if not s.disposition & Disposition.attached_pic), None)
    audio = next(iter(container.streams.audio), None)
    allowed = IMAGE_CODECS if kind.is_image else VIDEO_CODECS
    for stream, what, names in ((video, "video", allowed), (audio, "audio", AUDIO_CODECS)):
        if stream is None:
            continue
        context = stream.codec_context
        codec = context.codec.canonical_name if context is not None else "of this stream"
        if codec not in names:
            raise Rejected("media_codec_unsupported", f"the {what} codec {codec} is not read here")
    return Source(path, kind, container, video, audio)


def _readable(path: Path, kind: Kind) -> str:
    """How much of a truncated file is there, for the user's eyes."""
    if kind.is_image:
        return "no whole picture"
    try:
        with _open(path, kind) as container:
            streams = container.streams.video or container.streams.audio
            if not streams:
                return "nothing"
            what = "frames" if container.streams.video else "packets of sound"
            stream = streams[0]
            whole = sum(1 for packet in packets(container, stream) if not packet.is_corrupt)
            total = stream.frames
            return f"{whole} of {total} {what}" if total > whole else f"{whole} {what}"
    except (FFmpegError, Rejected):
        return "0 frames"


def packets(container: InputContainer, *streams: VideoStream | AudioStream) -> Iterator[av.Packet]:
    """Packets with content until the file ends or breaks."""
    try:
        for packet in container.demux(*streams):
            if packet.size and not packet.is_discard:
                yield packet
    except FFmpegError as error:
        if is_ours(error):
            raise


def time_base(stream: VideoStream | AudioStream) -> Fraction:
    """Seconds a tick of the stream's timestamps."""
    assert stream.time_base is not None, "demuxers set it"
    return stream.time_base


def layout(context: AudioCodecContext) -> str:
    """The channel layout's name; wav files often tell a count only, which for one and two means the usual."""
    count = context.layout.nb_channels
    return {1: "mono", 2: "stereo"}.get(count, context.layout.name)
