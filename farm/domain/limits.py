"""What users may hand in; every refusal names what refused it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class InputLimits:
    """The values of `farm.settings.InputSettings`, for code that reads no settings.

    schemes: of uris ("https", "s3", "file"). file_roots: folders that file:// uris may name. private_hosts: hosts that
    may resolve to private or loopback addresses. s3_buckets: buckets that s3:// uris and destinations may
    name; the farm's own is no exception.
    """

    schemes: tuple[str, ...] = ("https", "s3")
    file_roots: tuple[Path, ...] = ()
    private_hosts: tuple[str, ...] = ()
    s3_buckets: tuple[str, ...] = ()
    max_bytes: int = 20 * 2**30
    max_duration_s: float = 4 * 3600 + 60
    max_pixels: int = 4096 * 2304
    fetch_timeout_s: float = 3600
