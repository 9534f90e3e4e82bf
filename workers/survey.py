"""Planning, child side: probe the inputs, follow the faces, fix the timeline, write the plan file."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from farm.domain import timeline
from farm.domain.job import FaceChoice, FaceSetting, Kind, Phase
from farm.domain.media import AudioFacts, MediaFacts, VideoFacts
from farm.domain.order import Progress
from farm.errors import Rejected
from farm.face import likeness, runs
from farm.face.align import crop_from_frame, steady_points
from farm.face.nets import FaceNets
from farm.face.speaker import Sound
from farm.face.track import Looked, Tracker
from farm.media import audio, hardware, mel
from farm.media.frame import Frame, PictureFormat
from farm.media.index import FrameIndex
from farm.media.sandbox import Sandbox
from farm.nets.batch import USUAL
from workers import plan_file, track_file, tracks
from workers.reasons import about
from workers.stages import Line
from workers.still import STILL_RATE, still_index
from workers.work import Check, Planned, PlanWork, Report

SCAN_FRAMES: Final = 4
"""Frames handed on at once: few, for windows of frames wait at every stage."""


def survey(
    work: PlanWork,
    nets: Callable[[], FaceNets],
    box: Sandbox,
    encoders: Collection[str],
    encoder_threads: int,
    report: Report,
    check: Check,
) -> Planned:
    """encoders: the hardware's, as `farm.media.hardware.encoders` found them. encoder_threads: of the processor's.

    Raises Rejected for every fault of the inputs; the detail says which file.

    Every file is read in `box`, a video as far as it is used: what is rendered later has been read there before, for
    this job or for the one that the track was made for.
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
        drivers_facts: list[VideoFacts | None] = []
        for number, driver in enumerate(work.drivers):
            check()
            with about(f"driving video {number + 1}"):
                drivers_facts.append(box.probe(driver).video)
        loudness = mel.rms(_pieces(work.speech))
    with _timed(seconds, "tracking"):
        follow = _Follower(nets(), box, report, check)
        voice_s = audio_facts.duration_s
        box.while_waiting = check
        reference = None
        if work.spec.face.choice is FaceChoice.REFERENCE and work.reference is not None:
            with about("face reference"):
                reference = likeness.of(follow.nets, *box.image(work.reference))
        with about("source"):
            if work.spec.kind is Kind.ANIMATE:
                source, facts, found = follow.still(work.source, source_facts, work.spec.face, reference)
            else:
                shown_s = tracks.needed_s(work.spec, voice_s, source_facts.video) if source_facts.video else None
                followed = follow.video(
                    work.source,
                    source_facts.video,
                    shown_s,
                    work.tracks[0],
                    work.spec.face,
                    reference,
                    has_sound=source_facts.audio is not None,
                )
                source, found = followed.video, followed.faces_found
                # Of a video that is not followed to its end, probing knows how long it is.
                facts = source_facts.video if follow.is_partial else followed.facts
        videos = [source]
        driven_s = tracks.driven_s(work.spec, voice_s, source_facts.video)
        for number, (driver, its) in enumerate(zip(work.drivers, drivers_facts, strict=True), 1):
            with about(f"driving video {number}"):
                videos.append(follow.video(driver, its, driven_s, work.tracks[number], FaceSetting(), None).video)
    if work.spec.kind is Kind.ANIMATE:
        shown = timeline.steady(STILL_RATE, audio_facts.duration_s)
        rate = STILL_RATE
    else:
        index = source.index
        pts = index.pts.tolist()
        shown = timeline.build(work.spec.sync_mode, pts, index.end_pts, index.time_base, audio_facts.duration_s)
        rate = index.frame_rate
    bits = source.picture.bit_depth if work.spec.kind is Kind.DUB else 8
    encoder = hardware.choose(work.spec.output.video_codec, bits, encoders)
    batch_frames = work.batch_frames or USUAL
    plan = plan_file.PlanFile(
        shown,
        rate,
        loudness,
        batch_frames,
        tuple(videos),
        encoder,
        work.deterministic,
        encoder_threads,
    )
    plan_file.write(work.plan, plan)
    return Planned(
        replace(source_facts, video=facts),
        replace(voice_facts, audio=audio_facts),
        frames_total=len(shown),
        faces_found=found,
        batch_frames=batch_frames,
        seconds=seconds,
        tracks=tuple(follow.made),
    )


class _Follower:
    """Follows one face through one file after the other."""

    def __init__(self, nets: FaceNets, box: Sandbox, report: Report, check: Check) -> None:
        self.nets = nets
        self._box = box
        self._report = report
        self._check = check
        self.made: list[Path] = []
        self.is_partial = False
        """Whether the last video was not followed to its end."""

    def still(
        self, path: Path, facts: MediaFacts, choice: FaceSetting, reference: likeness.Likeness | None
    ) -> tuple[plan_file.PlannedVideo, VideoFacts | None, int]:
        frame, picture = self._box.image(path)
        tracker = Tracker(self.nets, picture, choice, reference)
        tracker.add([frame])
        planned = _planned(tracker, picture, still_index())
        return planned, facts.video, int((planned.run >= 0).sum())

    def video(
        self,
        path: Path,
        facts: VideoFacts | None,
        wanted_s: Fraction | None,
        folder: Path,
        choice: FaceSetting,
        reference: likeness.Likeness | None,
        has_sound: bool = False,
    ) -> track_file.Followed:
        """wanted_s: how much of it is used, None for all. folder: of the tracks made before; a new one is put there.
        has_sound: its own may tell whose face is meant.
        """
        reach = None if facts is None else tracks.reach_s(wanted_s, facts)
        self.is_partial = reach is not None
        kept = folder / f"{tracks.name(reach)}.npz"
        found = track_file.read(kept)
        if found is not None:
            return found
        followed = self._followed(path, facts, reach, choice, reference, has_sound)
        track_file.write(kept, followed)
        self.made.append(kept)
        return followed

    def _followed(
        self,
        path: Path,
        facts: VideoFacts | None,
        reach: int | None,
        choice: FaceSetting,
        reference: likeness.Likeness | None,
        has_sound: bool,
    ) -> track_file.Followed:
        scan = self._box.scan(path, None if reach is None else Fraction(reach))
        tracker = Tracker(self.nets, scan.picture, choice, reference)
        expected = 0 if facts is None else facts.frames if reach is None else round(reach * facts.frame_rate)

        def read(_: Iterator[object]) -> Iterator[list[Frame]]:
            window: list[Frame] = []
            for frame in scan:
                window.append(frame)
                if len(window) == SCAN_FRAMES:
                    yield window
                    window = []
            if window:
                yield window

        def look(windows: Iterator[list[Frame]]) -> Iterator[Looked]:
            for window in windows:
                yield from tracker.look(window)
            yield from tracker.look([], is_last=True)

        def follow(found: Iterator[Looked]) -> Iterator[int]:
            for looked in found:
                tracker.follow(looked)
                yield len(looked.shot)

        done, started = 0, time.monotonic()
        for count in Line([("read", read), ("look", look), ("follow", follow)], depth=1):
            self._check()
            done += count
            rate = done / max(time.monotonic() - started, 1e-9)
            self._report(Progress(Phase.TRACKING, done, max(expected, done), rate))
        hears = has_sound and choice.choice is FaceChoice.AUTO
        sound = partial(self._sound, path, scan.index) if hears else None
        planned = _planned(tracker, scan.picture, scan.index, sound)
        return track_file.Followed(planned, scan.facts)

    def _sound(self, path: Path, index: FrameIndex) -> Sound | None:
        """None where the sound cannot be read: the main face is then taken, as without one."""
        wav = path.with_name(f"{path.name}.sound.wav")
        try:
            self._box.speech(path, wav)
        except Rejected:
            return None
        # As long as the face is followed: nothing later is asked of it.
        stop = round(float(index.end_pts * index.time_base) * audio.SPEECH_HZ)
        loudness = mel.rms(_pieces(wav, min(stop, audio.length(wav))))
        return Sound(wav, loudness, index.pts.astype(np.float64) * float(index.time_base))


def _planned(
    tracker: Tracker, picture: PictureFormat, index: FrameIndex, sound: Callable[[], Sound | None] | None = None
) -> plan_file.PlannedVideo:
    track = tracker.finish(sound or (lambda: None))
    rate = float(index.frame_rate)
    transforms = crop_from_frame(track.anchors, track.run, rate)
    points = steady_points(track.points, track.run, transforms, rate)
    share = runs.share(track.run, track.shot, rate)
    return plan_file.PlannedVideo(picture, index, track.run, share, points, transforms, track.best_frame)


def _check_voice(facts: AudioFacts) -> None:
    if facts.duration_s <= 0:
        raise Rejected("media_no_audio", "its audio has no samples")


def _pieces(wav: Path, length: int | None = None) -> Iterator[np.ndarray]:
    length = audio.length(wav) if length is None else length
    step = 60 * audio.SPEECH_HZ
    for start in range(0, length, step):
        yield audio.read(wav, start, min(start + step, length))


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] += time.perf_counter() - started
