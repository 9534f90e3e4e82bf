"""Voices: any audio to 16 kHz mono for the networks, to AAC for the output, and windows of it by sample."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import ffmpeg
import numpy as np
from numpy.typing import NDArray

from farm.domain.limits import UNSET, MediaLimits, over
from farm.domain.media import AudioFacts
from farm.errors import Rejected
from farm.media import run, sniff, source
from farm.media.source import Source

SPEECH_HZ: Final = 16_000
AAC_RATES: Final = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
AAC_LAYOUTS: Final = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1"}
AAC_BITS_A_SAMPLE: Final = 2  # 96 kbit/s a channel at 48 kHz: transparent, and small beside the video
MISSING_S: Final = Fraction(1, 4)
HEADERS: Final = 64 * 1024  # of a wav file, generously


@dataclass(frozen=True)
class Voice:
    """A voice file as it is played: `zero_s` is the timestamp that players call 0."""

    path: Path
    demuxer: str
    zero_s: Fraction
    codec: str
    rate_hz: int
    channels: int
    layout: str
    declared_s: Fraction | None


def speech(path: Path, dest_wav: Path, limits: MediaLimits = UNSET) -> AudioFacts:
    """Write the first audio stream as 16 kHz mono pcm_s16le wav; sample 0 is time 0 of the file as players play it.

    Encoder priming and padding are left out; a stream that starts late gets silence in front, holes in it stay holes.
    The facts describe the source; duration_s is the exact length of the wav.
    Rejected: media_no_audio, media_damaged (nothing decodes), media_truncated, media_too_long, and those of `probe`.
    """
    voice = open_voice(path)
    # Timestamps may lie hours apart in a file of a few bytes, and the hole between them is written out.
    most = (most_bytes(limits) - HEADERS) // 2
    sound = _played(voice, SPEECH_HZ).filter("atrim", end_sample=most)
    spec = sound.output(run.url(dest_wav), ac=1, acodec="pcm_s16le", f="wav", fflags="+bitexact")
    _make(voice, spec, dest_wav, most_bytes(limits))
    samples = length(dest_wav)
    if samples == most:
        raise Rejected("media_too_long", over("the sound goes on and on", "max_duration_s", limits.max_duration_s))
    if samples == 0:
        raise Rejected("media_damaged", "no sound can be decoded")
    duration_s = Fraction(samples, SPEECH_HZ)
    if voice.declared_s is not None and duration_s < voice.declared_s - MISSING_S:
        detail = f"{float(duration_s):.2f} of {float(voice.declared_s):.2f} s can be read"
        raise Rejected("media_truncated", detail)
    return AudioFacts(voice.codec, voice.rate_hz, voice.channels, voice.layout, duration_s)


def most_bytes(limits: MediaLimits) -> int:
    """The size of the largest wav that `speech` writes."""
    return 2 * int((limits.max_duration_s + 1) * SPEECH_HZ) + HEADERS


def aac(path: Path, duration_s: Fraction, dest: Path) -> tuple[int, int]:
    """Write the voice as AAC in mp4, from 0, cut or filled with silence to `duration_s`; its (rate, channels).

    Rate and layout are the source's, up to 5.1; rates that AAC lacks become 48 kHz.
    """
    voice = open_voice(path)
    rate = voice.rate_hz if voice.rate_hz in AAC_RATES else 48_000
    channels = min(voice.channels, 6)
    samples = round(duration_s * rate)
    sound = (
        _played(voice, rate)
        .filter("aformat", channel_layouts=AAC_LAYOUTS[channels])
        .filter("apad", whole_len=samples)
        .filter("atrim", end_sample=samples)
    )
    bits = rate * channels * AAC_BITS_A_SAMPLE
    spec = sound.output(run.url(dest), acodec="aac", audio_bitrate=bits, f="mp4", fflags="+bitexact")
    _make(voice, spec, dest, None)
    return rate, channels


def open_voice(path: Path) -> Voice:
    """What has to be known of a voice before it is played. Rejected: media_no_audio, and those of `probe`."""
    opened = source.open_source(path)
    with opened.container:
        stream = opened.audio
        if stream is None:
            raise Rejected("media_no_audio", f"a voice is needed here; this {opened.kind.container} file has no sound")
        context = stream.codec_context
        return Voice(
            path=path,
            demuxer=opened.kind.demuxer,
            zero_s=_zero_s(opened),
            codec=context.codec.canonical_name,
            rate_hz=context.sample_rate,
            channels=context.layout.nb_channels,
            layout=AAC_LAYOUTS.get(context.layout.nb_channels, "")
            if "chan" in context.layout.name
            else context.layout.name,
            declared_s=_declared_s(opened),
        )


def read(wav: Path, start: int, stop: int) -> NDArray[np.float32]:
    """Samples [start, stop) of a wav made by `speech`, in [-1, 1); zeros outside the file."""
    out = np.zeros(max(0, stop - start), np.float32)
    with wave.open(str(wav), "rb") as file:
        first, last = max(0, start), min(stop, file.getnframes())
        if first < last:
            file.setpos(first)
            samples = np.frombuffer(file.readframes(last - first), "<i2")
            out[first - start : first - start + len(samples)] = samples / np.float32(32768)
    return out


def length(wav: Path) -> int:
    """Samples in a wav made by `speech`."""
    with wave.open(str(wav), "rb") as file:
        return file.getnframes()


def _zero_s(opened: Source) -> Fraction:
    """mp4 has a zero of its own (edit lists count from it); elsewhere players start at the earliest timestamp."""
    start = opened.container.start_time
    return Fraction(0) if opened.kind is sniff.MOV or start is None else Fraction(start, 1_000_000)


def _declared_s(opened: Source) -> Fraction | None:
    """The length that the file says it has, where that can be believed."""
    stream = opened.audio
    if stream is None or stream.duration is None or opened.kind not in (sniff.FLAC, sniff.AIFF):
        return None
    return stream.duration * source.time_base(stream)


def _played(voice: Voice, rate: int) -> Any:
    """The samples as played, at `rate`: from zero, silence in holes and before a late start, early samples cut."""
    options = {"f": voice.demuxer, "protocol_whitelist": "file,pipe", "copyts": None}
    if voice.demuxer == sniff.MOV.demuxer:
        options["enable_drefs"] = 0
    sound = ffmpeg.input(run.url(voice.path), **options)["a:0"]
    if voice.zero_s:
        sound = sound.filter("asetpts", f"PTS-{float(voice.zero_s):.6f}/TB")
    return sound.filter("aresample", rate, **{"async": 1, "first_pts": 0})


def _make(voice: Voice, spec: Any, dest: Path, dest_bytes: int | None) -> None:
    limit_s = 300 + voice.path.stat().st_size / 1e6
    try:
        run.ffmpeg(spec, limit_s, (voice.path,), dest, dest_bytes)
    except run.FfmpegFailed as error:
        raise Rejected("media_damaged", f"the sound cannot be decoded: {error}") from error
