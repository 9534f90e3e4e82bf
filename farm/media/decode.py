"""Files to frames: once through in order while planning, then exactly the frames of a span, by index."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

from av.error import FFmpegError
from av.video.frame import VideoFrame

from farm import machine
from farm.domain.media import VideoFacts
from farm.domain.span import Span
from farm.errors import Rejected
from farm.media import index, pixels, source, turn
from farm.media.frame import Frame, PictureFormat
from farm.media.index import NO_PTS, FrameIndex, Seen
from farm.media.pixels import Reading
from farm.media.source import Source
from farm.media.video_facts import video_facts

THREADS: Final = max(1, min(8, machine.cores()))
ASK_EVERY: Final = 64  # frames from one look at the index to the next, where a scan is to end early
LEAD_IN: Final = 600  # frames looked at after a seek before it is taken to have missed its key frame


class Scan:
    """All frames of a file in order, once; the index and the facts are known when the last one has been taken.

    `for frame in scan: ...` then `scan.index`, `scan.facts`. `scan.picture` is known from the start. `frame.pts` are
    the stream's own, shifted to start at 0; those of the index may differ (see FrameIndex).

    until_s: stop behind the first frame that begins there or later; then index and facts are those of the frames so
    far, which last until_s or longer.
    """

    picture: PictureFormat

    def __init__(self, path: Path, max_pixels: int | None = None, until_s: Fraction | None = None) -> None:
        self._until_s = until_s
        self._source = _open(path, max_pixels)
        with source.damage("the video"):
            self._decoded = pictures(self._source)
            first = next(self._decoded, None)
        if first is None:
            self._source.container.close()
            raise Rejected("media_damaged", "no frame of the video can be decoded")
        self._first: VideoFrame | None = first
        self._example = first
        self._reading = reading(self._source, first)
        self.picture = self._reading.picture
        self._index: FrameIndex | None = None
        self._asked = 0

    def __iter__(self) -> Iterator[Frame]:
        for seen, decoded in self._seen():
            y, u, v = self._reading.planes(decoded)
            yield Frame(seen[0], seen[1], y, u, v)

    def index_only(self) -> FrameIndex:
        """Decode all without copying planes."""
        for _ in self._seen():
            pass
        return self.index

    def _seen(self) -> Iterator[tuple[tuple[int, int], VideoFrame]]:
        if self._first is None:
            raise ValueError("a scan runs once")
        first, self._first = self._first, None
        seen: list[Seen] = []
        zero = first.pts or 0
        decoded: VideoFrame | None = first
        try:
            while decoded is not None:
                check = self._reading.check(decoded)
                seen.append(Seen(decoded.pts, decoded.dts, decoded.duration, decoded.key_frame, check))
                at = decoded.pts
                yield (len(seen) - 1, (at if at is not None else zero) - zero), decoded
                if self._is_enough(seen, None if at is None else at - zero):
                    break
                decoded = next(self._decoded, None)
            stream = self._source.video
            assert stream is not None
            self._index = index.build(seen, source.time_base(stream), stream.guessed_rate)
            self._facts = video_facts(stream, self._example, self._reading, self._index)
        finally:
            self._source.container.close()

    def _is_enough(self, seen: list[Seen], at: int | None) -> bool:
        """Whether the index of the frames so far reaches `until_s`. It knows better than a single timestamp, and is
        asked now and then only, for making it takes time."""
        stream = self._source.video
        assert stream is not None
        time_base = source.time_base(stream)
        if self._until_s is None or at is None or at * time_base < self._until_s:
            return False
        self._asked += 1
        return self._asked % ASK_EVERY == 1 and index.build(seen, time_base, stream.guessed_rate).duration_s >= (
            self._until_s
        )

    @property
    def index(self) -> FrameIndex:
        if self._index is None:
            raise ValueError("the scan has not reached the end")
        return self._index

    @property
    def facts(self) -> VideoFacts:
        """Exact: frames and duration are those that decoded."""
        if self._index is None:
            raise ValueError("the scan has not reached the end")
        return self._facts


class Video:
    """Random access to frames by index; close it, or use it in a `with`. One thread at a time.

    device: a GPU's decoder ("cuda"). Its first frame that is not the scan's ends its use: the processor goes on.
    """

    picture: PictureFormat
    index: FrameIndex

    def __init__(self, path: Path, frame_index: FrameIndex, device: str | None = None) -> None:
        self._path, self._device = path, device
        self._source = _open(path, device=device)
        self._opened = True
        self.index = frame_index
        with source.damage("the video"):
            first = next(pictures(self._source), None)
        if first is None:
            self.close()
            raise Rejected("media_damaged", "no frame of the video can be decoded")
        self._reading = reading(self._source, first)
        self.picture = self._reading.picture
        self._running: Iterator[tuple[int, VideoFrame]] | None = None
        self._next = -1
        self._entry = -1

    def frames(self, span: Span) -> Iterator[Frame]:
        """Exactly the frames of `span`, in order, identical to the scan's.

        Rejected media_damaged where a frame does not decode as it did in the scan, from any key frame before it.
        """
        if span.stop > len(self.index):
            raise ValueError(f"{span} of {len(self.index)} frames")
        at = span.start
        while at < span.stop:
            decoded = self._frame(at)
            y, u, v = self._reading.planes(decoded)
            yield Frame(at, int(self.index.pts[at]), y, u, v)
            at += 1

    def moved(self, path: Path) -> None:
        """The same file is found at `path` now, should it have to be opened again."""
        self._path = path

    def _frame(self, wanted: int) -> VideoFrame:
        """Frame `wanted`, going on from where the decoder is if no key frame is nearer, proved by its checksum."""
        entries = self._entries(wanted)
        keep_on = self._running is not None and entries[0] <= self._next <= wanted
        for entry in ([None] if keep_on else []) + entries:
            if entry is not None:
                self._running, self._entry = self._run_from(entry), entry
            assert self._running is not None
            for number, decoded in self._running:
                self._next = number + 1
                if number == wanted:
                    if self._reading.check(decoded) == int(self.index.check[wanted]):
                        return decoded
                    break
            self._running = None
        if self._device is not None:
            self._device = None
            self._source.container.close()
            self._source = _open(self._path)
            return self._frame(wanted)
        raise Rejected("media_damaged", f"frame {wanted} does not decode the same way twice")

    def _entries(self, wanted: int) -> list[int]:
        """Frames to start decoding from, best first: the nearest key frames before, at last the start of the file."""
        raw, keys = self.index.raw, self.index.key[: wanted + 1].nonzero()[0][::-1][:4]
        return [int(k) for k in keys if k > 0 and raw[k] != NO_PTS] + [0]

    def _run_from(self, entry: int) -> Iterator[tuple[int, VideoFrame]]:
        """Decoded frames with their numbers, from key frame `entry` on; nothing if it is not found there."""
        if entry == 0 or not self._seek(entry):
            self._source.container.close()
            self._source = _open(self._path, device=self._device)
            yield from enumerate(pictures(self._source)) if entry == 0 else ()
            return
        raw, check = int(self.index.raw[entry]), int(self.index.check[entry])
        frames = pictures(self._source)
        for _ in range(LEAD_IN):
            decoded = next(frames, None)
            if decoded is None:
                return
            at = decoded.dts if self.index.raw_is_dts else decoded.pts
            if at == raw and self._reading.check(decoded) == check:
                yield entry, decoded
                yield from enumerate(frames, entry + 1)
                return

    def _seek(self, entry: int) -> bool:
        try:
            self._source.container.seek(int(self.index.raw[entry]), stream=self._source.video)
        except FFmpegError:
            return False
        return True

    def close(self) -> None:
        self._running = None
        self._source.container.close()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def scan(path: Path, max_pixels: int | None = None, until_s: Fraction | None = None) -> Scan:
    """Start decoding a video. Rejected: those of `probe`, media_no_video (also for a still picture)."""
    return Scan(path, max_pixels, until_s)


def open_video(path: Path, index: FrameIndex, device: str | None = None) -> Video:
    """Open a video whose index a scan has made."""
    return Video(path, index, device)


def image(path: Path, max_pixels: int | None = None) -> tuple[Frame, PictureFormat]:
    """The still picture in a PNG, JPEG, WebP or BMP file, turned as EXIF says.

    Rejected: media_not_an_image for a video or a sound, and those of `probe`.
    """
    opened = source.open_source(path, max_pixels)
    with opened.container:
        if not opened.kind.is_image or opened.video is None:
            raise Rejected("media_not_an_image", f"a picture is needed here; this is {opened.kind.container}")
        with source.damage("the picture"):
            decoded = next(pictures(opened), None)
        if decoded is None:
            raise Rejected("media_damaged", "the picture cannot be decoded")
        read = reading(opened, decoded)
        y, u, v = read.planes(decoded)
        return Frame(0, 0, y, u, v), read.picture


def _open(path: Path, max_pixels: int | None = None, device: str | None = None) -> Source:
    opened = source.open_source(path, max_pixels, device)
    if opened.video is None or opened.kind.is_image:
        opened.container.close()
        what = "a still picture" if opened.kind.is_image else "sound only"
        raise Rejected("media_no_video", f"a video is needed here; this is {what}")
    return opened


def reading(opened: Source, first: VideoFrame) -> Reading:
    """How the pictures of an open file are read, by the first one."""
    if opened.kind.is_image:
        return pixels.reading(first, turn.of_picture(opened.path), still=True)
    assert opened.video is not None
    return pixels.reading(first, turn.of_frame(first, opened.video.codec_context.codec.canonical_name), still=False)


def pictures(opened: Source) -> Iterator[VideoFrame]:
    """Decoded frames from where the container stands to its end; damaged packets are passed over, as players do."""
    stream = opened.video
    assert stream is not None
    context = stream.codec_context
    if not context.is_open:
        context.thread_type = "AUTO"
        context.thread_count = THREADS
    try:
        for packet in opened.container.demux(stream):
            try:
                yield from packet.decode()
            except FFmpegError as error:
                if source.is_ours(error):
                    raise
    except FFmpegError as error:
        if source.is_ours(error):
            raise
