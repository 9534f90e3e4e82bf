"""Taps, smoothing and putting codes together: tables, and slow twins."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from farm.domain import timeline
from farm.domain.factor import Drive, Driver, Factor, Factors, FactorSegment, FactorSetting, Media
from farm.domain.job import JobSpec, Kind, SyncMode
from farm.domain.span import Span
from workers import factors, sections
from workers.factors import Clock, Lane


def runs(text: str) -> np.ndarray:
    """'-' without a face, else the run's digit."""
    return np.array([-1 if c == "-" else int(c) for c in text], np.int32)


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("000", [0, 1, 2]),
        ("-0-", [1, 1, 1]),
        ("0---1", [0, 0, 0, 4, 4]),  # the earlier of two as near
        ("--0--", [2, 2, 2, 2, 2]),
        ("0--1", [0, 0, 3, 3]),
    ],
)
def test_frames_without_a_face_hold_the_nearest_that_has_one(text: str, nearest: list[int]) -> None:
    assert factors.nearest_faced(runs(text)).tolist() == nearest


def test_a_video_without_any_face_has_no_codes() -> None:
    with pytest.raises(ValueError, match="no frame has a face"):
        factors.nearest_faced(runs("---"))


def test_run_bounds() -> None:
    start, stop = factors.run_bounds(runs("00-112--"))
    assert start.tolist() == [0, 0, 2, 3, 3, 5, 6, 7]
    assert stop.tolist() == [2, 2, 3, 5, 5, 6, 7, 8]


@pytest.mark.parametrize("length", [1, 2, 3, 7, 13])
def test_reflection_is_that_of_numpy(length: int) -> None:
    frames = np.arange(length)
    padded = np.pad(frames, 6, mode="reflect") if length > 1 else np.zeros(13, int)
    index = np.arange(-6, length + 6)
    zero = np.zeros(1, np.int64)
    assert factors.reflected(index, zero, zero + length).tolist() == padded.tolist()


@pytest.mark.parametrize(
    ("text", "frame", "width", "expected"),
    [
        ("00000", 2, 3, [1, 2, 3]),
        ("00000", 0, 3, [1, 0, 1]),
        ("00000", 4, 3, [3, 4, 3]),
        ("00011", 2, 3, [1, 2, 1]),  # the next shot is another run
        ("00011", 3, 3, [4, 3, 4]),
        ("00-00", 2, 3, [0, 1, 0]),  # held, and smoothed in the run it is held from
        ("-0-", 1, 3, [1, 1, 1]),
        ("0000", 1, 13, [1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]),
    ],
)
def test_taps_stay_in_their_run(text: str, frame: int, width: int, expected: list[int]) -> None:
    text_runs = runs(text)
    if text == "00-00":
        text_runs[3:] = 1
    assert factors.taps(np.array([frame]), text_runs, width).tolist() == [expected]


def test_taps_do_not_depend_on_the_chunk() -> None:
    random = np.random.default_rng(3)
    text_runs = np.repeat(np.arange(9), random.integers(1, 20, 9)).astype(np.int32)
    text_runs[random.random(len(text_runs)) < 0.1] = -1
    text_runs[0] = 0
    for start in range(1, len(text_runs)):
        if text_runs[start] >= 0 and text_runs[start - 1] < 0:
            text_runs[start:] += 20  # a run that was broken is another one after
    frames = np.arange(len(text_runs))
    whole = factors.taps(frames, text_runs, 13)
    for start in range(0, len(frames), 7):
        assert (factors.taps(frames[start : start + 7], text_runs, 13) == whole[start : start + 7]).all()


def test_kernels_sum_to_one() -> None:
    for kernel in factors.KERNELS.values():
        assert sum(kernel) == pytest.approx(1, abs=1e-7)
    assert pytest.approx((0.2741, 0.4519, 0.2741), abs=1e-4) == factors.GAUSSIAN_3


def test_audio_taps_reflect_at_the_ends_of_the_job_only() -> None:
    assert factors.audio_taps(np.arange(3), 3).tolist() == [[1, 0, 1], [0, 1, 2], [1, 2, 1]]
    assert factors.audio_taps(np.arange(1), 1).tolist() == [[0, 0, 0]]
    assert factors.audio_taps(np.arange(5, 7), 9).tolist() == [[4, 5, 6], [5, 6, 7]]


def test_smoothing_against_its_slow_twin() -> None:
    random = np.random.default_rng(4)
    codes = random.standard_normal((30, 5)).astype(np.float32)
    text_runs = runs("0" * 12 + "1" * 18)
    lane = Lane(0, np.ones(30, np.float32), factors.MEAN_13, factors.taps(np.arange(30), text_runs, 13))
    fast = factors.smoothed(lambda at: codes[at], lane, slice(3, 25))
    for row, frame in enumerate(range(3, 25)):
        low, high = (0, 12) if frame < 12 else (12, 30)
        run = np.pad(codes[low:high], ((6, 6), (0, 0)), mode="reflect")
        slow = run[frame - low : frame - low + 13].astype(np.float64).mean(0)
        assert np.allclose(fast[row], slow, atol=1e-6)


def test_gaze_and_blink_are_driven_apart() -> None:
    gaze = np.arange(6, dtype=np.float32)[None] + 10
    blink = np.arange(6, dtype=np.float32)[None]
    assert factors.eye(gaze, blink).tolist() == [[0, 1, 12, 13, 4, 5]]


def test_canonical_is_zero_and_a_blend_is_weighted() -> None:
    assert factors.combined([], 2, 3).tolist() == [[0] * 3] * 2
    one, quarter = np.ones((1, 3), np.float32), np.full(1, 0.25, np.float32)
    assert factors.combined([(quarter, one), (2 * quarter, 2 * one)], 1, 3).tolist() == [[1.25] * 3]


A, B = Media(uri="https://a"), Media(uri="https://b")


GAINS = {Factor.LIP: 1.5, Factor.POSE: 1.0, Factor.GAZE: 1.0, Factor.BLINK: 1.0, Factor.EXPRESSION: 1.0}


def spec(own: Factors, *segments: FactorSegment) -> JobSpec:
    return JobSpec("one", Kind.DUB, Media(uri="https://s"), Media(uri="https://v"), factors=own, segments=segments)


def test_each_driving_video_is_listed_once_in_the_order_of_the_factors() -> None:
    wanted = Factors(
        pose=FactorSetting(Drive.VIDEO, (Driver(B),)),
        expression=FactorSetting(Drive.BLEND, (Driver(A, 0.5), Driver(B, 0.5))),
    )
    assert factors.driver_media(wanted) == (B, A)
    assert factors.driver_media(Factors(), wanted, wanted) == (B, A)


def test_lanes_follow_source_drivers_and_time() -> None:
    wanted = Factors(
        pose=FactorSetting(Drive.CANONICAL),
        gaze=FactorSetting(Drive.VIDEO, (Driver(A),)),
        expression=FactorSetting(Drive.BLEND, (Driver(A, 0.25), Driver(B, 0.75))),
    )
    # 10 source frames at 25 a second, looped under 0.8 s of voice; driver A runs at 50 and bounces after 0.2 s.
    shown = timeline.build(SyncMode.LOOP, range(10), 10, Fraction(1, 25), Fraction(4, 5))
    clocks = [
        Clock(range(10), 10, Fraction(1, 25)),
        Clock(range(10), 10, Fraction(1, 50)),
        Clock((0,), 1, Fraction(1, 25)),
    ]
    tracks = [runs("0" * 10), runs("0" * 10), runs("0")]
    lanes = factors.lanes(spec(wanted), GAINS, shown, Span(4, 14), tracks, clocks)
    (lip,) = lanes[Factor.LIP]
    assert lip.video == factors.VOICE
    assert lip.weight_N.tolist() == [1.5] * 10
    assert lanes[Factor.POSE] == ()
    (blink,) = lanes[Factor.BLINK]
    assert blink.video == factors.SOURCE
    assert blink.taps_NW[:, 0].tolist() == [4, 5, 6, 7, 8, 9, 0, 1, 2, 3]
    (gaze,) = lanes[Factor.GAZE]
    assert gaze.video == 1
    assert gaze.taps_NW[:, 0].tolist() == [8, 9, 8, 6, 4, 2, 0, 2, 4, 6]
    first, second = lanes[Factor.EXPRESSION]
    assert (first.video, second.video) == (1, 2)
    assert first.weight_N.tolist() == [0.25] * 10
    assert second.weight_N.tolist() == [0.75] * 10
    assert first.taps_NW.shape == (10, 13)
    assert (second.taps_NW == 0).all()


SEGMENTS: dict[str, tuple[tuple[FactorSegment, ...], list[list[float]]]] = {
    "none": ((), [[1] * 6]),
    "hard": (
        (FactorSegment(1.0, 3.0, Factors(), ease_s=0),),
        [[1, 0, 0, 1, 1, 1], [0, 1, 1, 0, 0, 0]],
    ),
    "eased, half at its ends": (
        (FactorSegment(1.0, 4.0, Factors(), ease_s=2),),
        [[1, 0.5, 0, 0, 0.5, 1], [0, 0.5, 1, 1, 0.5, 0]],
    ),
    "one after another, with the shorter ease": (
        (FactorSegment(3.0, 9.0, Factors(), ease_s=0), FactorSegment(1.0, 3.0, Factors(), ease_s=2)),
        [[1, 0.5, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1], [0, 0.5, 1, 0, 0, 0]],
    ),
    "beyond the end": ((FactorSegment(7.0, 9.0, Factors()),), [[1] * 6, [0] * 6]),
}


@pytest.mark.parametrize("name", SEGMENTS)
def test_shares_of_segments(name: str) -> None:
    segments, expected = SEGMENTS[name]
    assert sections.shares(segments, np.arange(6.0)).tolist() == expected


def test_shares_sum_to_one_and_have_no_jump() -> None:
    segments = [FactorSegment(a, b, Factors(), e) for a, b, e in ((0, 1, 3), (1, 1.3, 0.5), (1.4, 2, 1), (2.05, 4, 2))]
    shares = sections.shares(segments, np.arange(0, 5, 0.005))
    assert np.allclose(shares.sum(0), 1)
    assert (shares >= 0).all()
    assert np.abs(np.diff(shares)).max() < 0.04


def test_a_segment_takes_codes_only_where_it_holds() -> None:
    shown = timeline.build(SyncMode.CUT_OFF, range(10), 10, Fraction(1, 10), Fraction(1))
    tracks, clocks = [runs("0" * 10)], [Clock(range(10), 10, Fraction(1, 10))]
    neutral = Factors(
        lip=FactorSetting(Drive.AUDIO, gain=0.5),
        expression=FactorSetting(Drive.CANONICAL),
        gaze=FactorSetting(Drive.SOURCE, gain=3.0),
    )
    job = spec(Factors(), FactorSegment(0.2, 0.5, neutral, ease_s=0))
    lanes = factors.lanes(job, GAINS, shown, Span(0, 10), tracks, clocks)
    held = np.zeros(10, bool)
    held[2:5] = True
    (lip,), (gaze,), (blink,), (expression,) = (
        lanes[f] for f in (Factor.LIP, Factor.GAZE, Factor.BLINK, Factor.EXPRESSION)
    )
    assert lip.weight_N.tolist() == np.where(held, 0.5, 1.5).tolist()
    assert gaze.weight_N.tolist() == np.where(held, 3, 1).tolist()
    assert blink.weight_N.tolist() == [1] * 10
    assert expression.weight_N.tolist() == np.where(held, 0, 1).tolist()
    assert lanes[Factor.EXPRESSION][0].taps_NW[2:5, 6].tolist() == [1, 1, 5]  # those of a frame that needs them
    inside = factors.lanes(job, GAINS, shown, Span(2, 5), tracks, clocks)
    assert inside[Factor.EXPRESSION] == ()
