"""Windows: everything that a chunk needs is decoded in time, once where it can be, and memory stays bounded."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from farm.domain import timeline
from farm.domain.factor import Factor, Media
from farm.domain.job import JobSpec, Kind, SyncMode
from farm.domain.span import Span
from workers import factors
from workers.factors import Clock, Lane
from workers.reading import VOICE, Window, batches, windows

FRAMES = 100
SIZE = 8


def plan(mode: SyncMode, span: Span | None, voice_s: Fraction, **options: int) -> tuple[list[Window], list[Lane], Span]:
    shown = timeline.build(mode, range(FRAMES), FRAMES, Fraction(1, 25), voice_s)
    span = span or Span(0, len(shown))
    run = np.zeros(FRAMES, np.int32)
    spec = JobSpec("one", Kind.DUB, Media("file:///s"), Media("file:///v"))
    clocks = [Clock(range(FRAMES), FRAMES, Fraction(1, 25))]
    found = factors.lanes(spec, dict.fromkeys(Factor, 1.0), shown, span, [run], clocks)
    lanes = [lane for lanes in found.values() for lane in lanes if lane.video != VOICE]
    taps = factors.audio_taps(np.arange(span.start, span.stop), len(shown))
    steps = windows(
        span,
        SIZE,
        shown.source_index[span.start : span.stop],
        lanes,
        voice_taps=taps,
        shows_source=True,
        window_frames=options.pop("window_frames", 40),
        **options,
    )
    return list(steps), lanes, span


def test_batches_start_at_absolute_multiples() -> None:
    assert batches(Span(5, 18), 8) == (Span(5, 8), Span(8, 16), Span(16, 18))
    assert batches(Span(8, 9), 8) == (Span(8, 9),)


@pytest.mark.parametrize("mode", [SyncMode.CUT_OFF, SyncMode.SILENCE, SyncMode.LOOP, SyncMode.BOUNCE, SyncMode.REMAP])
@pytest.mark.parametrize("span", [None, Span(3, 4), Span(13, 90)])
@pytest.mark.parametrize("codes_kept", [4096, 0])
def test_every_window_has_what_it_needs(mode: SyncMode, span: Span | None, codes_kept: int) -> None:
    steps, lanes, span = plan(mode, span, Fraction(11), codes_kept=codes_kept)
    codes: set[tuple[int, int]] = set()
    done = span.start
    taps = factors.audio_taps(np.arange(span.start, span.stop), 10**6)
    for step in steps:
        codes |= {(video, frame) for video, frames in step.encode.items() for frame in frames}
        codes |= {(VOICE, k) for k in step.voice}
        for batch in step.batches:
            assert batch.start == done
            assert batch.start // SIZE == (batch.stop - 1) // SIZE
            done = batch.stop
            rows = slice(batch.start - span.start, batch.stop - span.start)
            for lane in lanes:
                assert {(lane.video, int(f)) for f in lane.taps_NW[rows].ravel()} <= codes
            if span.stop < 200:  # away from the job's end, where these taps would not reflect
                assert {(VOICE, int(k)) for k in taps[rows].ravel() if k < span.stop} <= codes
        codes -= set(step.forget)
    assert done == span.stop


def test_forward_play_makes_each_code_once_and_in_whole_batches() -> None:
    steps, _, _ = plan(SyncMode.CUT_OFF, None, Fraction(4))
    made = [frame for step in steps for frame in step.encode.get(0, ())]
    assert sorted(made) == list(range(FRAMES))
    for step in steps:
        frames = step.encode.get(0, ())
        assert len(frames) % SIZE in (0, FRAMES % SIZE)
    heard = [k for step in steps for k in step.voice]
    assert sorted(heard) == list(range(FRAMES))


def test_a_backward_run_is_read_in_windows_and_codes_are_kept() -> None:
    steps, _, _ = plan(SyncMode.BOUNCE, None, Fraction(8), window_frames=40)
    made = [frame for step in steps for frame in step.encode.get(0, ())]
    assert sorted(made) == list(range(FRAMES))
    longest = max(step.batches[-1].stop - step.batches[0].start for step in steps)
    assert SIZE < longest <= 40
    back = [step for step in steps if step.batches[0].start >= FRAMES]
    assert len(back) <= 4


def test_frames_at_hand_are_bounded() -> None:
    for mode in (SyncMode.CUT_OFF, SyncMode.BOUNCE, SyncMode.LOOP):
        steps, _, _ = plan(mode, None, Fraction(60))
        assert max(len(step.show | step.keep) for step in steps) <= 40 + factors.HALO + 2 * SIZE
