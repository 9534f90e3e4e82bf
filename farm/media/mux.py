"""Segments and the voice to the finished file: packets untouched, timestamps from the plan, audio encoded once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import av
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.packet import Packet

from farm.domain.job import OutputSetting
from farm.media import audio
from farm.media.encode import Clock

MAX_MOVIE_TIMESCALE: Final = 10_000_000


class OutputCheckFailed(Exception):
    """The file that was made is not the file that was planned; workers report it as output_check_failed."""


@dataclass(frozen=True)
class OutputFacts:
    """What the finished file holds, read back from it. audio_start_s and audio_end_s: of the decoded samples."""

    frames: int
    duration_s: Fraction
    width: int
    height: int
    video_codec: str
    audio_rate_hz: int
    audio_channels: int
    audio_start_s: Fraction
    audio_end_s: Fraction
    size_bytes: int


def assemble(
    segments: Sequence[Path],
    pts: Sequence[int],
    end_pts: int,
    time_base: Fraction,
    voice: Path,
    dest: Path,
    output: OutputSetting,
    progress: Callable[[int, int], None] | None = None,
) -> OutputFacts:
    """Write `dest` (mp4, index first) from segments in order and the voice from 0, cut or padded to `end_pts`.

    The segments' packets are copied bit by bit; frame k is shown at pts[k]. Then the whole file is read back and
    decoded: frame count, every pts, the ends of both tracks. progress(frames decoded, frames) may raise to stop.
    Raises OutputCheckFailed. Rejected: those of `audio.speech`.
    """
    clock = Clock(time_base)
    shown = [clock.ticks(int(at)) for at in pts]
    end = clock.ticks(end_pts)
    # Beside dest, for its disk is the one with room for it.
    with tempfile.TemporaryDirectory(prefix="voice-", dir=dest.parent) as folder:
        sound = Path(folder) / "voice.m4a"
        audio.aac(voice, end_pts * time_base, sound)
        _write(segments, shown, end, clock, sound, dest)
    return check_file(dest, shown, end, clock, output, progress)


def opened(path: Path) -> InputContainer:
    """One of our own mp4 files. One that does not open is a failed check, but a missing one is a bug."""
    try:
        return av.open(str(path), format="mov")
    except InvalidDataError as error:
        raise OutputCheckFailed(f"{path.name} cannot be opened: {error.strerror}") from error


@dataclass(frozen=True)
class _Order:
    """Packets of the segments in decoding order: `delay` is how many frames decoding runs ahead of showing."""

    counts: tuple[int, ...]
    delay: int


def _order(segments: Sequence[Path], shown: Sequence[int]) -> _Order:
    """Count the packets and check that each segment is the one planned here: same steps, begun by a key frame."""
    counts: list[int] = []
    delay, done = 0, 0
    extradata: bytes | None = None
    for path in segments:
        with opened(path) as container:
            stream = container.streams.video[0]
            packets = _video_packets(container)
            ranks = _ranks(packets)
            delay = max(delay, *(n - rank for n, rank in enumerate(ranks)))
            its = sorted(packet.pts or 0 for packet in packets)
            planned = shown[done : done + len(packets)]
            if extradata is not None and stream.codec_context.extradata != extradata:
                raise OutputCheckFailed(f"{path.name} was encoded with other settings than the segment before")
            extradata = stream.codec_context.extradata
            if not packets or not packets[0].is_keyframe or ranks[0] != 0:
                raise OutputCheckFailed(f"{path.name} does not begin with a key frame")
            if [at - its[0] for at in its] != [at - planned[0] for at in planned]:
                raise OutputCheckFailed(f"{path.name}: its frames are not at the planned times")
        counts.append(len(packets))
        done += len(packets)
    if done != len(shown):
        raise OutputCheckFailed(f"the segments hold {done} frames instead of {len(shown)}")
    return _Order(tuple(counts), delay)


def _video_packets(container: InputContainer) -> list[Packet]:
    return [packet for packet in container.demux(video=0) if packet.size]


def _ranks(packets: Sequence[Packet]) -> list[int]:
    """The place of each packet among its segment's frames in the order shown."""
    place = {at: rank for rank, at in enumerate(sorted(packet.pts or 0 for packet in packets))}
    return [place[packet.pts or 0] for packet in packets]


def _write(segments: Sequence[Path], shown: Sequence[int], end: int, clock: Clock, sound: Path, dest: Path) -> None:
    order = _order(segments, shown)
    options = {
        "movflags": "+faststart",
        "fflags": "+bitexact",
        "video_track_timescale": str(clock.timescale),
        # Edit lists count in the movie's clock: in milliseconds they would cut into the last frame.
        "movie_timescale": str(min(clock.timescale * 1000, MAX_MOVIE_TIMESCALE)),
    }
    with (
        av.open(str(sound), format="mov") as voice,
        av.open(str(segments[0]), format="mov") as first,
        av.open(str(dest), "w", format="mp4", container_options=options) as out,
    ):
        like = first.streams.video[0]
        picture_track: Any = out.add_stream_from_template(like, opaque=True)
        picture_track.time_base = clock.tick_s
        # A template loses the sample entry, and AV1 keeps its sample aspect in the container alone.
        picture_track.codec_context.codec_tag = like.codec_context.codec_tag
        picture_track.codec_context.sample_aspect_ratio = like.sample_aspect_ratio or 1
        sound_track: Any = out.add_stream_from_template(voice.streams.audio[0])
        sounds = (packet for packet in voice.demux(audio=0) if packet.size)
        waiting = next(sounds, None)
        for packet in _planned(segments, order, shown, end, clock):
            while waiting is not None and (waiting.dts or 0) * waiting.time_base <= packet.dts * clock.tick_s:
                waiting.stream = sound_track
                out.mux(waiting)
                waiting = next(sounds, None)
            packet.stream = picture_track
            out.mux(packet)
        while waiting is not None:
            waiting.stream = sound_track
            out.mux(waiting)
            waiting = next(sounds, None)


def _planned(segments: Sequence[Path], order: _Order, shown: Sequence[int], end: int, clock: Clock) -> Iterator[Any]:
    """The segments' packets with the timestamps of the plan.

    dts is the pts of the frame shown `delay` frames earlier: it increases as pts do and is never later than the
    packet's own. The first ones lie before 0; the muxer's edit list makes the first frame start at 0.
    """
    step = shown[1] - shown[0] if len(shown) > 1 else max(1, end - shown[0])
    ends = [*shown[1:], end]
    number = base = 0
    for path, count in zip(segments, order.counts, strict=True):
        with opened(path) as container:
            packets: list[Any] = list(_video_packets(container))
            for packet, rank in zip(packets, _ranks(packets), strict=True):
                earlier = number - order.delay
                packet.time_base = clock.tick_s
                packet.pts = shown[base + rank]
                packet.dts = shown[earlier] if earlier >= 0 else shown[0] + earlier * step
                packet.duration = ends[base + rank] - shown[base + rank]
                number += 1
                yield packet
        base += count


def check_file(
    path: Path,
    shown: Sequence[int],
    end: int,
    clock: Clock,
    output: OutputSetting,
    progress: Callable[[int, int], None] | None = None,
) -> OutputFacts:
    """Decode the whole finished file and compare it with the plan. Raises OutputCheckFailed."""
    with opened(path) as container:
        if len(container.streams.video) != 1 or len(container.streams.audio) != 1:
            raise OutputCheckFailed("the file does not hold one video and one audio track")
        video, sound = container.streams.video[0], container.streams.audio[0]
        if video.codec_context.codec.canonical_name != output.video_codec:
            raise OutputCheckFailed(f"the video is {video.codec_context.codec.canonical_name}")
        if video.time_base != clock.tick_s:
            raise OutputCheckFailed(f"the video counts in {video.time_base} s instead of {clock.tick_s} s")
        video.thread_type = "AUTO"
        frames, video_end, sound_start, sound_end = 0, 0, None, Fraction(0)
        try:
            for packet in container.demux(video, sound):
                for part in packet.decode():
                    if isinstance(part, av.VideoFrame):
                        if frames >= len(shown) or part.pts != shown[frames] or part.is_corrupt:
                            raise OutputCheckFailed(f"frame {frames} is shown at {part.pts}, not as planned")
                        video_end = shown[frames] + part.duration
                        frames += 1
                        if progress is not None and frames % 50 == 0:
                            progress(frames, len(shown))
                    elif isinstance(part, av.AudioFrame):
                        at = (part.pts or 0) * Fraction(part.time_base or 0)
                        sound_start = at if sound_start is None else sound_start
                        sound_end = at + Fraction(part.samples, part.sample_rate)
        except FFmpegError as error:
            raise OutputCheckFailed(f"the file does not decode behind frame {frames}: {error.strerror}") from error
        if frames != len(shown):
            raise OutputCheckFailed(f"the file holds {frames} frames instead of {len(shown)}")
        if sound_start is None:
            raise OutputCheckFailed("the file has no sound")
        duration_s = end * clock.tick_s
        rate = sound.codec_context.sample_rate
        within = Fraction(1024, rate)
        if abs(sound_start) > within or abs(sound_end - duration_s) > within:
            detail = f"the sound runs from {float(sound_start):.4f} to {float(sound_end):.4f} s"
            raise OutputCheckFailed(f"{detail}, the picture from 0 to {float(duration_s):.4f} s")
        # mp4 keeps steps between decoding times only: where steps differ, the last one shown is known but from the
        # edit list, whose length is the movie's.
        is_steady = len({b - a for a, b in pairwise([*shown, end])}) == 1
        if is_steady and video_end != end:
            raise OutputCheckFailed(f"the picture ends at {video_end} instead of {end}")
        movie_s = Fraction(container.duration or 0, 1_000_000)
        if abs(movie_s - duration_s) > within:
            raise OutputCheckFailed(f"the movie lasts {float(movie_s):.4f} s instead of {float(duration_s):.4f} s")
        return OutputFacts(
            frames=frames,
            duration_s=duration_s,
            width=video.codec_context.width,
            height=video.codec_context.height,
            video_codec=output.video_codec,
            audio_rate_hz=rate,
            audio_channels=sound.codec_context.layout.nb_channels,
            audio_start_s=sound_start,
            audio_end_s=sound_end,
            size_bytes=path.stat().st_size,
        )
