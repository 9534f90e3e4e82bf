"""Blobs in a folder. A file appears under its key whole, by a rename, or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from farm.domain.order import Blob
from farm.errors import Rejected, Transient
from farm.storage.blobs import PART, BlobStore, Exists, Missing, Stat, Upload, check_key

WRITING = ".writing"
"""Folder of files that are not whole yet. No key starts with it: keys are made of plain names."""


class LocalStore(BlobStore):
    """A BlobStore on one folder, made when missing. Any number of processes may share it."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def _part_file(self, key: str) -> Path:
        """A new file of the folder; made when first written to: what is only read may be somebody else's."""
        with _errors(key):
            (self.root / WRITING).mkdir(parents=True, exist_ok=True)
        return self.root / WRITING / secrets.token_hex(16)

    def put_file(self, path: Path, key: str, *, if_absent: bool = False) -> Blob:
        with path.open("rb") as file:
            return self._put(_parts(file), key, if_absent=if_absent)

    def put_bytes(self, data: bytes, key: str, *, if_absent: bool = False) -> Blob:
        return self._put([data], key, if_absent=if_absent)

    def put_stream(self, parts: Iterable[bytes], key: str, *, max_bytes: int | None = None) -> Blob:
        return self._put(parts, key, max_bytes=max_bytes)

    def _put(self, parts: Iterable[bytes], key: str, *, if_absent: bool = False, max_bytes: int | None = None) -> Blob:
        dest = self._path(key)
        part_file = self._part_file(key)
        size, digest = 0, hashlib.sha256()
        try:
            # The caller's own errors, while it yields parts, pass through as they are.
            with _errors(key):
                file = part_file.open("xb")
            with file:
                for part in parts:
                    size += len(part)
                    if max_bytes is not None and size > max_bytes:
                        raise Rejected("too_large", f"more than {max_bytes} bytes")
                    digest.update(part)
                    with _errors(key):
                        file.write(part)
                with _errors(key):
                    file.flush()
                    os.fsync(file.fileno())
            with _errors(key):
                self._appear(part_file, dest, if_absent=if_absent)
        finally:
            part_file.unlink(missing_ok=True)
        return Blob(key, size, digest.hexdigest())

    def _appear(self, whole: Path, dest: Path, *, if_absent: bool) -> None:
        dest.parent.mkdir(parents=True, exist_ok=True)
        if if_absent:
            try:
                os.link(whole, dest)  # unlike a rename, fails where something is
            except FileExistsError:
                raise Exists(str(dest.relative_to(self.root))) from None
        else:
            whole.replace(dest)
        folder = os.open(dest.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def read_range(self, key: str, start: int, stop: int | None = None) -> Iterator[bytes]:
        with _errors(key):
            file = self._path(key).open("rb")
        return _range(file, key, start, stop)

    def stat(self, key: str) -> Stat:
        with _errors(key):
            return Stat(key, self._path(key).stat().st_size)

    def copy(self, key: str, dest_key: str) -> None:
        # A second name for the same bytes: files are never written to once they have a key.
        part_file = self._part_file(key)
        with _errors(key):
            os.link(self._path(key), part_file)
            try:
                self._appear(part_file, self._path(dest_key), if_absent=False)
            finally:
                part_file.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        with _errors(key):
            self._path(key).unlink(missing_ok=True)

    def list(self, prefix: str) -> Iterator[Stat]:
        folder, _, start = prefix.rpartition("/")
        if folder:
            check_key(folder)
        return self._walk(f"{folder}/" if folder else "", start)

    def _walk(self, folder: str, start: str) -> Iterator[Stat]:
        try:
            found = [entry for entry in os.scandir(self.root / folder) if entry.name.startswith(start)]
        except (FileNotFoundError, NotADirectoryError):
            return
        # A folder sorts as its keys do: with the slash behind its name.
        for entry in sorted(found, key=lambda e: e.name + "/" if e.is_dir() else e.name):
            if entry.is_dir():
                if not folder and entry.name == WRITING:
                    continue
                yield from self._walk(f"{folder}{entry.name}/", "")
            else:
                try:
                    yield Stat(f"{folder}{entry.name}", entry.stat().st_size)
                except FileNotFoundError:
                    continue

    def uri(self, key: str) -> str:
        return self._path(key).as_uri()

    def presign_get(self, key: str, filename: str | None = None, expires_s: int = 3600) -> str | None:
        return None

    def presign_put(self, key: str, size_bytes: int | None = None, content_type: str | None = None) -> Upload | None:
        return None

    def _path(self, key: str) -> Path:
        if check_key(key).startswith(WRITING):
            raise ValueError(f"not a key: {key!r}")
        return self.root / key


def _parts(file: BinaryIO) -> Iterator[bytes]:
    while part := file.read(PART):
        yield part


def _range(file: BinaryIO, key: str, start: int, stop: int | None) -> Iterator[bytes]:
    with file, _errors(key):
        file.seek(start)
        left = None if stop is None else max(0, stop - start)
        while left != 0 and (part := file.read(PART if left is None else min(PART, left))):
            left = None if left is None else left - len(part)
            yield part


@contextmanager
def _errors(key: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise Missing(key) from None
    except IsADirectoryError:
        raise Missing(key) from None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise Transient("storage_full" if full else "storage_unavailable", f"{key}: {error.strerror}") from error
