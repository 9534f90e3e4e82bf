"""Files to frames: once through in order while planning, then exactly the frames of a span, by index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from farm.domain.media import VideoFacts
from farm.domain.span import Span
from farm.media.frame import Frame, PictureFormat
from farm.media.index import FrameIndex


class Scan:
    """All frames of a file in order, once; the index and the facts are known when the last one has been taken.

    `for frame in scan: ...` then `scan.index`, `scan.facts`. `scan.picture` is known from the start. `frame.pts` are
    the stream's own, shifted to start at 0; those of the index may differ (see FrameIndex).
    """

    picture: PictureFormat

    def __init__(self, path: Path) -> None:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Frame]:
        raise NotImplementedError

    @property
    def index(self) -> FrameIndex:
        raise NotImplementedError

    @property
    def facts(self) -> VideoFacts:
        """Exact: frames and duration are those that decoded."""
        raise NotImplementedError


class Video:
    """Random access to frames by index; close it, or use it in a `with`. One thread at a time."""

    picture: PictureFormat
    index: FrameIndex

    def frames(self, span: Span) -> Iterator[Frame]:
        """Exactly the frames of `span`, in order, identical to the scan's."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def scan(path: Path) -> Scan:
    """Start decoding a video. Rejected: those of `probe`, media_no_video (also for a still picture)."""
    return Scan(path)


def open_video(path: Path, index: FrameIndex) -> Video:
    """Open a video whose index a scan has made."""
    raise NotImplementedError


def image(path: Path) -> tuple[Frame, PictureFormat]:
    """The still picture in a PNG, JPEG, WebP or BMP file, turned as EXIF says. Rejected: media_not_an_image, ..."""
    raise NotImplementedError
