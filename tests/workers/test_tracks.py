"""A face is followed as far as a job needs it, and once for all jobs of a video."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import farm.cli
from farm.domain.factor import Media
from farm.domain.job import FaceChoice, FaceSetting, JobSpec, Kind, SyncMode
from farm.domain.limits import MediaLimits
from farm.domain.media import VideoFacts
from farm.domain.order import Blob
from farm.domain.span import Span
from farm.media import decode
from tests import media_files
from workers import plan_file, survey, tracks
from workers.studio import Studio
from workers.work import Planned, PlanWork

ACTOR = Path(farm.cli.__path__[0]) / "demo_material" / "actor.mp4"
FRAMES = 151
SPEC = JobSpec("one", Kind.DUB, Media(uri="file:///s"), Media(uri="file:///v"))


def facts(*, seconds: int = 100, is_vfr: bool = False) -> VideoFacts:
    rate = Fraction(25)
    return VideoFacts(
        "h264", 64, 64, 0, Fraction(1), rate, 1 / rate, 25 * seconds, Fraction(seconds), is_vfr, "yuv420p", 8, False,
        "bt709", "bt709", "bt709",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wanted_s", "seconds", "reach"),
    [
        (Fraction(3), 100, 15),
        (Fraction(14), 100, 15),
        (Fraction(29, 2), 100, 30),
        (Fraction(50), 100, 60),
        (Fraction(60), 100, None),  # twice 60 is more than there is
        (Fraction(14), 15, None),
        (Fraction(14), 16, 15),
        (None, 100, None),
    ],
)
def test_how_far_a_face_is_followed(wanted_s: Fraction | None, seconds: int, reach: int | None) -> None:
    assert tracks.reach_s(wanted_s, facts(seconds=seconds)) == reach


@pytest.mark.parametrize(
    ("change", "needed"),
    [
        ({}, 7),
        ({"sync_mode": SyncMode.LOOP}, 7),
        ({"sync_mode": SyncMode.BOUNCE}, 7),
        ({"sync_mode": SyncMode.SILENCE}, None),
        ({"sync_mode": SyncMode.REMAP}, None),
        ({"kind": Kind.ANIMATE}, None),
        ({"face": FaceSetting(FaceChoice.POINT, 0, (3, 3))}, 7),
        ({"face": FaceSetting(FaceChoice.POINT, 247, (3, 3))}, 10),
    ],
)
def test_how_much_of_the_source_is_shown(change: dict[str, Any], needed: int | None) -> None:
    assert tracks.needed_s(replace(SPEC, **change), Fraction(7), facts()) == needed


def test_a_pointed_frame_of_a_video_of_changing_rate_may_be_anywhere() -> None:
    spec = replace(SPEC, face=FaceSetting(FaceChoice.POINT, 30, (3, 3)))
    assert tracks.needed_s(spec, Fraction(7), facts(is_vfr=True)) is None


def test_a_driving_video_is_used_as_long_as_the_output_lasts() -> None:
    assert tracks.driven_s(SPEC, Fraction(7), facts()) == 7
    assert tracks.driven_s(replace(SPEC, sync_mode=SyncMode.SILENCE), Fraction(7), facts()) == 100


def test_every_way_of_choosing_a_face_has_tracks_of_its_own() -> None:
    point = FaceSetting(FaceChoice.POINT, 3, (1.0, 2.0))
    reference = FaceSetting(FaceChoice.REFERENCE, reference=Media(uri="https://here/a.png"))
    one, other = (Blob("", 1, digit * 64) for digit in "ab")
    found = [
        tracks.how(FaceSetting(), None),
        tracks.how(point, None),
        tracks.how(replace(point, frame=4), None),
        tracks.how(reference, one),
        tracks.how(reference, other),
    ]
    assert len(set(found)) == len(found)
    elsewhere = replace(reference, reference=Media(uri="https://there/b.png"))
    assert tracks.how(elsewhere, one) == tracks.how(reference, one)


def surveyed(studio: Studio, folder: Path, kept: Path, voice_s: float) -> tuple[Planned, plan_file.PlanFile]:
    folder.mkdir()
    kept.mkdir(exist_ok=True)
    voice = media_files.audio(folder / "voice.wav", seconds=voice_s)
    limits = MediaLimits()
    work = PlanWork(SPEC, ACTOR, voice, (), None, 8, limits, folder / "plan.npz", folder / "speech.wav", (kept,))
    planned: Any = studio(work, lambda report: None, lambda: None)
    return planned, plan_file.read(work.plan)


def test_a_video_is_followed_as_far_as_its_voice_goes_and_once_only(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracks, "FIRST_S", 1)
    kept = tmp_path / "kept"
    first, plan = surveyed(studio, tmp_path / "first", kept, 0.9)
    assert first.tracks == (kept / "2s.npz",)
    (video,) = plan.videos
    assert 50 <= len(video.index) == len(video.run) < 60
    assert (video.run >= 0).all()
    assert first.frames_total == 23
    # What is told of the source is about all of it.
    assert first.source_facts.video is not None
    assert first.source_facts.video.frames == FRAMES
    with decode.open_video(ACTOR, video.index) as opened:
        assert [frame.index for frame in opened.frames(Span(40, 42))] == [40, 41]

    def refused(*_: object) -> None:
        raise AssertionError("followed again")

    monkeypatch.setattr(survey, "Tracker", refused)
    again, other = surveyed(studio, tmp_path / "again", kept, 0.8)
    assert again.tracks == ()
    assert again.frames_total == 20
    assert again.faces_found == first.faces_found
    assert other.videos[0].best_frame == video.best_frame
    assert other.videos[0].picture == video.picture
    for mine, its in ((other.videos[0].run, video.run), (other.videos[0].points, video.points)):
        assert np.array_equal(mine, its)
    assert np.array_equal(other.videos[0].crop_from_frame, video.crop_from_frame)
    with pytest.raises(AssertionError, match="followed again"):
        surveyed(studio, tmp_path / "longer", kept, 1.5)


def test_a_scan_that_ends_early_has_the_index_of_what_it_saw() -> None:
    whole = decode.scan(ACTOR)
    assert sum(1 for _ in whole) == FRAMES
    part = decode.scan(ACTOR, until_s=Fraction(2))
    seen = [frame.index for frame in part]
    assert seen == list(range(51))
    assert part.index.duration_s >= 2
    assert part.index.pts.tolist() == whole.index.pts[:51].tolist()
    assert part.index.check.tolist() == whole.index.check[:51].tolist()
    assert part.facts.frames == 51
