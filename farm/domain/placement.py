"""Which queue a chunk waits in. A queue is a class of devices: workers say which ones they serve."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

RENDER_QUEUE: Final = "render"
QUEUES: Final[tuple[str, ...]] = (RENDER_QUEUE,)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")


def queue_for(manifest: Mapping[str, object]) -> str:
    """Where all work of a job waits: `queue` of its version's manifest (large networks, large devices), or render.

    Planning, rendering and finishing share a queue, because they share the device and the input cache.
    ValueError when the manifest's is no name of a queue.
    """
    queue = manifest.get("queue", RENDER_QUEUE)
    if not isinstance(queue, str) or not _NAME.fullmatch(queue):
        raise ValueError(f"queue {queue!r} is no name: small letters, digits, and - _ . inside")
    return queue
