"""Bytes up and down: uploads with their SHA-256, downloads that resume and are checked."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

import httpx

from farm.client.answers import ClipSource, JobOutput, UploadTo
from farm.client.transport import RETRIED, ApiError, Transport, Unreachable, pause_s

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""

_BLOCK: Final = 1 << 20


class DownloadDamaged(Exception):
    """The bytes that came are not those that the farm made."""


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def send(transport: Transport, upload: UploadTo, path: Path, progress: Progress | None) -> None:
    """PUT the file where the API said. The key goes along to the API itself, and to nobody else."""
    size = path.stat().st_size
    url = urljoin(transport.base_url + "/", upload.url)
    own = httpx.URL(url).netloc == httpx.URL(transport.base_url).netloc
    headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream", **upload.headers}

    def blocks() -> Iterator[bytes]:
        done = 0
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block
                done += len(block)
                if progress:
                    progress(done, size)

    for attempt in range(transport.retries + 1):
        last = attempt == transport.retries
        try:
            if own:
                response = transport.http.request(upload.method, url, content=blocks(), headers=headers, timeout=300)
            else:
                response = httpx.request(upload.method, url, content=blocks(), headers=headers, timeout=300)
        except httpx.TransportError as error:
            if last:
                raise Unreachable(f"{url}: {error or type(error).__name__}") from error
            time.sleep(pause_s(attempt, None))
            continue
        if response.is_success:
            return
        if last or response.status_code not in RETRIED:
            raise ApiError.of(response)
        time.sleep(pause_s(attempt, response.headers.get("retry-after")))


def fetch(
    transport: Transport, path: str, output: JobOutput | ClipSource, dest: Path, progress: Progress | None
) -> Path:
    """Download into `dest`, going on from `dest`.part where an earlier call was cut off.

    Raises DownloadDamaged where size or SHA-256 differ (the part is removed), Unreachable when retries are spent.
    """
    part = dest.with_name(dest.name + ".part")
    failures = 0
    while True:
        have = part.stat().st_size if part.exists() else 0
        if have >= output.size_bytes:
            break
        try:
            _fetch_from(transport, path, part, have, output, progress)
        except (httpx.TransportError, ApiError) as error:
            if isinstance(error, ApiError) and error.status not in RETRIED:
                raise
            failures = 0 if part.exists() and part.stat().st_size > have else failures + 1
            if failures > transport.retries:
                raise Unreachable(f"the download of {path} stopped: {error}") from error
            time.sleep(pause_s(failures, None))
    if part.stat().st_size != output.size_bytes or sha256_of(part) != output.sha256:
        part.unlink()
        raise DownloadDamaged(f"{path}: the SHA-256 is not {output.sha256}")
    os.replace(part, dest)
    return dest


def _fetch_from(
    transport: Transport, path: str, part: Path, have: int, output: JobOutput | ClipSource, progress: Progress | None
) -> None:
    headers = {"Range": f"bytes={have}-"} if have else {}
    with transport.stream("GET", path, headers=headers, follow_redirects=True) as response:
        # A server without ranges starts over.
        done = have if response.status_code == 206 else 0
        with part.open("ab" if done else "wb") as file:
            for block in response.iter_raw():  # as they come: what was received before a cut counts
                file.write(block)
                done += len(block)
                if progress:
                    progress(done, output.size_bytes)
    if done < output.size_bytes:
        raise httpx.RemoteProtocolError("the connection closed early")
