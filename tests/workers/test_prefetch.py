"""A new version's files come before it is named; damaged ones come again; memory holds what was used last."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import torch

from farm.db import chunks
from farm.db import versions as rows
from farm.db import workers as worker_rows
from farm.domain.alias import BundleNote, BundleState, WantedBundle
from farm.domain.chunk import Reason, Work
from farm.domain.job import JobStatus
from farm.domain.tenant import Actor
from farm.flow import staging, versions
from farm.nets.bundle import manifest_sha256, seeded
from farm.nets.sizes import Sizes
from farm.storage import keys
from farm.storage.blobs import BlobStore
from tests.small_farm import Fleet
from tests.workers.test_farm import environment, fleet, item, material, running, submitted, until  # noqa: F401
from workers.inputs import Inputs
from workers.prefetch import Prefetch
from workers.studio import Studio
from workers.studio_setup import Setup
from workers.work import BundleFolder

NEW = "ver_new"


def stored(store: BlobStore, folder: Path, seed: int) -> BundleFolder:
    seeded(folder, Sizes.tiny(), seed, f"tiny-{seed}")
    sha256 = manifest_sha256(folder)
    for path in folder.iterdir():
        store.put_file(path, keys.bundle_file(keys.bundle(sha256), path.name))
    return BundleFolder(folder, sha256)


def settled(prefetch: Prefetch, news: threading.Event) -> BundleNote:
    while prefetch.notes[NEW].state is BundleState.FETCHING:
        assert news.wait(60)
        news.clear()
    return prefetch.notes[NEW]


def test_files_come_are_checked_and_come_again_when_damaged(store: BlobStore, tmp_path: Path) -> None:
    bundle = stored(store, tmp_path / "new", 7)
    inputs, news = Inputs(tmp_path / "cache", store, 2**30), threading.Event()
    prefetch = Prefetch(inputs, news.set)
    wanted = WantedBundle(NEW, keys.bundle(bundle.sha256), bundle.sha256)
    generator = keys.bundle_file(wanted.key, "generator.safetensors")
    store.delete(generator)
    prefetch.want([wanted])
    note = settled(prefetch, news)
    assert note.state is BundleState.FAILED
    assert "nothing is stored under" in note.detail
    store.put_file(bundle.folder / "generator.safetensors", generator)
    prefetch.want([wanted])
    assert settled(prefetch, news).state is BundleState.READY
    sha256 = json.loads((bundle.folder / "manifest.json").read_bytes())["files"]["audio.safetensors"]
    kept = tmp_path / "cache" / sha256[:2] / sha256
    kept.write_bytes(b"\0" + kept.read_bytes()[1:])
    prefetch.want([wanted])
    assert prefetch.notes[NEW] == BundleNote(BundleState.READY), "nobody has noticed yet"
    prefetch.damaged(wanted, "bundle_corrupt: audio.safetensors")
    assert settled(prefetch, news) == BundleNote(BundleState.READY, "fetched again: bundle_corrupt: audio.safetensors")
    assert kept.read_bytes() == (bundle.folder / "audio.safetensors").read_bytes()
    prefetch.stop()


def test_memory_holds_the_bundles_that_were_used_last(tmp_path: Path) -> None:
    folders = []
    for seed in range(3):
        seeded(tmp_path / str(seed), Sizes.tiny(), seed, f"tiny-{seed}")
        folders.append(BundleFolder(tmp_path / str(seed), manifest_sha256(tmp_path / str(seed))))
    torch.manual_seed(0)
    one = Studio(Setup("cpu", threads=1))
    size = one._bundle(folders[0], False).weight_bytes
    two = Studio(Setup("cpu", threads=1, bundle_bytes=int(2.5 * size)))
    for number in (0, 1, 0, 2):
        two._bundle(folders[number], False)
    assert [sha256 for sha256, _ in two._bundles] == [folders[0].sha256, folders[2].sha256]
    none = Studio(Setup("cpu", threads=1, bundle_bytes=0))
    for number in (0, 1):
        none._bundle(folders[number], False)
    assert [sha256 for sha256, _ in none._bundles] == [folders[1].sha256]


def test_a_worker_swaps_between_chunks_and_outlives_a_damaged_bundle(
    fleet: Fleet,  # noqa: F811
    environment: dict[str, str],  # noqa: F811
    material: Path,  # noqa: F811
    store: BlobStore,
    tmp_path: Path,
) -> None:
    environment["STORAGE_URL"] = store.uri("x").removesuffix("/x")
    new = stored(store, tmp_path / "new", 9)
    manifest = json.loads((new.folder / "manifest.json").read_bytes())
    with fleet.database.transaction() as session:
        version = versions.register(
            session, name="new", bundle_key=keys.bundle(new.sha256), bundle_sha256=new.sha256, manifest=manifest
        )
    log = tmp_path / "log"

    def alias() -> str:
        with fleet.database.transaction() as session:
            found = rows.alias(session, "champion")
        assert found is not None
        return found.version_id

    with running(environment, log), running(environment, log, "--control", "--beat"):
        first = submitted(fleet, material, item(material, "before", "actor.mp4"))
        until(lambda: fleet.batch(first).counts.succeeded == 1, log)
        with fleet.database.transaction() as session:
            (worker,) = worker_rows.listed(session)
            assert not staging.stage(session, "champion", version.id, actor=Actor("test"), within_s=600)
        assert alias() == fleet.version
        until(lambda: alias() == version.id, log)
        cached = {path.name: path for path in (tmp_path / "cache").glob("??/*")}
        assert set(manifest["files"].values()) <= cached.keys(), "the files were there before the alias moved"
        damaged = cached[manifest["files"]["generator.safetensors"]]
        good = damaged.read_bytes()
        damaged.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        second = submitted(fleet, material, item(material, "after", "actor.mp4"))
        until(lambda: fleet.batch(second).counts.succeeded + fleet.batch(second).counts.failed == 1, log)
        (job,) = fleet.jobs(second)
        assert (job.status, job.version_id) == (JobStatus.SUCCEEDED, version.id)
        with fleet.database.transaction() as session:
            rendered = [c for c in chunks.page(session, fleet.tenant, job.id).items if c.work is Work.RENDER]
            (still,) = worker_rows.listed(session)
        failed = [a for chunk in rendered for a in chunk.attempts if a.outcome == "failed"]
        assert failed
        assert {(a.reason, a.code) for a in failed} == {(Reason.TRANSIENT, "bundle_corrupt")}
        assert still.info["pid"] == worker.info["pid"]
        assert still.started_at == worker.started_at
        until(lambda: damaged.exists() and damaged.read_bytes() == good, log)
    fleet.audit()
    shutil.rmtree(tmp_path / "cache")
