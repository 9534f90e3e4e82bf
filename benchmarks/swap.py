"""A new champion under load, and the way back: `python -m benchmarks.swap [--seconds 30] [--workers 2] [--full]`.

A farm of its own with real workers dubs one short clip again and again, a steady few jobs at a time. The shipped bundle
with changed weights is registered as another version and promoted, then the promotion is taken back. Measured by the
database's clock: seconds from each call, and from the alias's move, to the first chunk rendered on the other version;
frames and chunks a second before, during (from the call until every worker has rendered with the other version) and
after; peak resident memory of an engine with one bundle and with two, and of the trial that a bundle is put to.

Nothing is restarted, and jobs keep the version that they were submitted with: the run fails where that is not so. That
their chunks were rendered with it shows in the files: all jobs of a version are the same bytes, those of the other are
not. `--full`: untrained networks of the official sizes, whose memory and loading count, at a crawl.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import imageio_ffmpeg
import sqlalchemy as sa
import torch

from benchmarks.report import Table, machine, note, show
from benchmarks.swap_watch import Memory, Stream, engines
from farm.cli.demo import MATERIAL
from farm.client import Client
from farm.client.answers import Version
from farm.db.session import Database, connect
from farm.embedded.farm import EmbeddedFarm
from farm.nets import bundle
from farm.nets.sizes import Sizes

SHIPPED: Final = Path(bundle.__file__).parent / "shipped" / "pdfgc-puppets-64"
PATIENCE_S: Final = 900.0
CHANGED_BY: Final = 1.01
"""What the second version's generator weights are multiplied with: the same cost, other pictures."""


@dataclass(frozen=True)
class Swap:
    """A call that moves the alias, in the database's time. ended: every worker has rendered with `version` by then."""

    version: str
    called: datetime
    answered_s: float
    moved: datetime
    first_began: datetime
    first_done: datetime
    ended: datetime

    def seconds(self) -> tuple[float, ...]:
        """From the call: answered, alias moved, first chunk begun, first chunk done, all workers."""
        marks = (self.moved, self.first_began, self.first_done, self.ended)
        return (self.answered_s, *((mark - self.called).total_seconds() for mark in marks))


class Bench:
    """The farm that is measured."""

    def __init__(self, farm: EmbeddedFarm, client: Client, database: Database) -> None:
        self.farm, self.client, self.database = farm, client, database

    def sql(self, statement: str, **values: object) -> list[Any]:
        with self.database.transaction() as session:
            return list(session.execute(sa.text(statement), values))

    def now(self) -> datetime:
        return self.sql("select clock_timestamp()")[0][0]

    def until(self, happened: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not happened():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {PATIENCE_S:.0f} s; the logs are in {self.farm.logs}")
            time.sleep(0.1)

    def rendered_by(self, version: str, since: datetime) -> int:
        """How many workers have rendered a chunk of a job that was submitted since then and has this version."""
        return self.sql(_RENDERED, version=version, since=since)[0].workers

    def swap(self, version: str, call: Callable[[], object], workers: int) -> Swap:
        called, began = self.now(), time.monotonic()
        call()
        answered_s = time.monotonic() - began
        self.until(lambda: self.rendered_by(version, called) == workers)
        (first,) = self.sql(_RENDERED, version=version, since=called)
        ((moved,),) = self.sql("select at from alias_moves where alias = 'champion' order by id desc limit 1")
        return Swap(version, called, answered_s, moved, first.began, first.done, self.now())

    def rates(self, start: datetime, stop: datetime) -> tuple[float, float]:
        """Frames and chunks a second, a chunk counting for the part of its time that lies within."""
        seconds = (stop - start).total_seconds()
        (found,) = self.sql(_RATES, start=start, stop=stop)
        return float(found.frames or 0) / seconds, float(found.chunks or 0) / seconds

    def processes(self) -> Mapping[str, int]:
        """Every process of the farm and every engine, by name."""
        workers = {worker.id: int(worker.info["pid"]) for worker in self.client.workers()}
        return {**self.farm.processes(), **{f"engine of {name}": engines(pid)[0] for name, pid in workers.items()}}


_RENDERED: Final = """
    select min(a.started_at) as began, min(a.finished_at) as done, count(distinct a.worker_id) as workers
    from attempts a join chunks c on c.id = a.chunk_id join jobs j on j.id = c.job_id
    where c.work = 'render' and a.outcome = 'succeeded' and j.version_id = :version and j.created_at >= :since
"""
_RATES: Final = """
    select sum(share) as chunks, sum(share * frames_done) as frames from (
        select c.frames_done, greatest(0, extract(epoch from
            least(a.finished_at, :stop) - greatest(a.started_at, :start))) /
            greatest(.001, extract(epoch from a.finished_at - a.started_at)) as share
        from attempts a join chunks c on c.id = a.chunk_id
        where c.work = 'render' and a.outcome = 'succeeded' and a.finished_at > :start and a.started_at < :stop
    ) as parts
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each steady stretch")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--frames", type=int, default=48, help="of each job")
    parser.add_argument("--chunk", type=int, default=16, help="frames of a chunk")
    parser.add_argument("--full", action="store_true", help="untrained networks of the official sizes")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-swap-") as name:
        folder = Path(name)
        environment = {**os.environ, "DUBFARM_WORKER_CHUNK_FRAMES": str(asked.chunk), "OMP_WAIT_POLICY": "PASSIVE"}
        farm = EmbeddedFarm(folder / "farm", workers=asked.workers, environment=environment)
        with farm as address, Client(address.url, address.key) as client:
            database = connect(address.database_url)
            try:
                _measure(Bench(farm, client, database), folder, asked)
            finally:
                database.close()


def _measure(bench: Bench, folder: Path, asked: argparse.Namespace) -> None:
    client, count = bench.client, asked.workers
    if asked.full:
        client.set_alias("champion", _seeded(client, folder / "one", 1).id, force=True, within_s=PATIENCE_S)
    old = client.version("champion")
    # Two jobs a worker: nobody waits for the next, and little stands before what is submitted last.
    stream, memory = Stream(client, bench.sql, _items(client, folder, asked.frames), 2 * count), Memory()
    with stream, memory:
        note("warming up")
        start = bench.now()
        bench.until(lambda: stream.failed or bench.rendered_by(old.id, start) == count)
        before = bench.processes()
        memory.watch({name: pid for name, pid in before.items() if name.startswith("engine")})
        marks = {"before": bench.now()}
        time.sleep(asked.seconds)
        one = memory.peak_mb("engine")
        note("registering the second version")
        new = _seeded(client, folder / "two", 2) if asked.full else _changed(client, folder)
        memory.restart()
        note("promoting it")
        there = bench.swap(new.id, lambda: client.set_alias("champion", new.id, force=True, within_s=PATIENCE_S), count)
        marks |= {"during": there.called, "after": there.ended}
        time.sleep(asked.seconds)
        two, trial = memory.peak_mb("engine"), memory.peak_mb("trial")
        note("rolling back")
        back = bench.swap(old.id, lambda: client.rollback("champion"), count)
        marks |= {"during rollback": back.called, "after rollback": back.ended}
        time.sleep(asked.seconds)
        marks["end"] = bench.now()
        after = bench.processes()
    note("waiting for the last jobs")
    bench.until(lambda: stream.open() == 0)
    if before != after:
        raise RuntimeError(f"something was restarted: {before} became {after}")
    kept = _check(bench, old, new, there, back)
    names = list(marks)
    spans = {name: bench.rates(marks[name], marks[names[k + 1]]) for k, name in enumerate(names[:-1])}
    _tell({"promotion": there, "rollback": back}, spans, (one, two, trial), kept, asked)


def _check(bench: Bench, old: Version, new: Version, there: Swap, back: Swap) -> dict[str, int]:
    """How many jobs of which kind kept their version; raises where one failed or changed over."""
    rows = bench.sql(
        "select status, version_id, created_at, coalesce(started_at, created_at) as began, finished_at,"
        " output->'blob'->>'sha256' as sha256 from jobs"
    )
    if bad := [row for row in rows if row.status != "succeeded"]:
        raise RuntimeError(f"{len(bad)} jobs ended otherwise than well: {bad[0]}")
    kept = {"before": 0, "across": 0, "on the new one": 0, "after rollback": 0}
    for row in rows:
        # A submission that was going on while the alias moved may have read either.
        near = any(abs(row.created_at - swap.moved) < timedelta(seconds=1) for swap in (there, back))
        expected = new.id if there.moved <= row.created_at < back.moved else old.id
        if row.version_id != expected and not near:
            raise RuntimeError(f"a job of {row.created_at} has version {row.version_id}, not {expected}")
        if row.version_id == new.id:
            kept["on the new one"] += 1
        elif row.created_at >= back.moved:
            kept["after rollback"] += 1
        else:
            kept["across" if row.finished_at > there.moved else "before"] += 1
    files = {version: {row.sha256 for row in rows if row.version_id == version} for version in (old.id, new.id)}
    if any(len(made) != 1 for made in files.values()) or files[old.id] == files[new.id]:
        raise RuntimeError(f"jobs of one version should be one file, and of two versions two: {files}")
    return kept


def _tell(
    swaps: Mapping[str, Swap],
    spans: Mapping[str, tuple[float, float]],
    memory: tuple[float, float, float],
    kept: Mapping[str, int],
    asked: argparse.Namespace,
) -> None:
    calls = Table(
        f"{asked.workers} workers, chunks of {asked.chunk} frames; {machine()}. Seconds from the call",
        ("call", "answered", "alias moved", "first chunk begun", "first chunk done", "all workers"),
        [(name, *swap.seconds()) for name, swap in swaps.items()],
    )
    speeds = Table("Speed", ("when", "frames/s", "chunks/s"), [(name, *rates) for name, rates in spans.items()])
    peaks = Table(
        "Peak resident memory, MB",
        ("of", "MB"),
        list(zip(("engine, one bundle", "engine, two bundles", "a bundle's trial"), memory, strict=True)),
    )
    jobs = Table("Jobs, all on the version that they were submitted with", ("submitted", "jobs"), list(kept.items()))
    there, back = (swap.seconds() for swap in swaps.values())
    result: dict[str, object] = {
        "promotion_to_alias_s": round(there[1], 2),
        "promotion_to_first_chunk_s": round(there[3], 2),
        "alias_to_first_chunk_s": round(there[3] - there[1], 2),
        "rollback_to_alias_s": round(back[1], 2),
        "rollback_to_first_chunk_s": round(back[3], 2),
        "frames_per_s": {name.replace(" ", "_"): round(rates[0], 2) for name, rates in spans.items()},
        "renders_per_s": {name.replace(" ", "_"): round(rates[1], 3) for name, rates in spans.items()},
        "peak_memory_mb": dict(zip(("one_bundle", "two_bundles", "trial"), map(round, memory), strict=True)),
        "jobs": sum(kept.values()),
        "jobs_across_the_promotion": kept["across"],
        "restarted": 0,
    }
    show([calls, speeds, peaks, jobs], result)


def _items(client: Client, folder: Path, frames: int) -> Sequence[Mapping[str, Any]]:
    """One dub of the drawn actor."""
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"]
    cut = ["-frames:v", str(frames), "-vf", "scale=320:-2", "-crf", "14", "-an"]
    subprocess.run([*ffmpeg, "-i", str(MATERIAL / "actor.mp4"), *cut, str(folder / "actor.mp4")], check=True)
    voice = ["-t", str(frames / 25), str(folder / "voice.wav")]
    subprocess.run([*ffmpeg, "-i", str(MATERIAL / "voice_en.flac"), *voice], check=True)
    media = {"video": "actor.mp4", "audio": "voice.wav"}
    return [{"kind": "dub", **{name: {"asset_id": client.upload(folder / file).id} for name, file in media.items()}}]


def _changed(client: Client, folder: Path) -> Version:
    """The shipped bundle with other weights, registered."""
    loaded = bundle.load(SHIPPED, torch.device("cpu"))
    with torch.no_grad():
        for parameter in loaded.generator.parameters():
            parameter.mul_(CHANGED_BY)
    bundle.save(folder / "changed", loaded.manifest, loaded.networks)
    return client.register_version(folder / "changed", name="changed")


def _seeded(client: Client, folder: Path, seed: int) -> Version:
    bundle.seeded(folder, Sizes.full(), seed, f"full-{seed}")
    return client.register_version(folder, name=f"full-{seed}")


if __name__ == "__main__":
    main()
