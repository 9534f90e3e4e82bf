"""A frame as a small JPEG."""

from __future__ import annotations

from farm.media.frame import Frame, PictureFormat


def jpeg(frame: Frame, picture: PictureFormat, max_side: int) -> bytes:
    """The frame as JPEG, its longer side at most `max_side` pixels."""
    raise NotImplementedError
