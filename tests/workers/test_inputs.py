"""The cache: fetched once, checked, dropped least recently used first and never from under a work."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from farm.domain.order import Blob
from farm.errors import Transient
from farm.nets.manifest import MANIFEST
from farm.storage import keys
from farm.storage.blobs import BlobStore
from workers.inputs import Inputs
from workers.reasons import Failed
from workers.work import BundleFolder


def put(store: BlobStore, data: bytes) -> Blob:
    return store.put_bytes(data, keys.input(hashlib.sha256(data).hexdigest()))


def test_a_blob_is_fetched_once(store: BlobStore, tmp_path: Path) -> None:
    inputs = Inputs(tmp_path / "cache", store, 10**6)
    blob = put(store, b"frames")
    first = inputs.file(blob, inputs.scratch(), "source")
    assert first.read_bytes() == b"frames"
    store.delete(blob.key)
    assert inputs.file(blob, inputs.scratch(), "source").read_bytes() == b"frames"


def test_other_bytes_are_refused(store: BlobStore, tmp_path: Path) -> None:
    inputs = Inputs(tmp_path / "cache", store, 10**6)
    blob = put(store, b"frames")
    store.put_bytes(b"framez", blob.key)
    with pytest.raises(Transient, match="blob_corrupt"):
        inputs.file(blob, inputs.scratch(), "source")
    assert not list((tmp_path / "cache").glob(".part-*"))


def test_the_oldest_is_dropped_but_not_from_under_a_work(store: BlobStore, tmp_path: Path) -> None:
    inputs = Inputs(tmp_path / "cache", store, 2500)
    scratch = inputs.scratch()
    blobs = [put(store, bytes([n]) * 1000) for n in range(4)]
    paths = []
    for number, blob in enumerate(blobs):
        paths.append(inputs.file(blob, scratch, str(number)))
        os.utime(paths[-1], (number, number))
    assert [path.read_bytes()[0] for path in paths] == [0, 1, 2, 3]
    assert sum(path.stat().st_size for path in (tmp_path / "cache").glob("??/*")) <= 3000
    kept = {path.name for path in (tmp_path / "cache").glob("??/*")}
    assert blobs[0].sha256 not in kept
    assert blobs[3].sha256 in kept


def test_scratch_of_a_killed_worker_is_removed(store: BlobStore, tmp_path: Path) -> None:
    inputs = Inputs(tmp_path / "cache", store, 10**6)
    scratch = inputs.scratch()
    gone = scratch.with_name(scratch.name.replace(f"-{os.getpid()}-", "-4194999-"))
    scratch.rename(gone)
    Inputs(tmp_path / "cache", store, 10**6)
    assert not gone.exists()


def test_a_bundle_is_checked_against_its_pinned_manifest(store: BlobStore, tiny: BundleFolder, tmp_path: Path) -> None:
    key = keys.bundle(tiny.sha256)
    for path in tiny.folder.iterdir():
        store.put_file(path, keys.bundle_file(key, path.name))
    inputs = Inputs(tmp_path / "cache", store, 10**9)
    found = inputs.bundle(key, tiny.sha256, inputs.scratch())
    assert {path.name for path in found.folder.iterdir()} == {path.name for path in tiny.folder.iterdir()}

    other = Inputs(tmp_path / "other", store, 10**9)
    store.put_bytes(b'{"files": {"../evil": "00"}}', keys.bundle_file(key, MANIFEST))
    with pytest.raises(Transient, match="blob_corrupt"):
        other.bundle(key, tiny.sha256, other.scratch())
    evil = hashlib.sha256(b'{"files": {"../evil": "00"}}').hexdigest()
    with pytest.raises(Failed, match="bad_bundle: manifest_invalid"):
        other.bundle(key, evil, other.scratch())
