"""Spans of frame indices, [start, stop)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Span:
    """Frames start, start + 1, ..., stop - 1."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop:
            raise ValueError(f"not a span: [{self.start}, {self.stop})")

    def __len__(self) -> int:
        return self.stop - self.start

    def widened(self, halo: int, length: int) -> Span:
        """This span with `halo` frames more on each side, kept inside [0, length)."""
        return Span(max(0, self.start - halo), min(length, self.stop + halo))


def cut(frames: int, chunk_frames: int, multiple_of: int = 1) -> tuple[Span, ...]:
    """Cut [0, frames) into spans of `chunk_frames`, rounded up to `multiple_of` (a whole number of render batches)."""
    if frames < 1 or chunk_frames < 1:
        raise ValueError(f"cannot cut {frames} frames into chunks of {chunk_frames}")
    step = -(-chunk_frames // multiple_of) * multiple_of
    return tuple(Span(at, min(at + step, frames)) for at in range(0, frames, step))
