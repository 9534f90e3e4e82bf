"""What a farm made of a batch, as its user gets it: answers over HTTP, the files, and what PyAV reads in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from farm.client import Client
from farm.client.answers import Chunk, Job
from farm.embedded.farm import EmbeddedFarm
from farm.storage import keys
from farm.storage.blobs import open_store
from tests.e2e.command import SERVICES
from tests.media_files import BITS, SQUARE, number_of

WAIT_S = 500


@dataclass(frozen=True)
class Shown:
    """A finished file as a player shows it. Times in seconds from its own zero."""

    width: int
    height: int
    rotation: int
    rate: Fraction
    sample_aspect: Fraction
    pts_s: tuple[Fraction, ...]
    video_end_s: Fraction
    movie_s: Fraction
    numbers: tuple[int, ...]  # what `media_files` wrote into each picture, where there is room
    sound_hz: int
    channels: int
    sound_start_s: Fraction
    sound_N: NDArray[np.float32]  # the first channel
    layout: str
    bit_depth: int
    full_range: bool
    colors: tuple[int, int, int]  # H.273: matrix, primaries, transfer
    interlaced: bool

    @property
    def sound_end_s(self) -> Fraction:
        return self.sound_start_s + Fraction(len(self.sound_N), self.sound_hz)


@dataclass(frozen=True)
class Made:
    """What became of one item."""

    job: Job
    chunks: tuple[Chunk, ...]
    file: Path | None
    hashes: Mapping[int, str]  # output frame -> SHA-256 of its samples before encoding

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        return tuple(sorted((chunk.start, chunk.stop) for chunk in self.chunks if chunk.work == "render"))

    def shown(self) -> Shown:
        assert self.job.status == "succeeded", self.job.error
        assert self.file is not None
        return shown(self.file)


@contextmanager
def farm(data: Path, material: Path, services: Mapping[str, str], chunk_frames: int) -> Iterator[tuple[Client, str]]:
    """An embedded farm that reads `material`, cuts every `chunk_frames` frames, keeps frame hashes; its storage url."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DUBFARM_", "PYTHONWARNINGS", *SERVICES))
    }
    environment = {
        **kept,
        **services,
        "DUBFARM_WORKER_CHUNK_FRAMES": str(chunk_frames),
        "DUBFARM_WORKER_KEEPS_FRAME_HASHES": "1",
        "DUBFARM_WORKER_DEVICE": "cpu",
    }
    own = EmbeddedFarm(
        data, file_roots=[material], environment=environment, say=lambda line: print(line, file=sys.stderr)
    )
    with own as address, Client(address.url, address.key) as client:
        yield client, address.storage_url


def run(
    client: Client, items: Sequence[Mapping[str, Any]], storage_url: str, endpoint_url: str | None, folder: Path
) -> dict[str, Made]:
    """Submit one batch, wait once, take everything."""
    folder.mkdir()
    batch = client.wait(client.submit(items).id, WAIT_S, poll_s=0.5)
    assert batch.status == "completed"
    store = open_store(storage_url, endpoint_url)
    made: dict[str, Made] = {}
    for job in client.jobs(batch.id):
        chunks = tuple(client.chunks(job.id))
        file = client.download(job.id, folder / f"{job.custom_id}.mp4") if job.output else None
        hashes: dict[int, str] = {}
        for stat in store.list(keys.job(job.id)):
            if stat.key.endswith("/frames.txt"):
                lines = store.get_bytes(stat.key).decode().splitlines()
                hashes |= {int(index): sha256 for index, sha256 in (line.split() for line in lines)}
        made[job.custom_id] = Made(job, chunks, file, hashes)
    assert batch.counts.total == len(items) == len(made)
    return made


def shown(path: Path) -> Shown:
    with av.open(str(path)) as container:
        video: Any = container.streams.video[0]
        pictures = list(container.decode(video))
        size = video.codec_context.width, video.codec_context.height
        end = (video.start_time + video.duration) * video.time_base
        pts = tuple(picture.pts * video.time_base for picture in pictures)
        is_numbered = size[0] >= BITS * SQUARE
        numbers = tuple(number_of(picture.to_ndarray()[: size[1]]) for picture in pictures if is_numbered)
        movie_s = Fraction(container.duration or 0, 1_000_000)
        first = pictures[0]
        rotation, rate, aspect = first.rotation, video.average_rate, video.sample_aspect_ratio or Fraction(1)
    with av.open(str(path)) as container:
        sound: Any = container.streams.audio[0]
        parts = list(container.decode(sound))
        samples = np.concatenate([part.to_ndarray()[0] for part in parts])
        start = parts[0].pts * parts[0].time_base
        return Shown(
            *size,
            rotation,
            rate,
            aspect,
            pts,
            end,
            movie_s,
            numbers,
            sound.rate,
            sound.channels,
            start,
            samples,
            sound.layout.name,
            first.format.components[0].bits,
            int(first.color_range) == 2,
            (int(first.colorspace), int(first.color_primaries), int(first.color_trc)),
            bool(first.interlaced_frame),
        )


def difference(path: Path | None, source: Path) -> NDArray[np.float64]:
    """How far the luma of two videos of one size is apart, on average over their common frames."""
    assert path is not None
    with av.open(str(path)) as one, av.open(str(source)) as other:
        pairs = zip(one.decode(video=0), other.decode(video=0), strict=False)
        lumas = [(a.to_ndarray()[: a.height].astype(float), b.to_ndarray()[: b.height].astype(float)) for a, b in pairs]
    return np.mean([np.abs(a - b) for a, b in lumas], axis=0)
