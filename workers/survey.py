"""Planning, child side: probe the inputs, follow the faces, fix the timeline, write the plan file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from farm.domain import timeline
from farm.domain.job import FaceChoice, FaceSetting, Kind, Phase
from farm.domain.media import AudioFacts, MediaFacts, VideoFacts
from farm.domain.order import Progress
from farm.errors import Rejected
from farm.face import likeness
from farm.face.align import crop_from_frame, steady_points
from farm.face.nets import FaceNets
from farm.face.track import Tracker
from farm.media import audio, mel
from farm.media.frame import Frame, PictureFormat
from farm.media.index import FrameIndex
from farm.media.sandbox import Sandbox
from workers import plan_file
from workers.reasons import about
from workers.still import STILL_RATE, still_index
from workers.work import Check, Planned, PlanWork, Report

SCAN_FRAMES: Final = 8
"""Frames handed to the tracker at once."""


def survey(work: PlanWork, nets: Callable[[], FaceNets], box: Sandbox, report: Report, check: Check) -> Planned:
    """Raises Rejected for every fault of the inputs; the detail says which file.

    Every file is read in `box` from its first byte to its last: what is rendered later has been read there before.
    """
    seconds = {"probing": 0.0, "tracking": 0.0}
    report(Progress(Phase.PROBING))

    def waiting() -> None:
        check()
        report(Progress(Phase.PROBING))

    box.while_waiting = waiting
    with _timed(seconds, "probing"):
        with about("source"):
            source_facts = box.probe(work.source)
        with about("voice"):
            voice_facts, audio_facts = box.speech(work.voice, work.speech)
            _check_voice(audio_facts)
        for number, driver in enumerate(work.drivers):
            check()
            with about(f"driving video {number + 1}"):
                box.probe(driver)
        loudness = mel.rms(_pieces(work.speech))
    with _timed(seconds, "tracking"):
        follow = _Follower(nets(), box, report, check)
        box.while_waiting = check
        reference = None
        if work.spec.face.choice is FaceChoice.REFERENCE and work.reference is not None:
            with about("face reference"):
                reference = likeness.of(follow.nets, *box.image(work.reference))
        with about("source"):
            if work.spec.kind is Kind.ANIMATE:
                source, facts, found = follow.still(work.source, source_facts, work.spec.face, reference)
            else:
                source, facts, found = follow.video(work.source, source_facts, work.spec.face, reference)
        videos = [source]
        for number, driver in enumerate(work.drivers):
            with about(f"driving video {number + 1}"):
                videos.append(follow.video(driver, None, FaceSetting(), None)[0])
    if work.spec.kind is Kind.ANIMATE:
        shown = timeline.steady(STILL_RATE, audio_facts.duration_s)
        rate = STILL_RATE
    else:
        index = source.index
        pts = index.pts.tolist()
        shown = timeline.build(work.spec.sync_mode, pts, index.end_pts, index.time_base, audio_facts.duration_s)
        rate = index.frame_rate
    plan = plan_file.PlanFile(shown, rate, loudness, work.batch_frames, tuple(videos))
    plan_file.write(work.plan, plan)
    return Planned(
        replace(source_facts, video=facts),
        replace(voice_facts, audio=audio_facts),
        frames_total=len(shown),
        faces_found=found,
        seconds=seconds,
    )


class _Follower:
    """Follows one face through one file after the other."""

    def __init__(self, nets: FaceNets, box: Sandbox, report: Report, check: Check) -> None:
        self.nets = nets
        self._box = box
        self._report = report
        self._check = check

    def still(
        self, path: Path, facts: MediaFacts, choice: FaceSetting, reference: likeness.Likeness | None
    ) -> tuple[plan_file.PlannedVideo, VideoFacts | None, int]:
        frame, picture = self._box.image(path)
        tracker = Tracker(self.nets, picture, choice, reference)
        tracker.add([frame])
        planned, found = _planned(tracker, picture, still_index())
        return planned, facts.video, found

    def video(
        self, path: Path, facts: MediaFacts | None, choice: FaceSetting, reference: likeness.Likeness | None
    ) -> tuple[plan_file.PlannedVideo, VideoFacts, int]:
        scan = self._box.scan(path)
        tracker = Tracker(self.nets, scan.picture, choice, reference)
        expected = facts.video.frames if facts is not None and facts.video is not None else 0
        window: list[Frame] = []
        done = 0
        started = time.monotonic()
        for frame in scan:
            window.append(frame)
            if len(window) < SCAN_FRAMES:
                continue
            tracker.add(window)
            done += len(window)
            window.clear()
            self._check()
            rate = done / max(time.monotonic() - started, 1e-9)
            self._report(Progress(Phase.TRACKING, done, max(expected, done), rate))
        if window:
            tracker.add(window)
        planned, found = _planned(tracker, scan.picture, scan.index)
        return planned, scan.facts, found


def _planned(tracker: Tracker, picture: PictureFormat, index: FrameIndex) -> tuple[plan_file.PlannedVideo, int]:
    track = tracker.finish()
    rate = float(index.frame_rate)
    transforms = crop_from_frame(track.anchors, track.run, rate)
    points = steady_points(track.points, track.run, transforms, rate)
    planned = plan_file.PlannedVideo(picture, index, track.run, points, transforms, track.best_frame)
    return planned, int(track.found.sum())


def _check_voice(facts: AudioFacts) -> None:
    if facts.duration_s <= 0:
        raise Rejected("media_no_audio", "its audio has no samples")


def _pieces(wav: Path) -> Iterator[np.ndarray]:
    length = audio.length(wav)
    step = 60 * audio.SPEECH_HZ
    for start in range(0, length, step):
        yield audio.read(wav, start, min(start + step, length))


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] += time.perf_counter() - started
