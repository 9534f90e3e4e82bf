"""What a file holds: refused, or described. Nothing is decoded here but the first picture and the first samples."""

from __future__ import annotations

from pathlib import Path

from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from farm.domain.limits import MediaLimits, over
from farm.domain.media import AudioFacts, MediaFacts, VideoFacts
from farm.errors import Rejected
from farm.media import decode, index, sniff, source, structure
from farm.media.index import FrameIndex, Seen
from farm.media.source import Source
from farm.media.video_facts import video_facts


def probe(path: Path, limits: MediaLimits) -> MediaFacts:
    """Facts of the file: container, first video stream, first audio stream.

    Frames and durations come from reading every packet, not from headers; `decode.Scan.facts` and `audio.speech` give
    the ones that decoding confirms. A still picture has container png, jpeg, webp or bmp and one video frame.
    Rejected: media_empty, media_not_recognised, media_playlist_refused, media_truncated, media_damaged,
    media_codec_unsupported, media_too_large, media_too_long, media_too_many_pixels, media_too_many_frames.
    """
    size = path.stat().st_size
    if size > limits.max_bytes:
        raise Rejected("media_too_large", over(f"it has {size} bytes", "max_bytes", limits.max_bytes))
    kind = sniff.sniff(path)
    check_frames(structure.frames_told(path, kind), limits)
    told = structure.size_told(path, kind)
    if told is not None:
        _check_pixels(*told, limits)
    opened = source.open_source(path, limits.max_pixels)
    with opened.container:
        if opened.video is None and opened.audio is None:
            raise Rejected("media_damaged", "the file holds neither video nor audio")
        if opened.video is not None:
            context = opened.video.codec_context
            _check_pixels(context.width, context.height, limits)
        seen, ticks = _packets(opened, limits)
        facts = MediaFacts(
            container=opened.kind.container,
            size_bytes=size,
            video=_video(opened, opened.video, seen, limits) if opened.video else None,
            audio=_audio(opened.audio, ticks) if opened.audio else None,
        )
    longest = max(part.duration_s for part in (facts.video, facts.audio) if part is not None)
    if longest > limits.max_duration_s:
        detail = over(f"it lasts {float(longest):.1f} s", "max_duration_s", limits.max_duration_s)
        raise Rejected("media_too_long", detail)
    return facts


def frame_index(path: Path) -> FrameIndex:
    """The index of every frame that decodes, by decoding them all (`decode.scan` yields the frames as well)."""
    return decode.scan(path).index_only()


def _check_pixels(width: int, height: int, limits: MediaLimits) -> None:
    if width * height > limits.max_pixels:
        detail = over(f"a picture of {width}x{height} pixels", "max_pixels", limits.max_pixels)
        raise Rejected("media_too_many_pixels", detail)


def check_frames(count: int, limits: MediaLimits) -> None:
    """Rejected media_too_many_frames."""
    if count > limits.max_frames:
        raise Rejected("media_too_many_frames", over(f"it has {count} frames or more", "max_frames", limits.max_frames))


def _packets(opened: Source, limits: MediaLimits) -> tuple[list[Seen], tuple[int, int]]:
    """Timestamps of all video packets in the order read, and the ticks at which the sound starts and ends."""
    seen: list[Seen] = []
    start, end = 0, 0
    streams = [stream for stream in (opened.video, opened.audio) if stream is not None]
    for packet in source.packets(opened.container, *streams):
        if opened.video is not None and packet.stream_index == opened.video.index:
            seen.append(Seen(packet.pts, packet.dts, packet.duration, packet.is_keyframe))
            check_frames(len(seen), limits)
        else:
            at = end if packet.pts is None else packet.pts
            start, end = (start if end else at), max(end, at + (packet.duration or 0))
    return seen, (start, end)


def _video(opened: Source, stream: VideoStream, seen: list[Seen], limits: MediaLimits) -> VideoFacts:
    fresh = source.open_source(opened.path, limits.max_pixels)
    with fresh.container, source.damage("the video"):
        frame = next(decode.pictures(fresh), None)
    if frame is None or not seen:
        raise Rejected("media_damaged", "no frame of the video can be decoded")
    _check_pixels(frame.width, frame.height, limits)
    # Packets come in decoding order, frames are shown in the order of their pts. AVI has no pts (what libav says there
    # is a guess), so the order of its packets has to do.
    if opened.kind is sniff.AVI:
        seen = [Seen(None, s.dts, s.duration, s.is_key) for s in seen]
    elif all(s.pts is not None for s in seen):
        seen = sorted(seen, key=lambda s: s.pts or 0)
    reading = decode.reading(fresh, frame)
    return video_facts(stream, frame, reading, index.build(seen, source.time_base(stream), stream.guessed_rate))


def _audio(stream: AudioStream, ticks: tuple[int, int]) -> AudioFacts:
    context = stream.codec_context
    start, end = ticks
    return AudioFacts(
        codec=context.codec.canonical_name,
        sample_rate_hz=context.sample_rate,
        channels=context.layout.nb_channels,
        layout=source.layout(context),
        # A start below 0 is the encoder's priming, which is not played.
        duration_s=max(0, end - max(0, start)) * source.time_base(stream),
    )
