"""A new version's files come before it is named; damaged ones come again; memory holds what was used last."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from farm.db import chunks
from farm.db import versions as rows
from farm.db import workers as worker_rows
from farm.domain.alias import BundleNote, BundleState, WantedBundle
from farm.domain.chunk import Reason, Work
from farm.domain.job import JobStatus
from farm.domain.tenant import Actor
from farm.errors import Rejected, Transient
from farm.flow import staging, versions
from farm.nets.bundle import manifest_sha256, seeded
from farm.nets.sizes import Sizes
from farm.storage import keys
from farm.storage.blobs import BlobStore
from tests.small_farm import Fleet
from tests.workers.test_farm import WAIT_S, environment, fleet, item, material, running, submitted, until  # noqa: F401
from workers.inputs import Inputs, file_sha256
from workers.prefetch import Prefetch
from workers.studio import Studio
from workers.studio_setup import Setup
from workers.trial import fault_of, picture
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
        assert news.wait(WAIT_S)
        news.clear()
    return prefetch.notes[NEW]


def test_files_come_are_checked_and_come_again_when_damaged(store: BlobStore, tmp_path: Path) -> None:
    bundle = stored(store, tmp_path / "new", 7)
    inputs, news = Inputs(tmp_path / "cache", store, 2**30), threading.Event()
    prefetch = Prefetch(inputs, news.set, fault_of)
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


def spoiled(store: BlobStore, folder: Path, how: Callable[[dict[str, torch.Tensor]], object]) -> BundleFolder:
    """A bundle whose generator is changed, with hashes that fit."""
    seeded(folder, Sizes.tiny(), 3, "spoiled")
    weights = load_file(folder / "generator.safetensors")
    how(weights)
    save_file(weights, folder / "generator.safetensors")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["generator.safetensors"] = file_sha256(folder / "generator.safetensors")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    sha256 = manifest_sha256(folder)
    for path in folder.iterdir():
        store.put_file(path, keys.bundle_file(keys.bundle(sha256), path.name))
    return BundleFolder(folder, sha256)


def test_weights_of_no_use_are_found_before_anything_names_them(store: BlobStore, tmp_path: Path) -> None:
    blind = spoiled(store, tmp_path / "blind", lambda w: w.pop("conv1.noise.weight"))
    inputs, news = Inputs(tmp_path / "cache", store, 2**30), threading.Event()
    prefetch = Prefetch(inputs, news.set, fault_of)
    wanted = WantedBundle(NEW, keys.bundle(blind.sha256), blind.sha256)
    prefetch.want([wanted])
    note = settled(prefetch, news)
    assert note.state is BundleState.UNUSABLE
    assert note.detail == "weights_key_missing: generator.safetensors: conv1.noise.weight is missing"
    prefetch.want([wanted])
    assert prefetch.notes[NEW] == note, "it is not tried again"
    assert not list((tmp_path / "cache").glob("work-*"))
    prefetch.stop()
    # Finite numbers of which no finite picture comes.
    huge = spoiled(store, tmp_path / "huge", lambda w: [t.fill_(3e38) for t in w.values() if t.dim() > 1])
    with pytest.raises(Rejected, match="bundle_useless: its picture holds values that are not finite"):
        picture(huge)


def test_a_machine_that_cannot_tell_blames_nobody(tiny: BundleFolder) -> None:
    with pytest.raises(Transient, match=r"bundle_untried: .*bundle_corrupt"):
        fault_of(BundleFolder(tiny.folder, "0" * 64), threading.Event())
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(Transient, match="bundle_untried: its trial ended with status -9"):
        fault_of(tiny, stopped)


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

        # An alias that moves without waiting meets what a trial would have found: its jobs fail, and nobody is blamed.
        bad = spoiled(store, tmp_path / "bad", lambda w: w.pop("conv1.noise.weight"))
        manifest = json.loads((bad.folder / "manifest.json").read_bytes())
        with fleet.database.transaction() as session:
            key = keys.bundle(bad.sha256)
            useless = versions.register(
                session, name="bad", bundle_key=key, bundle_sha256=bad.sha256, manifest=manifest
            )
            assert staging.stage(session, "champion", useless.id, actor=Actor("test"), within_s=0)
        third = submitted(fleet, material, item(material, "bad", "actor.mp4"))
        until(lambda: fleet.batch(third).counts.failed == 1, log)
        (job,) = fleet.jobs(third)
        assert job.error_code == "weights_key_missing"
        reasons = fleet.sql(
            "select a.reason, count(*) from attempts a join chunks c on c.id = a.chunk_id where c.job_id = :job \
             and a.outcome = 'failed' group by 1",
            job=job.id,
        )
        assert reasons == [(Reason.BAD_BUNDLE, 1)]
        until(lambda: bool(fleet.sql("select 1 from versions where name = 'bad' and unusable is not null")), log)
        with fleet.database.transaction() as session:
            (last,) = worker_rows.listed(session)
            assert versions.rollback(session, "champion", actor=Actor("test")).id == version.id
        assert (last.info["pid"], last.quarantined_until) == (worker.info["pid"], None)
        fourth = submitted(fleet, material, item(material, "good", "actor.mp4"))
        until(lambda: fleet.batch(fourth).counts.succeeded == 1, log)
    fleet.audit()
    shutil.rmtree(tmp_path / "cache")
