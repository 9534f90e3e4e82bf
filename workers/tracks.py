"""Faces followed once for all jobs of a video: which part of it a job needs, and where the track of that part is kept.

A track depends on the video's bytes, on which face is asked for, on how far the video is followed, and on the code and
weights that follow it. All of these are in its name, so that a track found is the track that would be made: a batch
that dubs one video into ten languages follows its face once. No networks are loaded here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Final

import farm
from farm.domain.document import to_document
from farm.domain.factor import Media
from farm.domain.job import FaceChoice, FaceSetting, JobSpec, Kind, SyncMode
from farm.domain.media import VideoFacts
from farm.domain.order import Blob
from farm.errors import Transient
from farm.storage import keys
from workers.inputs import file_sha256
from workers.workshop import Workshop

AHEAD_S: Final = 1
"""What is followed beyond the last frame shown: smoothing looks ahead, and so do decoders."""
FIRST_S: Final = 15
"""The shortest part that is followed alone; longer ones are twice as long each, so that voices of about one length,
as the same text has in several languages, need the same part."""


def needed_s(spec: JobSpec, voice_s: Fraction, source: VideoFacts) -> Fraction | None:
    """How much of the source is shown, from its start; None: all of it, or nobody knows before it is followed."""
    if spec.kind is Kind.ANIMATE or spec.sync_mode in (SyncMode.SILENCE, SyncMode.REMAP):
        return None
    if spec.face.choice is FaceChoice.POINT and spec.face.frame:
        # Which second a frame is in is known of steady videos only.
        return None if source.is_vfr else max(voice_s, (spec.face.frame + 3) / source.frame_rate)
    return voice_s


def driven_s(spec: JobSpec, voice_s: Fraction, source: VideoFacts | None) -> Fraction:
    """How much of a driving video is used: as much as the output lasts, or less."""
    if spec.sync_mode is SyncMode.SILENCE and source is not None:
        return max(voice_s, source.duration_s)
    return voice_s


def reach_s(wanted_s: Fraction | None, video: VideoFacts) -> int | None:
    """Until where the face is followed; None: to the end."""
    reach = FIRST_S
    while wanted_s is not None and reach < wanted_s + AHEAD_S:
        reach *= 2
    return None if wanted_s is None or reach >= video.duration_s else reach


def name(reach: int | None) -> str:
    return "all" if reach is None else f"{reach}s"


def bring(folder: Path, video: Blob, how: str, shop: Workshop) -> Path:
    """`folder`, filled with the tracks that are stored of a video: a file `<name>.npz` each."""
    folder.mkdir()
    # Nobody is served worse by a store that does not answer than by following the face once more.
    with suppress(Transient):
        for key, size_bytes in sorted((stat.key, stat.size_bytes) for stat in shop.store.list(keys.tracks(video, how))):
            stem, sha256 = key.removesuffix(".npz").rsplit("/", 1)[1].rsplit("-", 1)
            if not (folder / f"{stem}.npz").exists():
                shop.inputs.file(Blob(key, size_bytes, sha256), folder, f"{stem}.npz")
    return folder


def keep(made: Path, video: Blob, how: str, shop: Workshop) -> None:
    """Store a track that was made here."""
    sha256 = file_sha256(made)
    with suppress(Transient):
        shop.store.put_file(made, keys.track(video, how, made.stem, sha256))
    shop.inputs.keep(made, sha256)


def how(choice: FaceSetting, reference: Blob | None) -> str:
    """Which face, followed by what: 32 hex digits."""
    picture = None if reference is None else Media(asset_id=reference.sha256)  # by content, whatever it was called
    words = [code_sha256(), to_document(replace(choice, reference=picture))]
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()[:32]


@cache
def code_sha256() -> str:
    """Of all that says what a track holds: rather followed again after a change of a comment than not after one of a
    weight."""
    digest = hashlib.sha256()
    for path in _code():
        digest.update(f"{path.name} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _code() -> Iterator[Path]:
    here = Path(farm.__path__[0])
    yield from sorted((here / "face").glob("*.py"))
    yield from sorted((here / "face" / "weights").glob("*.safetensors"))
    yield from sorted((here / "media").glob("*.py"))
    yield Path(__file__).with_name("survey.py")
    yield Path(__file__).with_name("track_file.py")
