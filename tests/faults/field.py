"""A whole embedded farm to be hurt: processes by name, rows under constant audit, outputs by their hashes."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import sqlalchemy as sa

from farm.cli.demo import MATERIAL
from farm.client import Client
from farm.client.answers import Batch
from farm.db import census
from farm.db.session import Database, connect
from farm.embedded import process
from farm.embedded.farm import EmbeddedFarm
from farm.errors import Transient
from farm.storage.blobs import BlobStore, open_store
from tests import media_files
from tests.e2e.command import SERVICES, short_voice
from tests.faults import proxy
from tests.faults.proxy import Proxy

ROOT: Final = Path(__file__).resolve().parents[2]
WAIT_S: Final = 400.0
LEASE_S: Final = 10.0
THERE: Final = "select 1 from workers where id = :id and left_at is null"


@dataclass(frozen=True)
class Made:
    """What a job came to. hashes: SHA-256 of each raw output frame, in order."""

    sha256: str
    frames: int
    hashes: tuple[str, ...]


class Auditor:
    """Looks at the rows all the time: counters equal row sums, one live lease a chunk, what has ended stays so."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ended: dict[str, str] = {}
        self.violations: list[str] = []
        self.looks = 0
        self.misses = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="auditor", daemon=True)

    def __enter__(self) -> Auditor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(30)

    def look(self) -> None:
        with self._database.transaction() as session:
            self.violations += census.audit(session)
            ended = "select id, status from jobs where finished_at is not null union all select id, status from chunks \
                     where status in ('succeeded', 'failed', 'canceled')"
            for row_id, status in session.execute(sa.text(ended)):
                if self._ended.setdefault(row_id, status) != status:
                    self.violations.append(f"{row_id} had ended {self._ended[row_id]} and is {status}")
        self.looks += 1

    def _run(self) -> None:
        while not self._stopped.wait(0.3):
            try:
                self.look()
            except Transient:
                self.misses += 1


class Field:
    """A running farm on an S3 server behind a proxy, with two workers and short leases."""

    def __init__(self, folder: Path, farm: EmbeddedFarm, storm: Proxy, settings: Mapping[str, str]) -> None:
        assert farm.address is not None
        self.folder, self.farm, self.storm, self.address = folder, farm, storm, farm.address
        self.environment = settings
        self.client = Client(self.address.url, self.address.key, timeout_s=30, retries=20)
        self.database = connect(self.address.database_url)
        self.store: BlobStore = open_store(self.address.storage_url, storm.url)
        self.auditor = Auditor(self.database)
        self.reference: dict[str, Made] = {}

    # --- what is submitted, and what must come of it

    def items(self, *names: str) -> list[dict[str, Any]]:
        return items(self.folder, *names)

    def submit(self, *names: str, **options: Any) -> str:
        return self.client.submit(self.items(*names), **options).id

    def finished(self, batch_id: str) -> dict[str, Made]:
        """Wait for a batch, and see that all of it succeeded, exactly as without any fault."""
        batch = self.client.wait(batch_id, WAIT_S, poll_s=0.3)
        self.sound(batch)
        made = {job.custom_id: self._made(job.id) for job in self.client.jobs(batch_id)}
        for name, one in made.items():
            reference = self.reference.get(name.split("-")[0])
            if reference is not None:
                assert one.hashes == reference.hashes, f"{name}: frames differ from the undisturbed run's"
                assert one.sha256 == reference.sha256, f"{name}: the file differs from the undisturbed run's"
        return made

    def sound(self, batch: Batch) -> None:
        errors = [(job.custom_id, job.error) for job in self.client.jobs(batch.id) if job.status != "succeeded"]
        assert (batch.status, errors) == ("completed", []), self.logs()
        self.auditor.look()
        assert self.auditor.violations == [], self.logs()

    def _made(self, job_id: str) -> Made:
        output = self.client.job(job_id).output
        assert output is not None
        hashes: dict[int, str] = {}
        for (key,) in self.sql(
            "select segment->'blob'->>'key' from chunks where job_id = :job and work = 'render'", job=job_id
        ):
            text = self.store.get_bytes(str(key).replace("segment.mp4", "frames.txt")).decode()
            hashes |= {int(index): sha256 for index, sha256 in (line.split() for line in text.splitlines())}
        assert sorted(hashes) == list(range(output.frames))
        return Made(output.sha256, output.frames, tuple(hashes[k] for k in range(output.frames)))

    # --- rows

    def sql(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        with self.database.transaction() as session:
            return [tuple(row) for row in session.execute(sa.text(statement), values)]

    def attempts(self, batch_id: str) -> list[tuple[Any, ...]]:
        """(chunk, number, outcome, reason, code) of a batch's attempts."""
        return self.sql(
            "select a.chunk_id, a.number, a.outcome, a.reason, a.code from attempts a \
             join chunks c on c.id = a.chunk_id join jobs j on j.id = c.job_id where j.batch_id = :batch order by 1, 2",
            batch=batch_id,
        )

    def reasons(self, batch_id: str) -> list[str]:
        return [reason for _, _, _, reason, _ in self.attempts(batch_id) if reason]

    def rendering(self, batch_id: str) -> tuple[str, int]:
        """Wait until a chunk of the batch is being rendered: (chunk, pid of the worker's process)."""
        found: list[tuple[Any, ...]] = []

        def is_rendering() -> bool:
            found[:] = self.sql(
                "select c.id, (w.info->>'pid')::int from chunks c join jobs j on j.id = c.job_id join workers w \
                 on w.id = c.worker_id where j.batch_id = :batch and c.work = 'render' and c.status = 'leased'",
                batch=batch_id,
            )
            return bool(found)

        self.until(is_rendering)
        return found[0][0], found[0][1]

    def until(self, happened: Callable[[], bool], every_s: float = 0.05) -> None:
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                if happened():
                    return
            except Transient:
                pass
            assert time.monotonic() < deadline, self.logs()
            time.sleep(every_s)

    # --- processes

    def pid(self, name: str) -> int:
        """Of a process that the supervisor keeps running."""
        self.until(lambda: name in self.farm.processes())
        return self.farm.processes()[name]

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process, and wait until it is gone and started again."""
        before = self.pid(name)
        os.kill(before, number)
        self.until(lambda: self.farm.processes().get(name, before) != before)

    def workers_ready(self, count: int = 2) -> None:
        """Until so many workers serve: alive, and of processes that run now."""
        pids = [pid for name, pid in self.farm.processes().items() if name.startswith("worker")]

        def are_ready() -> bool:
            return (
                self.sql(
                    "select count(*) from workers where left_at is null and heartbeat_at > now() - interval '5 s' \
                     and (info->>'pid')::int = any(:pids)",
                    pids=pids,
                )[0][0]
                >= count
            )

        self.until(are_ready)

    @contextmanager
    def worker(
        self, name: str, *, program: Sequence[str] = ("-m", "workers"), prefix: Sequence[str] = (), **settings: str
    ) -> Iterator[int]:
        """One more worker, of the test's own making, started behind `prefix`; the pid of its process."""
        everything = {
            **self.environment,
            "DATABASE_URL": self.address.database_url,
            "BROKER_URL": self.address.broker_url,
            "STORAGE_URL": self.address.storage_url,
            "PYTHONPATH": str(ROOT),
            "DUBFARM_WORKER_ID": name,
            "DUBFARM_WORKER_CACHE_DIR": str(self.folder / "cache" / name),
            **settings,
        }
        log = self.farm.logs / f"{name}.log"
        running = process.spawn([*prefix, sys.executable, *program], log, env=everything, cwd=self.folder)
        try:
            yield running.pid
        finally:
            if running.poll() is None:
                running.send_signal(signal.SIGCONT)
            process.end(running, ((signal.SIGTERM, 20.0),))

    @contextmanager
    def alone(self, *names: str) -> Iterator[None]:
        """While all other workers are drained: the workers `names` get what there is. They must be there already."""
        for name in names:
            self.until(lambda name=name: bool(self.sql(THERE, id=name)))
        others = [w.id for w in self.client.workers() if w.id not in names and w.status in ("busy", "idle")]
        for other in others:
            self.client.drain_worker(other)
        try:
            yield
        finally:
            for other in others:
                self.client.resume_worker(other)

    def logs(self) -> str:
        files = sorted(self.farm.logs.glob("*.log"))
        return "\n".join(f"== {log.name}\n{process.tail(log, 40)}" for log in files)


def child_of(pid: int) -> int:
    """The engine of a worker's process."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            line = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == pid and b"spawn_main" in line:
            return int(stat.parent.name)
    raise AssertionError(f"worker {pid} has no engine")


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """Our own S3 server, as a process of its own: it must not share this one's lock."""
    port = process.free_port()
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = process.spawn(command, folder / "s3.log", env=_plain(), cwd=folder)
    try:
        store_answers = f"http://127.0.0.1:{port}"
        wait_for(store_answers)
        yield store_answers
    finally:
        process.end(server, ((signal.SIGTERM, 5.0),))


@contextmanager
def field(folder: Path, *, workers: int = 2, chunk_frames: int = 8, frames: int = 24) -> Iterator[Field]:
    """The farm, with its undisturbed run already made and remembered as the reference."""
    with ExitStack() as stack:
        upstream = stack.enter_context(s3_server(folder))
        storm = stack.enter_context(proxy.before(upstream))
        material(folder, frames)
        settings = environment(folder, chunk_frames) | {
            "STORAGE_URL": f"s3://dubfarm-{secrets.token_hex(4)}/farm",
            "STORAGE_ENDPOINT_URL": storm.url,
        }
        farm = EmbeddedFarm(
            folder / "farm",
            workers=workers,
            port=process.free_port(),
            file_roots=[folder, MATERIAL],
            environment=settings,
            say=lambda line: print(line, file=sys.stderr),
        )
        stack.callback(farm.stop)
        farm.start()
        hurt = Field(folder, farm, storm, settings)
        stack.callback(hurt.database.close)
        stack.callback(hurt.client.close)
        hurt.reference = hurt.finished(hurt.submit("dub", "still"))
        stack.enter_context(hurt.auditor)
        yield hurt


def material(folder: Path, frames: int) -> list[dict[str, Any]]:
    """So many frames of the drawn actor and of a voice, made in `folder`; the items "dub" and "still"."""
    cut = ("-frames:v", str(frames), "-vf", "scale=320:-2", "-crf", "14", "-an")
    media_files.ffmpeg("-i", str(MATERIAL / "actor.mp4"), *cut, dest=folder / "actor.mp4")
    short_voice(folder / "voice.wav", frames / 25)
    return items(folder, "dub", "still")


def items(folder: Path, *names: str) -> list[dict[str, Any]]:
    """Items of a batch on the material of a folder: "dub" or "still", and "-" and what makes the name unique."""
    voice = (folder / "voice.wav").as_uri()
    known: dict[str, dict[str, Any]] = {
        "dub": {"kind": "dub", "video": {"uri": (folder / "actor.mp4").as_uri()}},
        "still": {"kind": "animate", "image": {"uri": (MATERIAL / "portrait.png").as_uri()}},
    }
    return [{"custom_id": name, "audio": {"uri": voice}, **known[name.split("-")[0]]} for name in names]


def environment(folder: Path, chunk_frames: int = 16) -> dict[str, str]:
    """What the farm's processes are told: short chunks, short leases, one thread each, the material of `folder`."""
    return {
        **_plain(),
        "DUBFARM_INPUT_SCHEMES": '["file"]',
        "DUBFARM_INPUT_FILE_ROOTS": json.dumps([str(folder), str(MATERIAL)]),
        "DUBFARM_WORKER_CHUNK_FRAMES": str(chunk_frames),
        "DUBFARM_WORKER_KEEPS_FRAME_HASHES": "1",
        "DUBFARM_WORKER_DEVICE": "cpu",
        "DUBFARM_WORKER_THREADS": "1",
        "DUBFARM_WORKER_LEASE_S": str(LEASE_S),
        "DUBFARM_WORKER_HEARTBEAT_S": "1",
        "DUBFARM_WORKER_CANARY_S": "20",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def _plain() -> dict[str, str]:
    """This environment without what names services or sets up the tests' own process."""
    out = ("DUBFARM_", "PG", "PYTHONWARNINGS", *SERVICES)
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    return {name: value for name, value in os.environ.items() if not name.startswith(out)} | keys


def wait_for(url: str) -> None:
    """Until a server answers there, and not with a failure of its own."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            if not httpx.get(url, timeout=5).is_server_error:
                return
        time.sleep(0.2)
    raise AssertionError(f"{url} does not answer")
