"""The whole worker against its parts: `python -m benchmarks.worker`.

One clip, 720p, filmed-like (benchmarks.footage), dubbed by the model that ships. Three questions:
- Does the line run at the speed of its slowest stage? Each stage is run alone, on what the stage before it made, and
  then all of them together.
- What does the worker compute outside the networks, against ffmpeg that decodes and encodes the same file with the
  same encoder, options and threads?
- What does the farm cost a chunk: claim, inputs, start of the line, upload, settling? Seen from outside, through a
  farm of its own with Postgres, Valkey, API and a worker process.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

# Read when torch is loaded; workers.studio_setup does the same for the engine's child.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import imageio_ffmpeg
import torch

from benchmarks.footage import Footage, footage
from benchmarks.report import Table, interleaved, machine, medians, note, show
from farm.client import Client
from farm.domain.factor import Media
from farm.domain.job import JobSpec, Kind, OutputSetting
from farm.domain.limits import MediaLimits
from farm.domain.span import Span
from farm.embedded.farm import EmbeddedFarm
from farm.face.nets import FaceNets
from farm.media import encode, hardware
from farm.nets import bundle
from farm.nets.ready import Ready, ready
from farm.nets.synthesis import Synthesis
from workers import plan_file
from workers.pipeline import Chunk
from workers.studio import Studio
from workers.studio_setup import Setup
from workers.work import BundleFolder, Planned, PlanWork, RenderWork

CHUNK_S: Final = 30.0
"""Work in a chunk, as the farm cuts jobs."""
SHIPPED: Final = Path(bundle.__file__).parent / "shipped" / "pdfgc-puppets-64"


@dataclass(frozen=True)
class Cost:
    """wall_s, cpu_s: of the whole process, with every thread of it. networks_cpu_s: in networks."""

    wall_s: float
    cpu_s: float
    networks_cpu_s: float = 0.0


class Bench:
    """A planned job in this process, as the engine's child has it."""

    def __init__(self, clip: Footage, folder: Path, threads: int | None, encoder_threads: int | None) -> None:
        self.clip, self.folder = clip, folder
        self.studio = Studio(Setup("cpu", threads))
        spec = JobSpec("one", Kind.DUB, Media(uri="file:///source"), Media(uri="file:///voice"))
        tracks = folder / "tracks"
        tracks.mkdir()
        work = PlanWork(
            spec, clip.video, clip.voice, (), None, 8, MediaLimits(), folder / "plan.npz", folder / "speech.wav",
            (tracks,),
        )  # fmt: skip
        self.planned: Planned = self.do(work)
        if encoder_threads is not None:
            # Beside the old one, which is read through a map of it.
            pinned = folder / "pinned.npz"
            plan_file.write(pinned, replace(plan_file.read(work.plan), encoder_threads=encoder_threads))
            pinned.replace(work.plan)
        self.encoder_threads = plan_file.read(work.plan).encoder_threads
        self.bundle = BundleFolder(SHIPPED, bundle.manifest_sha256(SHIPPED))
        self.work = RenderWork(
            spec, "job", self.planned.source_facts, self.bundle, work.plan, clip.video, (), work.speech,
            Span(0, self.planned.frames_total), None, folder / "segment.mp4", preview=folder / "preview.jpg",
        )  # fmt: skip
        self.loaded = ready(bundle.load(SHIPPED, torch.device("cpu"), self.bundle.sha256))

    @property
    def frames(self) -> int:
        return len(self.work.span)

    def do(self, work: object) -> Any:
        return self.studio(work, lambda report: None, lambda: None)

    def whole(self) -> tuple[Cost, dict[str, float]]:
        """All stages beside each other, and the check of the segment: what a chunk is to the engine."""
        started, computed = time.perf_counter(), time.process_time()
        rendered = self.do(self.work)
        return Cost(time.perf_counter() - started, time.process_time() - computed), dict(rendered.seconds)

    def alone(self) -> dict[str, Cost]:
        """Each stage for itself, with nothing beside it."""
        plan = plan_file.read(self.work.plan)
        who = self.studio._appearances[self.work.job_key]  # pyright: ignore[reportPrivateUsage]
        costs: dict[str, Cost] = {}
        given: list[Any] = []
        nets = self.studio._face_nets  # pyright: ignore[reportPrivateUsage]
        watch = _Watch(self.loaded, nets())
        chunk = Chunk(self.work, plan, watch.bundle, who, plan.batch_frames, nets, lambda report: None)
        for name, stage in chunk.stages():
            made: list[Any] = []
            given, watch.cpu_s = given[::-1], 0.0
            started, computed = time.perf_counter(), time.process_time()
            for item in stage(_handed(given)):
                made.append(item)
            costs[name] = Cost(time.perf_counter() - started, time.process_time() - computed, watch.cpu_s)
            given = made
        watch.close()
        return costs


class _Watch:
    """What the networks of a bundle compute, and those that look at pictures for scores, while nothing else does."""

    def __init__(self, loaded: Ready, nets: FaceNets) -> None:
        self.cpu_s = 0.0
        self._nets = (nets.near, nets.far, nets.mesh, nets.iris)
        for net in self._nets:
            net.forward = self._timed(net.forward)  # pyright: ignore[reportAttributeAccessIssue]
        self.bundle = replace(
            loaded,
            motion=self._timed(loaded.motion),
            audio=self._timed(loaded.audio),
            generator=cast(Synthesis, self._timed(loaded.generator)),
        )

    def close(self) -> None:
        for net in self._nets:
            del net.forward

    def _timed(self, network: Callable[..., Any]) -> Callable[..., Any]:
        def run(*inputs: Any) -> Any:
            since = time.process_time()
            result = network(*inputs)
            self.cpu_s += time.process_time() - since
            return result

        return run


def _handed(reversed_items: list[Any]) -> Iterator[Any]:
    """Items that nobody holds any more once they have been handed on, as in the line."""
    while reversed_items:
        yield reversed_items.pop()


def ffmpeg(video: Path, dest: Path, threads: int) -> Cost:
    """ffmpeg's own decode and encode of the file, as the farm's encoder is set."""
    output = OutputSetting()
    codec = hardware.SOFTWARE[output.video_codec]
    options, _ = encode.settings(codec, output, encode.KEY_EVERY_S * 25, True, threads=threads)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-nostdin", "-i", str(video), "-an"]
    command += ["-c:v", codec, "-g", str(encode.KEY_EVERY_S * 25)]
    command += [part for name, value in options.items() for part in (f"-{name}", value)]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([*command, str(dest)], check=True)
    wall_s, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


@dataclass(frozen=True)
class ChunkCost:
    """Of a chunk that follows another on the same worker. whole_s: from the one's start to the other's."""

    whole_s: float
    line_s: float
    fetch_s: float
    upload_s: float

    @property
    def overhead_s(self) -> float:
        return self.whole_s - self.line_s


def through_a_farm(clip: Footage, folder: Path, chunk_frames: int) -> list[ChunkCost]:
    environment = {**os.environ, "DUBFARM_WORKER_CHUNK_FRAMES": str(chunk_frames)}
    with (
        EmbeddedFarm(folder / "farm", workers=1, environment=environment) as started,
        Client(started.url, started.key) as client,
    ):
        media = {
            name: {"asset_id": client.upload(path).id} for name, path in (("video", clip.video), ("audio", clip.voice))
        }
        batch = client.submit([{"custom_id": "one", "kind": "dub", **media}], name="benchmark")
        batch = client.wait(batch.id, 900)
        (job,) = client.jobs(batch.id)
        if job.status != "succeeded":
            raise RuntimeError(f"the job ended {job.status}: {job.error}")
        attempts = [chunk.attempts[-1] for chunk in client.chunks(job.id) if chunk.work == "render"]
        ends = [chunk.attempts[-1].started_at for chunk in client.chunks(job.id) if chunk.work == "finalize"]
    attempts.sort(key=lambda attempt: attempt.started_at)
    starts = [attempt.started_at for attempt in attempts] + ends
    costs = [
        ChunkCost(
            (after - before).total_seconds(),
            attempt.seconds["line"],
            attempt.seconds["fetch"],
            attempt.seconds["upload"],
        )
        for attempt, before, after in zip(attempts, starts, starts[1:], strict=False)
    ]
    # The first one loads the model, once for all jobs.
    return costs[1:]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--frames", type=int, default=375, help="15 s: of every 15 s some frames are scored")
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--no-farm", action="store_true", help="leave out the farm of its own")
    arguments.add_argument("--threads", type=int, help="of one network call; half the cores by default")
    arguments.add_argument("--encoder-threads", type=int, help="of the encoder; what planning chooses by default")
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-worker-") as name:
        folder = Path(name)
        note("drawing the clip")
        clip = footage(folder / "clip", asked.frames)
        note("planning")
        bench = Bench(clip, folder, asked.threads, asked.encoder_threads)
        bench.do(replace(bench.work, span=Span(0, min(16, bench.frames))))  # loads and warms up
        found: dict[str, list[Any]] = {"whole": [], "alone": [], "ffmpeg": []}

        def kept(name: str, measure: Callable[[], object]) -> Callable[[], None]:
            return lambda: found[name].append(measure())

        interleaved(
            {
                "whole": kept("whole", bench.whole),
                "alone": kept("alone", bench.alone),
                "ffmpeg": kept("ffmpeg", lambda: ffmpeg(clip.video, folder / "again.mp4", bench.encoder_threads)),
            },
            asked.rounds,
            warm_up=0,
        )
        chunks: list[ChunkCost] = []
        if not asked.no_farm:
            note("through a farm")
            chunks = through_a_farm(clip, folder, max(8, asked.frames // 6 // 8 * 8))
        _tell(bench, found, chunks)


def _tell(bench: Bench, found: dict[str, list[Any]], chunks: Sequence[ChunkCost]) -> None:
    frames = bench.frames
    per_frame = 1000 / frames
    whole = _median([cost for cost, _ in found["whole"]])
    in_line = medians({stage: [seconds[stage] for _, seconds in found["whole"]] for stage in found["whole"][0][1]})
    alone = {stage: _median([costs[stage] for costs in found["alone"]]) for stage in found["alone"][0]}
    its = _median(found["ffmpeg"])
    slowest = max(alone, key=lambda stage: alone[stage].wall_s)
    networks_cpu_s = sum(cost.networks_cpu_s for cost in alone.values())
    outside_s = whole.cpu_s - networks_cpu_s
    cores = len(os.sched_getaffinity(0))
    # Where stages share the cores, no line can be faster than all that they compute.
    floor_s = max(alone[slowest].wall_s, whole.cpu_s / cores)
    stages = Table(
        f"{frames} frames of 1280x720; {machine()}. Milliseconds a frame",
        ("stage", "alone", "alone, CPU", "of it networks", "in the line, busy", "in the line, own thread"),
        [
            (
                stage,
                cost.wall_s * per_frame,
                cost.cpu_s * per_frame,
                cost.networks_cpu_s * per_frame,
                in_line[stage] * per_frame,
                in_line[f"{stage}_cpu"] * per_frame,
            )
            for stage, cost in alone.items()
        ],
    )
    together = Table(
        "Together",
        ("what", "ms a frame", "frames/s"),
        [
            (f"slowest stage alone ({slowest})", alone[slowest].wall_s * per_frame, frames / alone[slowest].wall_s),
            ("whole worker", whole.wall_s * per_frame, frames / whole.wall_s),
            ("of it the check of the segment", in_line["check"] * per_frame, None),
            (f"what {cores} cores allow at best", floor_s * per_frame, frames / floor_s),
            ("whole worker, CPU", whole.cpu_s * per_frame, None),
            ("networks, CPU", networks_cpu_s * per_frame, None),
            ("outside the networks, CPU", outside_s * per_frame, None),
            ("ffmpeg's decode + encode, CPU", its.cpu_s * per_frame, None),
            ("tracking, once a video, wall", bench.planned.seconds["tracking"] * per_frame, None),
        ],
    )
    tables = [stages, together]
    result: dict[str, object] = {
        "pipeline_efficiency": round(alone[slowest].wall_s / whole.wall_s, 3),
        "cpu_overhead_vs_ffmpeg": round(outside_s / its.cpu_s, 3),
        "chunk_overhead_share": None,
        "frames_per_s": round(frames / whole.wall_s, 2),
        "share_of_what_the_cores_allow": round(floor_s / whole.wall_s, 3),
    }
    if chunks:
        overhead_s = statistics.median(chunk.overhead_s for chunk in chunks)
        result["chunk_overhead_share"] = round(overhead_s / CHUNK_S, 4)
        rows = [
            (number, chunk.whole_s, chunk.line_s, chunk.fetch_s, chunk.upload_s, chunk.overhead_s)
            for number, chunk in enumerate(chunks, 1)
        ]
        columns = ("chunk", "start to start", "line", "fetch", "upload", "overhead")
        tables.append(Table(f"Chunks through a farm, seconds; share is of {CHUNK_S:g} s", columns, rows))
    show(tables, result)


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(
        statistics.median(cost.wall_s for cost in costs),
        statistics.median(cost.cpu_s for cost in costs),
        statistics.median(cost.networks_cpu_s for cost in costs),
    )


if __name__ == "__main__":
    main()
