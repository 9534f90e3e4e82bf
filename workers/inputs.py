"""Blobs on this machine's disk, by content: fetched once, checked, and dropped least recently used first.

What a work reads is hard-linked into its own scratch folder, so that dropping (here or by another worker that shares
the cache) never takes a file away from under it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from farm.domain.order import Blob
from farm.errors import Rejected, Transient
from farm.storage import keys
from farm.storage.blobs import BlobStore
from workers.patience import patiently
from workers.reasons import bundle_failed
from workers.work import BundleFolder

MANIFEST = "manifest.json"


class Inputs:
    """A cache folder of at most about `max_bytes`."""

    def __init__(self, folder: Path, store: BlobStore, max_bytes: int) -> None:
        self._folder = folder
        self._store = store
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._coming: dict[str, threading.Lock] = {}
        self._own = f"work-{socket.gethostname()}-"
        folder.mkdir(parents=True, exist_ok=True)
        self._remove_left_over()

    def scratch(self) -> Path:
        """A fresh folder for one work, on the cache's file system, where links to kept files cost nothing."""
        return Path(tempfile.mkdtemp(prefix=f"{self._own}{os.getpid()}-", dir=self._folder))

    def make_room(self) -> None:
        """Drop every kept file, and what a killed worker left: the disk is full."""
        self._remove_left_over()
        self._drop_old(0)

    def _remove_left_over(self) -> None:
        """Scratch folders of this machine's workers that were killed."""
        for path in self._folder.glob(f"{self._own}*-*"):
            pid = path.name.removeprefix(self._own).split("-")[0]
            if pid.isdigit() and not _is_running(int(pid)):
                shutil.rmtree(path, ignore_errors=True)

    def file(self, blob: Blob, scratch: Path, name: str) -> Path:
        """The blob as scratch/name. Raises Transient when the store does not answer or holds other bytes."""
        kept = self._path(blob.sha256)
        for _ in range(2):
            self.bring(blob)
            with suppress(FileNotFoundError):  # dropped just now by another worker
                return self._linked(kept, scratch / name)
        raise Transient("cache_contended", f"{blob.sha256} was dropped from the cache while it was taken")

    def bring(self, blob: Blob) -> None:
        """Have the blob here, so that `file` need not fetch it. Raises Transient as `file` does."""
        kept = self._path(blob.sha256)
        if kept.exists():
            return
        with self._lock:
            one_at_a_time = self._coming.setdefault(blob.sha256, threading.Lock())
        try:
            with one_at_a_time:
                if not kept.exists():
                    self._download(blob.key, blob.sha256, kept)
        finally:
            with self._lock:
                self._coming.pop(blob.sha256, None)

    def keep(self, path: Path, sha256: str) -> None:
        """Remember a file that is here already under its content."""
        kept = self._path(sha256)
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            _link(path, kept)
        self._drop_old(self._max_bytes)

    def bundle(self, bundle_key: str, manifest_sha256: str, scratch: Path) -> BundleFolder:
        """A version's files. Raises Failed (bad_bundle) for a manifest that names files elsewhere, Transient as `file`
        does."""
        folder = scratch / "bundle"
        folder.mkdir()
        manifest = Blob(keys.bundle_file(bundle_key, MANIFEST), 0, manifest_sha256)
        listed = json.loads(self.file(manifest, folder, MANIFEST).read_bytes())["files"]
        for name, sha256 in listed.items():
            if Path(name).name != name:
                raise bundle_failed(Rejected("manifest_invalid", f"{MANIFEST} names the file {name!r}"))
            self.file(Blob(keys.bundle_file(bundle_key, name), 0, sha256), folder, name)
        return BundleFolder(folder, manifest_sha256)

    def check_bundle(self, bundle_key: str, manifest_sha256: str) -> int:
        """Have a version's files here, each read through and as it should be; how many had to be fetched.

        Those that are damaged here are dropped first. Raises Transient as `file` does.
        """
        fetched = self._whole(Blob(keys.bundle_file(bundle_key, MANIFEST), 0, manifest_sha256))
        listed = json.loads(self._path(manifest_sha256).read_bytes())["files"]
        return fetched + sum(
            self._whole(Blob(keys.bundle_file(bundle_key, name), 0, sha256)) for name, sha256 in listed.items()
        )

    def _whole(self, blob: Blob) -> int:
        kept = self._path(blob.sha256)
        if kept.exists():
            with suppress(FileNotFoundError):
                if file_sha256(kept) == blob.sha256:
                    os.utime(kept)
                    return 0
            kept.unlink(missing_ok=True)
        self.bring(blob)
        return 1

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    def _download(self, key: str, sha256: str, kept: Path) -> None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".part-", dir=self._folder)
        os.close(handle)
        part = Path(name)
        try:
            found = patiently(lambda: self._store.get_file(key, part)).sha256 or file_sha256(part)
            if found != sha256:
                raise Transient("blob_corrupt", f"{key} holds bytes of SHA-256 {found}, not {sha256}")
            os.replace(part, kept)
        finally:
            part.unlink(missing_ok=True)
        self._drop_old(self._max_bytes)

    def _linked(self, kept: Path, path: Path) -> Path:
        os.utime(kept)
        _link(kept, path)
        return path

    def _drop_old(self, max_bytes: int) -> None:
        files = []
        for path in self._folder.glob("??/*"):
            with suppress(FileNotFoundError):
                stat = path.stat()
                files.append((stat.st_mtime, stat.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files)[: -1 if max_bytes else None]:
            if total <= max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return pid != os.getpid()  # our own number, before we were given it, was somebody else's


def _link(path: Path, dest: Path) -> None:
    try:
        os.link(path, dest)
    except FileExistsError:
        return
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(path, dest)


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
