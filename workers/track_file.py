"""One followed video as a npz file: what a plan holds of it, and its facts. For `workers.tracks`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from farm.domain.document import from_document, to_document
from farm.domain.media import VideoFacts
from workers import plan_file
from workers.plan_file import PlannedVideo


@dataclass(frozen=True, eq=False)
class Followed:
    """facts: of the frames that were followed."""

    video: PlannedVideo
    facts: VideoFacts

    @property
    def faces_found(self) -> int:
        """Frames with the face."""
        return int((self.video.run >= 0).sum())


def write(path: Path, followed: Followed) -> None:
    meta = {
        "format": plan_file.FORMAT,
        "video": plan_file.video_meta(followed.video),
        "facts": to_document(followed.facts),
    }
    arrays = {"meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)}
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays, **plan_file.video_arrays(followed.video, "video."))
    unfinished.replace(path)


def read(path: Path) -> Followed | None:
    """None where there is none. Raises ValueError on a file of another format."""
    if not path.exists():
        return None
    arrays = plan_file.mapped(path)
    meta = json.loads(arrays["meta"].tobytes())
    if meta["format"] != plan_file.FORMAT:
        raise ValueError(f"track file of format {meta['format']}, not {plan_file.FORMAT}")
    video = plan_file.video(meta["video"], arrays, "video.")
    return Followed(video, from_document(VideoFacts, meta["facts"]))
