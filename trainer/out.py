"""Where a run keeps what it makes: a folder, or a prefix in S3 with a folder of this machine in front of it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from farm.errors import Transient
from farm.storage.blobs import BlobStore, Missing, open_store
from farm.storage.local import LocalStore

Result = TypeVar("Result")
TRIES: Final = 5
FIRST_WAIT_S: Final = 0.5


@dataclass(frozen=True)
class Out:
    """folder: where files are written and read. store: where they are kept; the same folder, or S3."""

    folder: Path
    store: BlobStore

    @property
    def remote(self) -> bool:
        return not isinstance(self.store, LocalStore)

    @property
    def url(self) -> str:
        return self.store.uri("x")[:-2]

    def publish(self, name: str) -> None:
        """Keep a file, or all files of a folder, that was written."""
        if not self.remote:
            return
        path = self.folder / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                key = file.relative_to(self.folder).as_posix()
                patiently(lambda file=file, key=key: self.store.put_file(file, key))

    def fetch(self, name: str) -> Path:
        """The file as it was kept; it may not be there."""
        path = self.folder / name
        if self.remote:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                patiently(lambda: self.store.get_file(name, path))
            except Missing:
                path.unlink(missing_ok=True)
        return path


def open_out(where: str | Path) -> Out:
    """A folder (made when missing), file:///... or s3://bucket/prefix (server and keys as boto3 finds them: AWS_*)."""
    text = str(where)
    if not text.startswith("s3://"):
        folder = Path(text.removeprefix("file://")).absolute()
        return Out(folder, LocalStore(folder))
    folder = Path(tempfile.mkdtemp(prefix="dubfarm-run-"))
    return Out(folder, open_store(text, os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")))


def patiently(action: Callable[[], Result]) -> Result:
    """Try again, later and later, while the store does not answer. What is not there stays not there."""
    for tries in range(TRIES):
        try:
            return action()
        except Missing:
            raise
        except Transient:
            if tries == TRIES - 1:
                raise
            time.sleep(FIRST_WAIT_S * 2**tries)
    raise AssertionError
