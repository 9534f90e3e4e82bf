"""Which queue a chunk waits in."""

from __future__ import annotations

from typing import Final

from farm.domain.chunk import Work

RENDER_QUEUE: Final = "render"
QUEUES: Final[tuple[str, ...]] = (RENDER_QUEUE,)


def queue_for(_work: Work) -> str:
    """All work of a job runs where the pictures are: planning and rendering share the device and the input cache."""
    return RENDER_QUEUE
