"""How long a submission would take, from what the farm has seen."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from farm.db import fleet, jobs, known
from farm.db.session import Session
from farm.domain.batch import BatchSpec
from farm.domain.job import Kind
from farm.domain.media import MediaFacts
from farm.domain.speed import expected
from farm.flow import versions


@dataclass(frozen=True)
class Estimate:
    """Numbers are None where the farm has nothing to go by yet; `basis` says what they rest on.

    worker_s: device time of all jobs (the cost). wait_s: until a worker gets to them. finish_s: until the last is done.
    """

    jobs: int
    frames: int | None
    worker_s: float | None
    wait_s: float | None
    finish_s: float | None
    basis: str


def estimate(session: Session, tenant_id: str, spec: BatchSpec) -> Estimate:
    """A rough one: media are not opened before planning.

    A job counts what an earlier one of the tenant had of the same asset, else the mean of those rendered last; its
    frames take as long as workers measured of its version and size, else of whatever they rendered last.
    """
    count = len(spec.items)
    seen = _seen(session, tenant_id, spec)
    usual = jobs.usual_frames(session) if len(seen) < count else 0.0
    if usual is None:
        return Estimate(count, None, None, None, None, "this farm has finished no job yet")
    lengths = [*(frames for frames, _ in seen), *[usual] * (count - len(seen))]
    frames = round(sum(lengths))
    basis = _of_lengths(len(seen), count, usual)
    workers = max(1, sum(fleet.serving_by_queue(session).values()))
    speed = fleet.speed(session)
    if speed <= 0:
        return Estimate(count, frames, None, None, None, f"{basis}; no worker has shown its speed yet")
    version = versions.resolve(session, spec.model)
    speeds = fleet.speeds(session, version.id) if version is not None else {}
    measured = [None if facts is None else expected(speeds, facts) for _, facts in seen]
    measured += [None] * (count - len(seen))
    worker_s = sum(length / (own or speed / workers) for length, own in zip(lengths, measured, strict=True))
    wait_s = jobs.frames_waiting(session) / speed
    by_size = sum(own is not None for own in measured)
    basis += f"; {speed:.1f} frames/s on {workers} worker{'s' if workers > 1 else ''}"
    basis += f", {by_size} jobs by the speed measured of this version at their size" if by_size else ""
    return Estimate(count, frames, worker_s, wait_s, wait_s + worker_s / workers, basis)


def _seen(session: Session, tenant_id: str, spec: BatchSpec) -> list[tuple[float, MediaFacts | None]]:
    """Frames and picture of those items whose length an earlier job tells: that of a dub is its video's, that of an
    animated picture its voice's."""
    found: list[tuple[float, MediaFacts | None]] = []
    for kind, role in ((Kind.DUB, "source"), (Kind.ANIMATE, "voice")):
        media = [item.source if role == "source" else item.voice for item in spec.items if item.kind is kind]
        times = Counter(m.asset_id for m in media if m.asset_id is not None)
        for asset_id, one in known.leading(session, tenant_id, kind, role, list(times)).items():
            video = one.facts.video
            frames = video.frames if kind is Kind.DUB and video is not None else one.frames
            # Another picture may be animated by the same voice, of any size.
            facts = one.facts if kind is Kind.DUB else None
            found += [(float(frames), facts)] * times[asset_id]
    return found


def _of_lengths(seen: int, count: int, usual: float) -> str:
    known_ones = f"the lengths of {seen} of {count} jobs are known from earlier ones of their assets"
    if seen == count:
        return known_ones
    mean = f"{usual:.0f} frames a job, the mean of the last jobs that succeeded"
    return f"{known_ones}, the others count {mean}" if seen else mean
