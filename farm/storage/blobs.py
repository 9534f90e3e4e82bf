"""Blobs: bytes with a key, in a local folder or in S3. Every read and write streams; memory does not grow with size."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from farm.domain.order import Blob
from farm.errors import Transient

PART: Final = 1 << 20
"""Bytes held at a time when streaming."""


class Missing(Transient):
    """There is no blob under this key. Transient: a worker retries, and fails the chunk with this code in the end."""

    def __init__(self, key: str) -> None:
        super().__init__("blob_missing", f"nothing is stored under {key}")
        self.key = key

    def __reduce__(self) -> tuple[object, ...]:
        return Missing, (self.key,)


class Exists(Exception):
    """`if_absent` was asked for and something is stored under this key already."""


@dataclass(frozen=True)
class Stat:
    key: str
    size_bytes: int


@dataclass(frozen=True)
class Upload:
    """What a client does to hand in bytes by itself: one request."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)


class BlobStore(Protocol):
    """All methods raise Transient when the store does not answer, Missing when the key names nothing."""

    def put_file(self, path: Path, key: str, *, if_absent: bool = False) -> Blob:
        """Store a file's bytes whole or not at all. if_absent: raises Exists rather than replace."""
        ...

    def put_bytes(self, data: bytes, key: str, *, if_absent: bool = False) -> Blob: ...

    def put_stream(self, parts: Iterable[bytes], key: str, *, max_bytes: int | None = None) -> Blob:
        """Store what `parts` yields; raises Rejected("too_large") past max_bytes, and then stores nothing."""
        ...

    def get_file(self, key: str, path: Path) -> Blob:
        """Write the bytes to `path` whole or not at all (its folder must exist); says what it read."""
        part_file = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            # A full disk at `path` is the caller's own: only what reads the store is the store's error.
            with part_file.open("xb") as dest:
                blob = _blob(key, self.read_range(key, 0), dest.write)
            part_file.replace(path)
        finally:
            part_file.unlink(missing_ok=True)
        return blob

    def get_bytes(self, key: str) -> bytes:
        return b"".join(self.read_range(key, 0))

    def read_range(self, key: str, start: int, stop: int | None = None) -> Iterator[bytes]:
        """Bytes [start, stop) in parts; stop None means to the end. Errors come before the first part."""
        ...

    def stat(self, key: str) -> Stat: ...

    def digest(self, key: str) -> Blob:
        """Read it all and say its size and SHA-256."""
        return _blob(key, self.read_range(key, 0))

    def copy(self, key: str, dest_key: str) -> None: ...

    def delete(self, key: str) -> None:
        """Harmless when there is nothing."""
        ...

    def list(self, prefix: str) -> Iterator[Stat]:
        """All blobs whose key starts with `prefix`, in an order of the store's own."""
        ...

    def uri(self, key: str) -> str:
        """file:// or s3:// uri of a key, for people and for results."""
        ...

    def presign_get(self, key: str, filename: str | None = None, expires_s: int = 3600) -> str | None:
        """A url that anybody may GET for a while; None where the store has no such thing (local folder)."""
        ...

    def presign_put(self, key: str, size_bytes: int | None = None, content_type: str | None = None) -> Upload | None:
        """A request that stores bytes under `key`; None where the API must take the bytes itself."""
        ...


def _blob(key: str, parts: Iterable[bytes], write: Callable[[bytes], object] = lambda part: None) -> Blob:
    size, digest = 0, hashlib.sha256()
    for part in parts:
        size += len(part)
        digest.update(part)
        write(part)
    return Blob(key, size, digest.hexdigest())


def open_store(url: str, endpoint_url: str | None = None) -> BlobStore:
    """`file:///folder` or `s3://bucket/prefix`; endpoint_url names an S3-compatible server. Credentials: AWS_*."""
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        from farm.storage.local import LocalStore

        return LocalStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        # Imported here: a farm on a local folder has no use for boto3, which is slow to import.
        from farm.storage.s3 import S3Store, connect

        return S3Store(connect(endpoint_url), parts.netloc, parts.path.strip("/"))
    raise ValueError(f"a store's url is file:///folder or s3://bucket/prefix, not {url!r}")


def check_key(key: str) -> str:
    """The key itself, where it is one: relative, of plain parts. ValueError else: farm.storage.keys makes keys."""
    if not key or key.endswith("/") or any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError(f"not a key: {key!r}")
    if any(ord(letter) < 32 or letter == "\\" for letter in key):
        raise ValueError(f"not a key: {key!r}")
    return key
