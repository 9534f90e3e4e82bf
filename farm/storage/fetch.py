"""User uris to local files, with every guard: scheme, root, host, address, redirect, bucket, size, time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from farm.domain.limits import InputLimits


@dataclass(frozen=True)
class Fetched:
    """A user's bytes as a local file."""

    path: Path
    size_bytes: int
    sha256: str


def check_uri(uri: str, limits: InputLimits) -> None:
    """Refuse without I/O what can be seen from the text alone. Rejected: uri_malformed, uri_scheme_refused,
    uri_root_refused, uri_bucket_refused, uri_host_refused, uri_credentials_refused."""
    raise NotImplementedError


def fetch(uri: str, dest: Path, limits: InputLimits, endpoint_url: str | None = None) -> Fetched:
    """Download `uri` to `dest`, streaming.

    Rejected: the codes of check_uri, uri_not_found, uri_forbidden, uri_too_large, uri_empty, uri_too_slow,
    uri_redirects. Transient: uri_unavailable (5xx, connection lost, DNS down).
    """
    raise NotImplementedError
