"""What is asked of a preparation, and why clips are dropped."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Final

REASONS: Final[dict[str, str]] = {
    "broken_file": "the video cannot be read, or only in part",
    "no_audio": "the file has no sound that can be read",
    "silent": "the sound is silence",
    "slow_frames": "fewer frames a second than min_rate",
    "no_face": "no face is seen well enough",
    "several_faces": "several faces, and no box that says which is meant",
    "small_face": "the crop spans fewer source pixels than min_face",
    "too_short": "no unbroken run of the face as long as the clip is to be",
    "unsure_face": "what lies in the crops is hardly a face, by the landmarks' own score",
    "broken_boxes": "the box file cannot be read",
    "box_disagrees": "the face that is found is not the one in the box file",
    "broken_sidecar": "the sidecar of true factors cannot be read, or has other frames",
}


@dataclass(frozen=True)
class PrepareSetting:
    """Everything that decides what is made of a source.

    size: pixels a side. frames: of a clip, at 25 a second. loose: frames of the same file elsewhere, for appearances.
    most: clips cut from one file. min_face: source pixels that a crop's side must span. min_rate: frames a second.
    min_score: of the landmarks, mean over a clip. pictures: "jpeg" or "raw". boxes: "auto" takes a square picture for a
    crop that the boxes do not apply to, as VoxCeleb2's own mp4s are; "frame" never does; "ignore".
    held_out: share of the identities that only measure. priors: those of the user whose outputs replace the landmarks'.
    """

    size: int = 224
    frames: int = 40
    loose: int = 8
    most: int = 4
    min_face: int = 64
    min_rate: float = 20.0
    min_score: float = 0.5
    pictures: str = "jpeg"
    boxes: str = "auto"
    held_out: float = 0.02
    seed: int = 1
    files_a_shard: int = 32
    priors: tuple[str, ...] = ()
    version: int = 1
    """Goes up when the same setting would make something else of the same files."""

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


class Dropped(Exception):
    """A file gives nothing. reason: one of REASONS."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail
