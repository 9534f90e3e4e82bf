"""`make exactness`: the frames of a job are the same bits however it is cut, printed as a table.

The whole way: a drawn actor's video is planned (probed in the sandbox, his face followed), then rendered with the
shipped bundle in chunks of 1, 7, 50, 333 frames and in one, and the SHA-256 of every frame's samples compared as they
go into the encoder. `python -m tests.proofs.exactness [--frames N] [--only NAME…] [--batch N]`.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from farm.domain.factor import Factors, Media
from farm.domain.job import JobSpec, Kind, SyncMode
from farm.domain.limits import UNSET
from farm.domain.span import Span, cut
from farm.embedded.first_start import SHIPPED
from farm.nets.bundle import manifest_sha256
from tests import media_files
from workers import plan_file
from workers.studio import Studio
from workers.studio_setup import Setup
from workers.work import BundleFolder, Planned, PlanWork, RenderWork

SIZES: Final = (1, 7, 50, 333)
FRAMES: Final = 340
CHANGING: Final = (20, 41, 33, 58, 25, 47, 37)
"""Milliseconds that the frames of the video of changing rate are shown, over and over."""


def changing(frames: int) -> list[int]:
    at = [0]
    for k in range(frames - 1):
        at.append(at[-1] + CHANGING[k % len(CHANGING)])
    return at


def sources(frames: int) -> Mapping[str, Mapping[str, Any]]:
    return {
        "23.976 fps": {"rate": Fraction(24000, 1001)},
        "29.97 fps": {"rate": Fraction(30000, 1001)},
        "60 fps": {"rate": Fraction(60)},
        "changing rate": {"pts": changing(frames), "time_base": Fraction(1, 1000)},
        "rotated by 90": {"width": 108, "height": 144, "rotation": 90},
        "10-bit": {"codec": "libx265", "pixel_format": "yuv420p10le", "colors": (9, 9, 16)},
    }


@dataclass(frozen=True)
class Job:
    """A planned job and what its chunks need."""

    spec: JobSpec
    planned: Planned
    work: PlanWork
    bundle: BundleFolder

    def render(self, studio: Studio, spans: Sequence[Span], folder: Path) -> dict[int, str]:
        """Frame hashes of the job rendered in these spans."""
        found: dict[int, str] = {}
        for span in spans:
            work = RenderWork(
                self.spec,
                str(self.work.plan),
                self.planned.source_facts,
                self.bundle,
                self.work.plan,
                self.work.source,
                (),
                self.work.speech,
                span,
                None,
                folder / "segment.mp4",
                frame_hashes=folder / "frames.txt",
            )
            studio(work, lambda report: None, lambda: None)
            lines = (folder / "frames.txt").read_text().splitlines()
            found |= {int(index): sha256 for index, sha256 in (line.split() for line in lines)}
        return found


def shipped() -> BundleFolder:
    folder = min(manifest.parent for manifest in SHIPPED.glob("*/manifest.json"))
    return BundleFolder(folder, manifest_sha256(folder))


def voice(folder: Path, seconds: float) -> Path:
    """The demo's voice, over and over."""
    spoken = media_files.ACTOR.with_name("voice_en.flac")
    dest = folder / "voice.wav"
    return media_files.ffmpeg("-stream_loop", "-1", "-i", str(spoken), "-t", str(seconds), "-ar", "48000", dest=dest)


def planned(studio: Studio, folder: Path, source: Path, spoken: Path, batch: int, bundle: BundleFolder) -> Job:
    (folder / "tracks").mkdir(exist_ok=True)
    spec = JobSpec("one", Kind.DUB, Media(uri="file:///s"), Media(uri="file:///v"), SyncMode.CUT_OFF, Factors())
    work = PlanWork(
        spec, source, spoken, (), None, batch, UNSET, folder / "plan.npz", folder / "speech.wav", (folder / "tracks",)
    )
    made: Any = studio(work, lambda report: None, lambda: None)
    return Job(spec, made, work, bundle)


@dataclass(frozen=True)
class Row:
    source: str
    chunk_frames: int | None
    chunks: int
    frames: int
    different: int
    seconds: float
    sha256: str


def prove(
    studio: Studio, name: str, options: Mapping[str, Any], frames: int, batch: int, folder: Path
) -> Iterator[Row]:
    """A row for the whole and one for each chunk size; `different` counts frames unlike the whole's."""
    size: dict[str, Any] = {"width": 192, "height": 108} | dict(options)
    source = media_files.video(folder / "source.mp4", frames=frames, picture=media_files.actor_of, **size)
    job = planned(studio, folder, source, voice(folder, frames / 12), batch, shipped())
    total = len(plan_file.read(job.work.plan).timeline)
    if total != frames or job.planned.faces_found < frames // 2:
        raise RuntimeError(f"{name}: {total} frames planned, {job.planned.faces_found} faces found, of {frames}")
    whole: dict[int, str] = {}
    for chunk_frames in (None, *SIZES):
        spans = (Span(0, total),) if chunk_frames is None else cut(total, chunk_frames)
        started = time.monotonic()
        found = job.render(studio, spans, folder)
        whole = whole or found
        if sorted(found) != list(range(total)):
            raise RuntimeError(f"{name}: chunks of {chunk_frames} made {len(found)} frames of {total}")
        different = sum(found[k] != whole[k] for k in range(total))
        digest = hashlib.sha256("".join(found[k] for k in range(total)).encode()).hexdigest()
        yield Row(name, chunk_frames, len(spans), total, different, time.monotonic() - started, digest)


def main() -> None:
    parser = argparse.ArgumentParser(description="Chunks are invisible: raw-frame hashes at every chunk size.")
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--only", nargs="*", help=f"of {', '.join(sources(1))}")
    asked = parser.parse_args()
    studio = Studio(Setup("cpu", threads=1))
    different = 0
    print(f"{'source':<16}{'chunk':>7}{'chunks':>8}{'frames':>8}{'different':>11}{'seconds':>9}  SHA-256 of all frames")
    for name, options in sources(asked.frames).items():
        if asked.only and name not in asked.only:
            continue
        with tempfile.TemporaryDirectory(prefix="exactness-") as folder:
            for row in prove(studio, name, options, asked.frames, asked.batch, Path(folder)):
                different += row.different
                size = "all" if row.chunk_frames is None else str(row.chunk_frames)
                print(
                    f"{row.source:<16}{size:>7}{row.chunks:>8}{row.frames:>8}{row.different:>11}{row.seconds:>9.1f}"
                    f"  {row.sha256[:16]}",
                    flush=True,
                )
    print("every frame is the same bits at every chunk size" if not different else f"{different} frames differ")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
