"""`make memory`: the render child's memory does not grow with the length of a video, printed as tables.

`lengths`: 1 and 10 minutes of 720p, each planned and then rendered (all of it with --whole, else the last minute as one
chunk), by a fresh engine. `long`: a four-hour source at one frame a second is planned and its last chunk rendered, and
the bytes that the child reads for that are counted.
`python -m tests.proofs.memory [lengths|long] [--rate N] [--whole]`.

Peaks are the kernel's (VmHWM), of the child and of the sandbox's reader below it, reset before each step.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from farm.domain.factor import Factors, Media
from farm.domain.job import JobSpec, Kind, SyncMode
from farm.domain.limits import UNSET
from farm.domain.order import Progress
from farm.domain.span import Span
from tests import media_files
from tests.proofs.exactness import shipped
from workers.engine import Engine
from workers.studio_setup import Setup, studio
from workers.work import PlanWork, RenderWork

LOOP_S: Final = 4
SHARE: Final = 1.10


def clip(folder: Path, seconds: int, rate: Fraction, width: int, height: int) -> Path:
    """A drawn actor who speaks for so long: one loop is encoded, and its packets repeated."""
    loop = media_files.video(
        folder / "loop.mp4",
        frames=int(LOOP_S * rate),
        rate=rate,
        width=width,
        height=height,
        picture=media_files.actor_of,
        gop=int(LOOP_S * rate),
        b_frames=0,
    )
    dest = folder / f"source{seconds}.mp4"
    return media_files.ffmpeg("-stream_loop", "-1", "-i", str(loop), "-c", "copy", "-t", str(seconds), dest=dest)


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += tree(int(child))
    return found


def peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def read_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar"))


class Watched:
    """Runs works in an engine; the peaks of the child and of the readers below it, in megabytes."""

    def __init__(self) -> None:
        self.engine = Engine(studio(Setup("cpu", threads=1)))
        self.engine.start()
        self._reader_mb = 0.0

    def __call__(self, work: object) -> tuple[Any, float, float, int]:
        """The answer, the child's peak, its readers' peak, and the bytes the child read."""
        pid = self.engine.pid
        assert pid is not None
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._reader_mb = 0.0
        before = read_bytes(pid)
        told = _Told(self._look)
        answer = self.engine.run(work, deadline_s=1e9, on_report=told)
        return answer, peak_mb(pid), self._reader_mb, read_bytes(pid) - before

    def _look(self) -> None:
        pid = self.engine.pid
        assert pid is not None
        for reader in tree(pid)[1:]:
            try:
                self._reader_mb = max(self._reader_mb, peak_mb(reader))
            except (OSError, StopIteration):
                continue


class _Told:
    """Shows progress and looks at the processes, every now and then."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look, self._at = look, 0.0

    def __call__(self, report: object) -> None:
        if time.monotonic() - self._at < 2 or not isinstance(report, Progress):
            return
        self._at = time.monotonic()
        self._look()
        if sys.stderr.isatty():
            print(f"  {report.phase} {report.frames_done}/{report.frames_total}   ", end="\r", file=sys.stderr)


def plan_work(folder: Path, source: Path, voice: Path) -> PlanWork:
    folder = folder / source.stem
    folder.mkdir()
    (folder / "tracks").mkdir(exist_ok=True)
    spec = JobSpec("one", Kind.DUB, Media(uri="file:///s"), Media(uri="file:///v"), SyncMode.CUT_OFF, Factors())
    return PlanWork(
        spec, source, voice, (), None, 8, UNSET, folder / "plan.npz", folder / "speech.wav", (folder / "tracks",)
    )


def render_work(plan: PlanWork, facts: Any, span: Span) -> RenderWork:
    dest = plan.plan.with_name("segment.mp4")
    return RenderWork(
        plan.spec, str(plan.plan), facts, shipped(), plan.plan, plan.source, (), plan.speech, span, None, dest
    )


def voice(folder: Path, seconds: int) -> Path:
    spoken = media_files.ACTOR.with_name("voice_en.flac")
    dest = folder / f"voice{seconds}.flac"
    return media_files.ffmpeg("-stream_loop", "-1", "-i", str(spoken), "-t", str(seconds), "-ar", "16000", dest=dest)


def lengths(rate: Fraction, whole: bool, folder: Path) -> bool:
    """1 and 10 minutes of 720p; whether the latter stays within a tenth of the former."""
    print(f"{'720p':<12}{'step':<10}{'frames':>8}{'child, MB':>11}{'reader, MB':>12}{'seconds':>9}", flush=True)
    peaks: dict[str, list[float]] = {"plan": [], "render": []}
    for minutes in (1, 10):
        source = clip(folder, 60 * minutes, rate, 1280, 720)
        watched = Watched()
        work = plan_work(folder, source, voice(folder, 60 * minutes))
        started = time.monotonic()
        planned, child_mb, reader_mb, _ = watched(work)
        peaks["plan"].append(child_mb)
        _row(f"{minutes} min", "plan", planned.frames_total, child_mb, reader_mb, started)
        watched.engine.close()
        watched = Watched()  # what planning took is not there to be used again
        total = planned.frames_total
        span = Span(0 if whole else max(0, total - int(60 * rate)), total)
        started = time.monotonic()
        _, child_mb, reader_mb, _ = watched(render_work(work, planned.source_facts, span))
        peaks["render"].append(child_mb)
        _row(f"{minutes} min", "render", len(span), child_mb, reader_mb, started)
        watched.engine.close()
    good = True
    for step, (short, long) in peaks.items():
        good &= long <= SHARE * short
        print(f"{step}: 10 minutes take {long / short:.3f} of what 1 minute takes")
    return good


def _row(name: str, step: str, frames: int, child_mb: float, reader_mb: float, started: float) -> None:
    seconds = time.monotonic() - started
    print(f"{name:<12}{step:<10}{frames:>8}{child_mb:>11.0f}{reader_mb:>12.0f}{seconds:>9.0f}", flush=True)


def four_hours(folder: Path, seconds: int) -> bool:
    """Whether the last chunk of a four-hour source reads but a little of it."""
    source = clip(folder, seconds, Fraction(1), 640, 360)
    size = source.stat().st_size
    watched = Watched()
    work = plan_work(folder, source, voice(folder, seconds))
    print(f"{seconds / 3600:g} h at 1 frame/s, {size / 1e6:.1f} MB", flush=True)
    print(f"{'step':<22}{'frames':>8}{'child, MB':>11}{'reader, MB':>12}{'read, MB':>10}{'seconds':>9}", flush=True)
    started = time.monotonic()
    planned, child_mb, reader_mb, read = watched(work)
    total = planned.frames_total
    took = time.monotonic() - started
    print(f"{'plan':<22}{total:>8}{child_mb:>11.0f}{reader_mb:>12.0f}{read / 1e6:>10.1f}{took:>9.0f}", flush=True)
    watched.engine.close()
    watched = Watched()
    good = total == seconds
    reads: list[int] = []
    # The first chunk loads the bundle and reads the appearance's frame: what a chunk itself reads shows in the others.
    for name, span in (
        ("first chunk", Span(0, 32)),
        ("second chunk", Span(32, 64)),
        ("last chunk", Span(total - 32, total)),
    ):
        started = time.monotonic()
        _, child_mb, reader_mb, read = watched(render_work(work, planned.source_facts, span))
        reads.append(read)
        took = time.monotonic() - started
        print(f"{name:<22}{len(span):>8}{child_mb:>11.0f}{reader_mb:>12.0f}{read / 1e6:>10.2f}{took:>9.0f}", flush=True)
    watched.engine.close()
    print(f"the last chunk reads {100 * reads[-1] / size:.1f}% of the source's bytes")
    return good and reads[-1] < size / 10


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory and reading do not grow with the length of a video.")
    parser.add_argument("what", nargs="*", default=["lengths", "long"], choices=["lengths", "long"])
    parser.add_argument("--rate", type=Fraction, default=Fraction(25), help="frames a second of the 720p clips")
    parser.add_argument("--whole", action="store_true", help="render all ten minutes in one chunk")
    parser.add_argument("--hours", type=float, default=4)
    asked = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory(prefix="memory-") as folder:
        if "lengths" in asked.what:
            good &= lengths(asked.rate, asked.whole, Path(folder))
        if "long" in asked.what:
            good &= four_hours(Path(folder), int(3600 * asked.hours))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
