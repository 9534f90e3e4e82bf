"""What is broken never counts, what is poor is flagged; each check is shown a fault that it must see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from farm.domain.job import Kind
from farm.domain.quality import OnBreach, QualityLimits, flags
from farm.domain.span import Span
from farm.face.nets import FaceNets
from farm.media import decode
from farm.media.frame import Frame
from farm.media.mux import OutputCheckFailed
from farm.nets.synthesis import Synthesis
from tests import media_files
from tests.workers import planned
from workers.reasons import failure_of
from workers.scoring import Scorer, consecutive, jumps, looked_at, verdict
from workers.studio import Studio
from workers.work import BundleFolder

FRAMES = 12


@pytest.fixture(scope="module")
def nets() -> FaceNets:
    return FaceNets("cpu")


@pytest.fixture(scope="module")
def job(tiny: BundleFolder, tmp_path_factory: pytest.TempPathFactory) -> planned.Job:
    folder = tmp_path_factory.mktemp("scoring")
    source = media_files.video(folder / "source.mp4", frames=FRAMES, width=128, height=96)
    return planned.job(folder, source, tiny, loses_face=False)


@pytest.fixture
def scorer(job: planned.Job, nets: FaceNets, tmp_path: Path) -> Scorer:
    return Scorer(job.work(Span(0, FRAMES), tmp_path), job.plan, job.plan.videos[0].picture, None, lambda: nets)


def frames_of(job: planned.Job) -> list[Frame]:
    with decode.open_video(job.source, job.plan.videos[0].index) as video:
        return list(video.frames(Span(0, FRAMES)))


ALL = Span(0, FRAMES)
STYLE = torch.arange(FRAMES)[:, None].float()


def images() -> torch.Tensor:
    return torch.randn(FRAMES, 3, 16, 16, generator=torch.Generator().manual_seed(1)).tanh()


def test_a_generator_that_makes_no_numbers_is_noticed(scorer: Scorer) -> None:
    broken = images()
    broken[5, 0, 3, 3] = float("nan")
    with pytest.raises(OutputCheckFailed, match="no numbers"):
        scorer.generated(ALL, STYLE, broken)


def test_a_generator_that_makes_one_colour_is_noticed(scorer: Scorer) -> None:
    broken = images()
    broken[7] = -1
    with pytest.raises(OutputCheckFailed, match="empty picture"):
        scorer.generated(ALL, STYLE, broken)


def test_a_generator_that_repeats_itself_is_noticed(scorer: Scorer) -> None:
    scorer.generated(Span(0, 6), STYLE[:6], images()[:1].expand(6, -1, -1, -1))
    scorer.generated(Span(6, FRAMES), STYLE[6:], images()[:1].expand(6, -1, -1, -1))
    with pytest.raises(OutputCheckFailed, match="11 of 12 generated frames are the one before"):
        scorer.scores()


def test_the_same_codes_may_make_the_same_picture(scorer: Scorer) -> None:
    scorer.generated(ALL, torch.ones(FRAMES, 1), images()[:1].expand(FRAMES, -1, -1, -1))
    assert scorer.scores()["frozen"] == 0


def test_black_frames_are_noticed_where_the_source_is_not_black(scorer: Scorer, job: planned.Job) -> None:
    before = frames_of(job)
    after = [replace(frame, y=np.full_like(frame.y, 16)) for frame in before]
    scorer.composed(ALL, range(FRAMES), before, after)
    with pytest.raises(OutputCheckFailed, match="12 of 12 frames are black"):
        scorer.scores()


def test_a_source_that_is_black_may_stay_so(scorer: Scorer, job: planned.Job) -> None:
    dark = [replace(frame, y=np.full_like(frame.y, 16)) for frame in frames_of(job)]
    scorer.composed(ALL, range(FRAMES), dark, dark)
    assert scorer.scores()["black"] == 0


def test_landmarks_that_are_not_found_break_a_limit_of_trained_bundles_only(scorer: Scorer, job: planned.Job) -> None:
    """The synthetic pictures hold no face, while the plan says they do."""
    work = job.work(ALL, job.path.parent / "verdict")
    frames = frames_of(job)
    scorer.composed(ALL, range(FRAMES), frames, frames)
    scores = scorer.scores()
    assert scores["landmarks"] < 0.5
    assert verdict(scores, work, is_trained=False)[1] == ()
    assert verdict(scores, work, is_trained=True)[1] == ("landmarks_low",)
    strict = replace(work, quality=QualityLimits(on_breach=OnBreach.RERENDER))
    with pytest.raises(OutputCheckFailed, match="landmarks_low"):
        verdict(scores, strict, is_trained=True)
    assert verdict(scores, replace(strict, may_rerender=False), is_trained=True)[1] == ("landmarks_low",)


def test_a_broken_generator_fails_the_attempt_with_its_reason(
    studio: Studio, job: planned.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Synthesis.__call__
    monkeypatch.setattr(Synthesis, "__call__", lambda *given: made(*given) * float("nan"))
    with pytest.raises(OutputCheckFailed) as failed:
        studio(job.work(ALL, tmp_path / "out"), lambda report: None, lambda: None)
    assert failure_of(failed.value).reason == "output_check_failed"
    assert not (tmp_path / "out" / "segment.mp4").exists()


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (QualityLimits(), ()),
        (QualityLimits(identity_min=0.8), ("identity_low",)),
        (QualityLimits(identity_min=0.7, lip_agreement_min=0.1), ("lip_agreement_low",)),
        (QualityLimits(jitter_max=0.5, border_error_max=1), ("jitter_high",)),
        (QualityLimits(landmarks_min=None, border_error_max=0.1), ("border_error_high",)),
    ],
)
def test_limits(limits: QualityLimits, expected: tuple[str, ...]) -> None:
    scores = {"identity": 0.7, "lip_agreement": -0.1, "jitter": 0.9, "border_error": 0.4}
    assert flags(scores, limits) == expected


def test_which_frames_are_looked_at() -> None:
    faced = np.ones(20, bool)
    faced[[2, 11, 12]] = False
    assert np.flatnonzero(looked_at(faced, 4, 10)).tolist() == [3, 4, 5, 6, 13, 14, 15, 16]
    assert np.flatnonzero(looked_at(faced, 9, 10)).tolist() == [3, 4, 5, 6, 7, 8, 9, *range(13, 20)]
    assert not looked_at(np.zeros(5, bool), 3, 10).any()
    assert consecutive([1, 2, 4, 5, 6], 3) == [[4, 5, 6]]


def test_jitter_is_what_does_not_go_on_as_it_went() -> None:
    still = np.random.default_rng(2).uniform(0, 100, (478, 3)).astype(np.float32)
    still[[33, 263], :2] = [[20, 50], [80, 50]]
    steps = np.arange(9)[:, None, None].astype(np.float32)
    moving = still + np.array([2, 1, 0], np.float32) * steps
    assert jumps(dict(enumerate(moving)), range(9)).max() < 1e-5
    shaken = moving + np.array([0.6, 0, 0], np.float32) * (steps % 2)
    assert jumps(dict(enumerate(shaken)), range(9)) == pytest.approx(0.6 / 60, rel=1e-3)


def test_a_still_that_speaks_is_scored_too(studio: Studio, tiny: BundleFolder, tmp_path: Path) -> None:
    picture = media_files.image(tmp_path / "face.png", width=160, height=120)
    job = planned.job(tmp_path, picture, tiny, kind=Kind.ANIMATE, voice_s=0.4, loses_face=False)
    result: Any = studio(job.work(Span(0, 5), tmp_path / "out"), lambda report: None, lambda: None)
    assert {"face_found", "landmarks", "frozen", "black"} <= result.scores.keys()
