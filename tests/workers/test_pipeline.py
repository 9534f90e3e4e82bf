"""Chunked is whole: the frames of a job are the same bits however it is cut, whatever the source is like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farm.domain.factor import Drive, Driver, Factors, FactorSegment, FactorSetting, Media
from farm.domain.job import Kind, SyncMode
from farm.domain.order import Progress
from farm.domain.span import Span, cut
from farm.media import decode
from farm.media.frame import Frame
from tests import media_files
from tests.workers import planned
from workers import plan_file
from workers.pipeline import frame_sha256
from workers.studio import Studio
from workers.studio_setup import Setup
from workers.work import BundleFolder, FinalizeWork, Preview

FRAMES = 51


def rendered(studio: Studio, job: planned.Job, spans: tuple[Span, ...], folder: Path) -> dict[int, str]:
    """Frame hashes of the job rendered in these spans."""
    found: dict[int, str] = {}
    for span in spans:
        work = job.work(span, folder / f"{span.start}-{span.stop}")
        result: Any = studio(work, lambda report: None, lambda: None)
        assert result.frames == len(span)
        assert work.frame_hashes is not None
        found |= planned.hashes(work.frame_hashes)
    return found


def changing_pts() -> list[int]:
    steps = np.random.default_rng(5).integers(20, 60, FRAMES)
    return [0, *np.cumsum(steps)[:-1].tolist()]


SOURCES: dict[str, dict[str, Any]] = {
    "23.976": {"rate": Fraction(24000, 1001)},
    "25": {"rate": Fraction(25)},
    "60": {"rate": Fraction(60)},
    "vfr": {"pts": changing_pts(), "time_base": Fraction(1, 1000)},
    "rotated": {"rotation": 90, "width": 96, "height": 132},
}


@pytest.mark.parametrize("source", SOURCES)
def test_chunked_is_whole(source: str, studio: Studio, tiny: BundleFolder, tmp_path: Path) -> None:
    options = {"width": 128, "height": 96, **SOURCES[source]}
    path = media_files.video(tmp_path / "source.mp4", frames=FRAMES, **options)
    job = planned.job(tmp_path, path, tiny, voice_s=0.9 if source == "60" else 3.0)
    total = len(job.plan.timeline)
    whole = rendered(studio, job, (Span(0, total),), tmp_path / "whole")
    assert sorted(whole) == list(range(total))
    assert rendered(studio, job, cut(total, 7), tmp_path / "sevens") == whole
    assert rendered(studio, job, cut(total, 50), tmp_path / "fifties") == whole
    ones = tuple(Span(k, k + 1) for k in (0, 16, 21, total - 1))
    assert rendered(studio, job, ones, tmp_path / "ones") == {k.start: whole[k.start] for k in ones}
    untouched = {frame.index: frame_sha256(frame) for frame in frames_of(path, job)}
    same = {k for k in whole if whole[k] == untouched[job.plan.timeline.source_index[k]]}
    assert same == set(range(planned.LOST.start, planned.LOST.stop))

    segments = tuple(tmp_path / "sevens" / f"{span.start}-{span.stop}" / "segment.mp4" for span in cut(total, 7))
    assembled: Any = studio(
        FinalizeWork(job.spec, job.path, segments, job.voice, tmp_path / "output.mp4"),
        lambda report: None,
        lambda: None,
    )
    assert assembled.frames == total
    scan = decode.scan(tmp_path / "output.mp4")
    shown = [media_files.number_of(frame.y) for frame in scan]
    assert shown == list(job.plan.timeline.source_index)
    timeline = job.plan.timeline
    assert [at * scan.index.time_base for at in scan.index.pts.tolist()] == [timeline.time_s(k) for k in range(total)]


def frames_of(path: Path, job: planned.Job) -> list[Frame]:
    with decode.open_video(path, job.plan.videos[0].index) as video:
        return list(video.frames(Span(0, len(video.index))))


A, B = Media(uri="file:///a"), Media(uri="file:///b")


def driven() -> Factors:
    """Every drive at once."""
    return Factors(
        lip=FactorSetting(Drive.VIDEO, (Driver(B),), gain=1.2),
        pose=FactorSetting(Drive.CANONICAL),
        gaze=FactorSetting(Drive.VIDEO, (Driver(A),)),
        expression=FactorSetting(Drive.BLEND, (Driver(A, 0.3), Driver(B, 0.7))),
    )


@pytest.mark.parametrize("mode", [SyncMode.BOUNCE, SyncMode.LOOP, SyncMode.REMAP, SyncMode.SILENCE])
def test_chunked_is_whole_with_drivers_in_every_mode(
    mode: SyncMode, studio: Studio, tiny: BundleFolder, tmp_path: Path
) -> None:
    path = media_files.video(tmp_path / "source.mp4", frames=30, width=128, height=96)
    a = media_files.video(tmp_path / "a.mp4", frames=24, rate=Fraction(30), width=96, height=96)
    b = media_files.video(tmp_path / "b.mp4", frames=31, rate=Fraction(24), width=120, height=90)
    job = planned.job(tmp_path, path, tiny, drivers=(b, a), factors=driven(), sync_mode=mode, voice_s=3.1)
    total = len(job.plan.timeline)
    assert total >= 77
    whole = rendered(studio, job, (Span(0, total),), tmp_path / "whole")
    assert rendered(studio, job, cut(total, 23), tmp_path / "chunks") == whole


def test_chunked_is_whole_with_segments(studio: Studio, tiny: BundleFolder, tmp_path: Path) -> None:
    """Eased and hard changes, from the voice to a video's lips and back, inside chunks and at their edges."""
    path = media_files.video(tmp_path / "source.mp4", frames=50, width=128, height=96)
    a = media_files.video(tmp_path / "a.mp4", frames=24, rate=Fraction(30), width=96, height=96)
    b = media_files.video(tmp_path / "b.mp4", frames=31, rate=Fraction(24), width=120, height=90)
    segments = (
        FactorSegment(1.2, 1.48, driven(), ease_s=0),
        FactorSegment(0.3, 0.8, driven(), ease_s=0.3),
    )
    job = planned.job(tmp_path, path, tiny, drivers=(b, a), segments=segments, voice_s=2.0)
    total = len(job.plan.timeline)
    whole = rendered(studio, job, (Span(0, total),), tmp_path / "whole")
    assert rendered(studio, job, cut(total, 7), tmp_path / "sevens") == whole
    assert rendered(studio, job, cut(total, 13), tmp_path / "thirteens") == whole
    (tmp_path / "other").mkdir()
    plain = planned.job(tmp_path / "other", path, tiny, voice_s=2.0)  # another job, another plan file
    changed = rendered(studio, plain, (Span(0, total),), tmp_path / "plain")
    held = {k for k in whole if 0.15 < k / 25 < 0.95 or 1.2 <= k / 25 < 1.48} - set(range(17, 21))
    assert {k for k in whole if whole[k] != changed[k]} == held


def test_an_animated_still(studio: Studio, tiny: BundleFolder, tmp_path: Path) -> None:
    picture = media_files.image(tmp_path / "face.png", width=160, height=120)
    job = planned.job(tmp_path, picture, tiny, kind=Kind.ANIMATE, voice_s=1.3, loses_face=False)
    total = len(job.plan.timeline)
    assert total == 33
    whole = rendered(studio, job, (Span(0, total),), tmp_path / "whole")
    assert rendered(studio, job, cut(total, 7), tmp_path / "sevens") == whole
    assert len(set(whole.values())) > total // 2  # the voice moves it
    with_segment = decode.scan(tmp_path / "whole" / f"0-{total}" / "segment.mp4")
    assert (with_segment.picture.width, with_segment.picture.height) == (64, 64)


def test_progress_previews_stage_seconds_and_abort(studio: Studio, tiny: BundleFolder, tmp_path: Path) -> None:
    path = media_files.video(tmp_path / "source.mp4", frames=30)
    job = planned.job(tmp_path, path, tiny)
    work = job.work(Span(0, 30), tmp_path / "out")
    reports: list[Any] = []
    result: Any = studio(work, reports.append, lambda: None)
    progress = [report for report in reports if isinstance(report, Progress)]
    assert progress[-1].frames_done == progress[-1].frames_total == 30
    (first, *_) = (report for report in reports if isinstance(report, Preview))
    assert first.path.read_bytes().startswith(b"\xff\xd8")
    stages = {"decode", "encode_factors", "generate", "composite", "encode", "watch"}
    assert set(result.seconds) == {*stages, *(f"{stage}_cpu" for stage in stages), "check", "cpu", "line"}
    assert sum(result.seconds[f"{stage}_cpu"] for stage in stages) <= result.seconds["cpu"]
    assert result.scores["face_found"] == (30 - (planned.LOST.stop - planned.LOST.start)) / 30

    with pytest.raises(KeyboardInterrupt):
        studio(job.work(Span(0, 30), tmp_path / "aborted"), lambda report: None, after(3, KeyboardInterrupt))
    assert not (tmp_path / "aborted" / "segment.mp4").exists()


def after(calls: int, error: type[BaseException]) -> Callable[[], None]:
    left = [calls]

    def check() -> None:
        left[0] -= 1
        if not left[0]:
            raise error

    return check


def test_a_halved_batch_renders_the_same_length(studio: Studio, tiny: BundleFolder, tmp_path: Path) -> None:
    job = planned.job(tmp_path, media_files.video(tmp_path / "source.mp4", frames=12), tiny, loses_face=False)
    result: Any = studio(job.work(Span(0, 12), tmp_path / "out", batch_frames=2), lambda report: None, lambda: None)
    assert result.frames == 12
    assert len(decode.scan(tmp_path / "out" / "segment.mp4").index_only()) == 12


@pytest.mark.parametrize("drive", [Drive.SOURCE, Drive.AUDIO])
def test_deterministic_frames_do_not_depend_on_the_batch_or_the_threads(
    drive: Drive, studio: Studio, tiny: BundleFolder, tmp_path: Path
) -> None:
    job = planned.job(tmp_path, media_files.video(tmp_path / "source.mp4", frames=9), tiny, loses_face=False)
    job = replace(job, spec=replace(job.spec, factors=replace(job.spec.factors, lip=FactorSetting(drive))))
    plan_file.write(job.path, replace(job.plan, deterministic=True))
    rendered = []
    for number, (batch, threads) in enumerate([(8, 1), (3, 2), (1, 1)]):
        kind = studio if threads == 1 else Studio(Setup("cpu", threads=threads))
        folder = tmp_path / f"out{number}"
        kind(job.work(Span(0, 9), folder, batch_frames=batch), lambda report: None, lambda: None)
        rendered.append(planned.hashes(folder / "frames.txt"))
    assert rendered[0] == rendered[1] == rendered[2]
    assert len(rendered[0]) == 9
