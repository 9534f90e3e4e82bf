"""Jobs planned by hand: synthetic pictures hold no face that a detector would find, so the track is drawn up here."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farm.domain import timeline
from farm.domain.factor import Factors, FactorSegment, Media
from farm.domain.job import JobSpec, Kind, SyncMode
from farm.domain.media import MediaFacts
from farm.domain.span import Span
from farm.face import points, runs
from farm.media import audio, decode, mel
from farm.media.index import FrameIndex
from tests import media_files
from workers import plan_file
from workers.plan_file import PlanFile, PlannedVideo
from workers.still import STILL_RATE, still_index
from workers.work import BundleFolder, RenderWork

BATCH = 4
LOST = slice(17, 21)
"""Frames without a face, and after them a new run."""


def drawn_points(centre: tuple[float, float], size: float) -> NDArray[np.float32]:
    """(K, 2): the kept points of an upright face, roughly where they belong."""
    out = np.zeros((points.K, 2), np.float32)

    def ring(group: tuple[int, ...], x: float, y: float, wide: float, high: float) -> None:
        turn = np.linspace(-np.pi / 2, 1.5 * np.pi, len(group), endpoint=False)
        out[list(group), 0] = x + wide * np.cos(turn)
        out[list(group), 1] = y + high * np.sin(turn)

    ring(points.FACE_OVAL, 0, 0, 0.75, 1.0)
    ring(points.LIPS_OUTER, 0, 0.5, 0.3, 0.12)
    ring(points.LIPS_INNER, 0, 0.5, 0.2, 0.05)
    ring(points.NOSE, 0, 0.1, 0.12, 0.25)
    ring(points.CHEEKS, 0, 0.2, 0.5, 0.5)
    for side, eye, brow, iris in (
        (-1, points.EYE_LEFT, points.BROW_LEFT, points.IRIS_LEFT),
        (1, points.EYE_RIGHT, points.BROW_RIGHT, points.IRIS_RIGHT),
    ):
        ring(eye, 0.32 * side, -0.25, 0.16, 0.07)
        ring(brow, 0.32 * side, -0.45, 0.2, 0.04)
        ring(iris, 0.32 * side, -0.25, 0.05, 0.05)
    return (np.array(centre) + size * out).astype(np.float32)


def followed(path: Path, *, loses_face: bool = True) -> PlannedVideo:
    """A video as planning would leave it, with a face that drifts."""
    scan = decode.scan(path)
    frames = sum(1 for _ in scan)
    return _drawn(scan.picture, scan.index, frames, loses_face)


def still(path: Path) -> PlannedVideo:
    _, picture = decode.image(path)
    return _drawn(picture, still_index(), 1, False)


def _drawn(picture: Any, index: FrameIndex, frames: int, loses_face: bool) -> PlannedVideo:
    run = np.zeros(frames, np.int32)
    if loses_face:
        run[LOST] = -1
        run[LOST.stop :] = 1
    size = 0.3 * min(picture.width, picture.height)
    at = np.arange(frames)
    x = picture.width / 2 + 4 * np.sin(at / 9)
    y = picture.height / 2 + 3 * np.cos(at / 7)
    turn, scale = 0.1 * np.sin(at / 11), 75 / size
    crop = np.zeros((frames, 2, 3))
    crop[:, 0, 0] = crop[:, 1, 1] = scale * np.cos(turn)
    crop[:, 1, 0] = scale * np.sin(turn)
    crop[:, 0, 1] = -crop[:, 1, 0]
    crop[:, :, 2] = 112 - (crop[:, :, :2] @ np.stack([x, y], 1)[:, :, None])[:, :, 0]
    drawn = np.stack([drawn_points((float(a), float(b)), size) for a, b in zip(x, y, strict=True)])
    drawn[run < 0] = 0
    share = runs.share(run, np.zeros(frames, np.int32), float(index.frame_rate))
    return PlannedVideo(picture, index, run, share, drawn, crop, best_frame=min(3, frames - 1))


@dataclass(frozen=True)
class Job:
    """A planned job on disk."""

    spec: JobSpec
    plan: PlanFile
    path: Path
    source: Path
    drivers: tuple[Path, ...]
    voice: Path
    speech: Path
    facts: MediaFacts
    bundle: BundleFolder

    def work(self, span: Span, folder: Path, batch_frames: int | None = None) -> RenderWork:
        folder.mkdir(parents=True, exist_ok=True)
        return RenderWork(
            self.spec,
            str(self.path),
            self.facts,
            self.bundle,
            self.path,
            self.source,
            self.drivers,
            self.speech,
            span,
            batch_frames,
            folder / "segment.mp4",
            preview=folder / "preview.jpg",
            frame_hashes=folder / "frames.txt",
        )


def job(
    folder: Path,
    source: Path,
    bundle: BundleFolder,
    *,
    kind: Kind = Kind.DUB,
    drivers: tuple[Path, ...] = (),
    factors: Factors | None = None,
    sync_mode: SyncMode = SyncMode.CUT_OFF,
    voice_s: float = 3.0,
    loses_face: bool = True,
    segments: tuple[FactorSegment, ...] = (),
) -> Job:
    voice = media_files.audio(folder / "voice.wav", seconds=voice_s, rate=44_100)
    speech = folder / "speech.wav"
    spoken = audio.speech(voice, speech)
    spec = JobSpec(
        "one",
        kind,
        Media(uri="file:///s"),
        Media(uri="file:///v"),
        sync_mode,
        factors or Factors(),
        segments=segments,
    )
    if kind is Kind.DUB:
        first = followed(source, loses_face=loses_face)
        index = first.index
        shown = timeline.build(sync_mode, index.pts.tolist(), index.end_pts, index.time_base, spoken.duration_s)
        rate: Fraction = index.frame_rate
        scan = decode.scan(source)
        scan.index_only()
        facts = scan.facts
    else:
        first = still(source)
        shown, rate, facts = timeline.steady(STILL_RATE, spoken.duration_s), STILL_RATE, None
    loudness = mel.rms(audio.read(speech, 0, audio.length(speech)))
    videos = (first, *(followed(driver) for driver in drivers))
    plan = PlanFile(shown, rate, loudness, BATCH, videos)
    path = folder / "plan.npz"
    plan_file.write(path, plan)
    media = MediaFacts("mov", source.stat().st_size, facts)
    return Job(spec, plan, path, source, drivers, voice, speech, media, bundle)


def hashes(path: Path) -> dict[int, str]:
    """Output frame -> SHA-256 of its planes."""
    return {int(k): sha256 for k, sha256 in (line.split() for line in path.read_text().splitlines())}
