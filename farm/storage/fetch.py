"""User uris to local files, with every guard: scheme, root, host, address, redirect, bucket, size, time.

https is spoken by farm.storage.wire, which connects to the address that was checked and to no other.
"""

from __future__ import annotations

import hashlib
import http.client
import secrets
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

from farm.domain.limits import InputLimits, over
from farm.errors import Rejected, Transient
from farm.storage import guard
from farm.storage.guard import Target, check_destination, check_uri
from farm.storage.wire import Connection, Watch

__all__ = ["Fetched", "check_destination", "check_uri", "fetch"]

REDIRECTS: Final = 5
PART: Final = 1 << 18
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_LATER: Final = frozenset({408, 425, 429})


@dataclass(frozen=True)
class Fetched:
    """A user's bytes as a local file."""

    path: Path
    size_bytes: int
    sha256: str


def fetch(uri: str, dest: Path, limits: InputLimits, endpoint_url: str | None = None) -> Fetched:
    """Download `uri` to `dest`, streaming; nothing is left there when it fails.

    Rejected: the codes of check_uri, uri_host_unknown, uri_not_found, uri_forbidden, uri_too_large, uri_empty,
    uri_too_slow, uri_redirects, uri_tls. Transient: uri_unavailable (5xx, connection lost, DNS down).
    """
    target = check_uri(uri, limits)
    if target.scheme == "file":
        return _save(_file(target, limits), dest, limits)
    if target.scheme == "s3":
        return _save(_s3(target, limits, endpoint_url), dest, limits)
    slow = over("the download took longer", "fetch_timeout_s", limits.fetch_timeout_s)
    with Watch(limits.fetch_timeout_s, slow) as watch:
        return _save(_http(uri, limits, watch), dest, limits)


def _save(parts: Iterable[bytes], dest: Path, limits: InputLimits) -> Fetched:
    part_file = dest.with_name(f".{dest.name}.{secrets.token_hex(8)}")
    size, digest = 0, hashlib.sha256()
    try:
        with part_file.open("xb") as file:
            for part in parts:
                size += len(part)
                _check_size(size, limits)
                digest.update(part)
                file.write(part)
        if size == 0:
            raise Rejected("uri_empty", "this file has no bytes")
        part_file.replace(dest)
    finally:
        part_file.unlink(missing_ok=True)
    return Fetched(dest, size, digest.hexdigest())


def _check_size(size: int, limits: InputLimits) -> None:
    if size > limits.max_bytes:
        raise Rejected("uri_too_large", over("this file has more bytes", "max_bytes", limits.max_bytes))


def _file(target: Target, limits: InputLimits) -> Iterator[bytes]:
    path = guard.real_file(target, limits)
    try:
        with path.open("rb") as file:
            while part := file.read(PART):
                yield part
    except PermissionError:
        raise Rejected("uri_forbidden", "the farm may not read this file") from None


def _s3(target: Target, limits: InputLimits, endpoint_url: str | None) -> Iterator[bytes]:
    from farm.storage.blobs import Missing
    from farm.storage.s3 import S3Store, connect

    store = S3Store(connect(endpoint_url), target.host)
    try:
        _check_size(store.stat(target.path).size_bytes, limits)
        yield from store.read_range(target.path, 0)
    except (Missing, ValueError):
        raise Rejected("uri_not_found", f"bucket {target.host} has no such key") from None
    except Transient as error:
        if "(403)" in error.detail or "AccessDenied" in error.detail or "Forbidden" in error.detail:
            raise Rejected("uri_forbidden", f"the farm may not read this key of bucket {target.host}") from None
        raise Transient("uri_unavailable", error.detail) from None


def _http(uri: str, limits: InputLimits, watch: Watch) -> Iterator[bytes]:
    for _ in range(REDIRECTS + 1):
        target = check_uri(uri, limits)
        if target.scheme not in ("https", "http"):
            raise Rejected("uri_scheme_refused", "a web server may not send the farm to another kind of uri")
        connection = Connection(target, guard.resolve(target, limits), watch)
        try:
            # A response keeps the socket to itself: the connection's own close would leave it open.
            with _ask(connection, target) as response:
                if response.status not in _MOVED:
                    _check_status(response.status, target)
                    yield from _body(response, limits, watch)
                    return
                uri = _next(uri, response.headers.get("Location") or "")
        except ssl.SSLCertVerificationError as error:
            raise Rejected("uri_tls", f"{target.host}: {error.verify_message}") from None
        except (OSError, http.client.HTTPException) as error:
            watch.check()
            raise Transient("uri_unavailable", f"{target.host}: {error or type(error).__name__}") from None
        finally:
            connection.close()
    raise Rejected("uri_redirects", f"more than {REDIRECTS} redirects")


def _next(uri: str, to: str) -> str:
    try:
        return urljoin(uri, to)
    except ValueError as error:
        raise Rejected("uri_malformed", f"a redirect leads to what is no uri: {error}") from None


def _ask(connection: Connection, target: Target) -> http.client.HTTPResponse:
    connection.putrequest("GET", target.path, skip_accept_encoding=True)
    for name, value in {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "dubfarm"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse()


def _check_status(status: int, target: Target) -> None:
    if status == 200:
        return
    if status >= 500 or status in _LATER:
        raise Transient("uri_unavailable", f"{target.host} answered {status}")
    if status in (404, 410):
        raise Rejected("uri_not_found", f"{target.host} answered {status}")
    raise Rejected("uri_forbidden", f"{target.host} answered {status}")


def _body(response: http.client.HTTPResponse, limits: InputLimits, watch: Watch) -> Iterator[bytes]:
    announced = response.length
    if announced is not None:
        _check_size(announced, limits)
    received = 0
    # read1 returns what has come; read would wait for a whole part from a server that drips.
    while part := response.read1(PART):
        received += len(part)
        yield part
        watch.check()
    watch.check()
    if announced is not None and received < announced:
        raise http.client.IncompleteRead(b"", announced - received)
