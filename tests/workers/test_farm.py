"""Real worker processes on a real database, broker and store: a batch goes through; SIGTERM gives the chunk back."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import farm.cli
from farm.db import chunks, workers
from farm.db.keys import ensure_tenant
from farm.db.session import Database
from farm.domain.batch import BatchSpec
from farm.domain.chunk import ChunkStatus, Reason, Work
from farm.domain.factor import Media
from farm.domain.ids import new_id
from farm.domain.job import FaceSetting, JobSpec, JobStatus, Kind, SyncMode
from farm.domain.limits import InputLimits
from farm.domain.order import Blob
from farm.domain.tenant import Actor
from farm.flow import control, submit, versions
from farm.media import decode
from farm.storage import keys
from farm.storage.blobs import BlobStore
from tests import media_files
from tests.small_farm import Fleet
from workers import tracks
from workers.work import BundleFolder

MATERIAL = Path(farm.cli.__path__[0]) / "demo_material"
ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 300.0


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of the drawn actor, and of a voice."""
    folder = tmp_path_factory.mktemp("material")
    cut = ("-frames:v", "26", "-vf", "scale=320:-2", "-crf", "14")
    media_files.ffmpeg("-i", str(MATERIAL / "actor.mp4"), *cut, "-an", dest=folder / "actor.mp4")
    media_files.ffmpeg("-i", str(MATERIAL / "voice_en.flac"), "-t", "1", dest=folder / "voice.flac")
    media_files.audio(folder / "long.wav", seconds=60)
    media_files.video(folder / "nobody.mp4", frames=10)
    (folder / "portrait.png").write_bytes((MATERIAL / "portrait.png").read_bytes())
    return folder


@pytest.fixture
def fleet(database: Database, store: BlobStore, tiny: BundleFolder) -> Fleet:
    key = keys.bundle(tiny.sha256)
    for path in tiny.folder.iterdir():
        store.put_file(path, keys.bundle_file(key, path.name))
    manifest = json.loads((tiny.folder / "manifest.json").read_bytes())
    with database.transaction() as session:
        tenant = ensure_tenant(session, new_id("ten"), "studio")
        version = versions.register(session, name="tiny", bundle_key=key, bundle_sha256=tiny.sha256, manifest=manifest)
        versions.promote(session, "champion", version.id, actor=Actor("test"))
    return Fleet(database, tenant, version.id)


@pytest.fixture
def environment(
    database_url: str,
    broker_url: str,
    storage_url: str,
    storage_endpoint_url: str | None,
    material: Path,
    tmp_path: Path,
) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": database_url,
        "BROKER_URL": broker_url,
        "STORAGE_URL": storage_url,
        **({"STORAGE_ENDPOINT_URL": storage_endpoint_url} if storage_endpoint_url else {}),
        "DUBFARM_INPUT_SCHEMES": '["file"]',
        "DUBFARM_INPUT_FILE_ROOTS": json.dumps([str(material)]),
        "DUBFARM_WORKER_DEVICE": "cpu",
        "DUBFARM_WORKER_THREADS": "1",
        "DUBFARM_WORKER_CACHE_DIR": str(tmp_path / "cache"),
        "DUBFARM_WORKER_HEARTBEAT_S": "0.5",
        "DUBFARM_WORKER_CHUNK_FRAMES": "16",
    }


@contextmanager
def running(environment: dict[str, str], log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers", *arguments], env=environment, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def until(happened: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-8000:]
        time.sleep(0.1)


def submitted(fleet: Fleet, material: Path, *items: JobSpec) -> str:
    limits = InputLimits(schemes=("file",), file_roots=(material,))
    with fleet.database.transaction() as session:
        return submit.submit(session, fleet.tenant, BatchSpec(items), limits).id


def item(material: Path, name: str, source: str, voice: str = "voice.flac", **options: object) -> JobSpec:
    kind = Kind.ANIMATE if source.endswith(".png") else Kind.DUB
    source_uri, voice_uri = (Media(uri=(material / file).as_uri()) for file in (source, voice))
    return JobSpec(name, kind, source_uri, voice_uri, **options)  # type: ignore[arg-type]


def test_a_batch_goes_through(
    fleet: Fleet, environment: dict[str, str], material: Path, store: BlobStore, tmp_path: Path
) -> None:
    batch = submitted(
        fleet,
        material,
        item(material, "dub", "actor.mp4"),
        item(material, "in other words", "actor.mp4", "long.wav"),
        item(material, "still", "portrait.png"),
        item(material, "nobody", "nobody.mp4"),
        item(material, "gone", "missing.mp4"),
    )
    log = tmp_path / "log"
    with running(environment, log), running(environment, log, "--control", "--beat"):
        until(lambda: fleet.batch(batch).counts.succeeded + fleet.batch(batch).counts.failed == 5, log)
    jobs = {job.custom_id: job for job in fleet.jobs(batch)}
    assert {name: job.status for name, job in jobs.items()} == {
        "dub": JobStatus.SUCCEEDED,
        "in other words": JobStatus.SUCCEEDED,
        "still": JobStatus.SUCCEEDED,
        "nobody": JobStatus.FAILED,
        "gone": JobStatus.FAILED,
    }, [(job.custom_id, job.error_code, job.error_detail) for job in jobs.values()]
    lines = [line for line in log.read_text(errors="replace").splitlines() if "chunk settled" in line]
    assert len(lines) >= 3 * 4 + 2
    assert all(f"job={jobs[name].id}" in "".join(lines) for name in jobs)
    # Both dubs rest on one track of the face.
    actor = Blob("", 0, hashlib.sha256((material / "actor.mp4").read_bytes()).hexdigest())
    assert len(list(store.list(keys.tracks(actor, tracks.how(FaceSetting(), None))))) == 1
    assert jobs["nobody"].error_code == "no_face"
    assert jobs["gone"].error_code == "uri_not_found"
    with fleet.database.transaction() as session:
        for name in ("nobody", "gone"):
            (only,) = chunks.page(session, fleet.tenant, jobs[name].id).items
            assert len(only.attempts) == 1
        assert not [worker for worker in workers.listed(session) if worker.alive]
    for name, frames, side in (("dub", 25, 320), ("still", 25, 64)):
        output = jobs[name].output
        assert output is not None
        assert output.frames == frames
        store.get_file(output.blob.key, tmp_path / name)
        scan = decode.scan(tmp_path / name)
        assert len(scan.index_only()) == frames
        assert scan.picture.width == side
        # Shorter than a heartbeat, and yet there is a picture to show.
        preview = jobs[name].preview_key
        assert preview is not None
        assert store.get_bytes(preview).startswith(b"\xff\xd8")
    fleet.audit()


def test_cancel_stops_a_chunk_and_sigterm_gives_it_back(
    fleet: Fleet, environment: dict[str, str], material: Path, tmp_path: Path
) -> None:
    environment["DUBFARM_WORKER_CHUNK_FRAMES"] = "5000"
    log = tmp_path / "log"

    def started(batch: str) -> str:
        (job,) = fleet.jobs(batch)
        until(lambda: fleet.job(job.id).frames_done > 0, log)
        return job.id

    long = item(material, "long", "actor.mp4", "long.wav", sync_mode=SyncMode.BOUNCE)
    with running(environment, log, "--control", "--beat"), running(environment, log) as worker:
        canceled = submitted(fleet, material, long)
        first = started(canceled)
        with fleet.database.transaction() as session:
            control.cancel_batch(session, fleet.tenant, canceled)
        until(lambda: fleet.job(first).status is JobStatus.CANCELED, log)
        # The same worker goes on with the next one.
        second = started(submitted(fleet, material, long))
        assert fleet.job(second).status is JobStatus.RUNNING
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(180) == 0, log.read_text(errors="replace")[-8000:]
    with fleet.database.transaction() as session:
        (rendering,) = (c for c in chunks.page(session, fleet.tenant, second).items if c.work is Work.RENDER)
    assert rendering.status is ChunkStatus.WAITING
    (attempt,) = rendering.attempts
    assert (attempt.outcome, attempt.reason) == ("returned", Reason.PREEMPTED)
    fleet.audit()
