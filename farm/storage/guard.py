"""What a user's uri may name: decided from its text, and from the addresses that its host resolves to."""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from farm.domain.limits import InputLimits
from farm.errors import Rejected, Transient
from farm.storage.blobs import check_key

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_UNICAST = ipaddress.ip_network("2000::/3")
"""All of IPv6 that is handed out to the internet at large (RFC 4291)."""
_NEVER = tuple(
    ipaddress.ip_network(block)
    for block in (
        "192.0.0.0/24",  # IETF protocols (RFC 6890); metadata of one cloud
        "192.88.99.0/24",  # 6to4 relays (RFC 7526)
        "168.63.129.16/32",  # the host below every virtual machine of another cloud
        "2001::/23",  # IETF protocols, Teredo
        "2001:db8::/32",
        "3fff::/20",  # documentation (RFC 9637)
    )
)


@dataclass(frozen=True)
class Target:
    """A uri in parts. host: lower case, without brackets. path: of the request (with query), the key, or the file."""

    scheme: str
    host: str
    port: int
    path: str


def check_uri(uri: str, limits: InputLimits) -> Target:
    """Refuse without I/O what can be seen from the text alone.

    Rejected: uri_malformed, uri_scheme_refused, uri_root_refused, uri_bucket_refused, uri_host_refused,
    uri_credentials_refused.
    """
    target = _parse(uri)
    if target.scheme not in limits.schemes:
        raise Rejected(
            "uri_scheme_refused",
            f"{target.scheme}: uris are not taken here, only {_either(limits.schemes)} (DUBFARM_INPUT_SCHEMES)",
        )
    if target.scheme == "file":
        _check_root(target.path, limits)
    elif target.scheme == "s3":
        if target.host not in limits.s3_buckets:
            detail = f"bucket {target.host!r} is not one that this farm may read (DUBFARM_INPUT_S3_BUCKETS)"
            raise Rejected("uri_bucket_refused", detail)
    elif target.scheme in ("https", "http"):
        literal = _literal(target.host)
        if literal is not None:
            _check_address(literal, target, limits)
    else:
        raise Rejected("uri_scheme_refused", f"{target.scheme}: uris cannot be fetched")
    return target


def _parse(uri: str) -> Target:
    if len(uri) > 8192 or any(ord(letter) <= 32 or ord(letter) == 127 for letter in uri) or "\\" in uri:
        raise Rejected(
            "uri_malformed", "a uri has no blanks, control characters or backslashes, and at most 8192 letters"
        )
    try:
        parts = urlsplit(uri)
        host, port = (parts.hostname or ""), parts.port
        if not host.isascii():
            host = host.encode("idna").decode()
    except ValueError as error:
        raise Rejected("uri_malformed", str(error)) from None
    scheme = parts.scheme.lower()
    if not scheme:
        raise Rejected("uri_malformed", "a uri begins with its scheme, such as https://")
    if parts.username is not None or parts.password is not None:
        raise Rejected("uri_credentials_refused", "a uri holds no user name or password; presign it instead")
    if scheme == "file":
        if host not in ("", "localhost") or not parts.path.startswith("/"):
            raise Rejected("uri_malformed", "a file uri is file:///absolute/path")
        return Target("file", "", 0, unquote(parts.path))
    if not host:
        raise Rejected("uri_malformed", "this uri names no host")
    if scheme == "s3":
        # Bucket names keep their case, and keys are taken as they are written: S3 knows no escapes.
        key = uri.split("://", 1)[1].partition("/")[2]
        if not key or key.endswith("/"):
            raise Rejected("uri_malformed", "an s3 uri is s3://bucket/key")
        return Target("s3", parts.netloc, 0, key)
    standard = 443 if scheme == "https" else 80
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    # What is escaped already stays as it is; letters beyond ASCII are escaped as browsers do.
    return Target(scheme, host, port or standard, quote(path, safe="/%:=&?~+!$,;'@()*[]|"))


def _either(names: tuple[str, ...]) -> str:
    return " or ".join(names) or "none"


def _check_root(path: str, limits: InputLimits) -> None:
    if "\0" in path or not _inside(Path(os.path.normpath(path)), limits.file_roots):
        roots = ", ".join(map(str, limits.file_roots)) or "no folder at all"
        raise Rejected("uri_root_refused", f"file uris may only name files in {roots} (DUBFARM_INPUT_FILE_ROOTS)")


def _inside(path: Path, roots: tuple[Path, ...]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


def real_file(target: Target, limits: InputLimits) -> Path:
    """The regular file that a checked file uri names, links followed and found inside the roots.

    Rejected: uri_not_found, uri_root_refused, uri_forbidden.
    """
    try:
        path = Path(target.path).resolve(strict=True)
        roots = tuple(root.resolve() for root in limits.file_roots)
        if not _inside(path, roots):
            raise Rejected("uri_root_refused", "this file is a link to a place that file uris may not name")
        if not path.is_file():
            raise Rejected("uri_not_found", "this is no regular file")
    except (FileNotFoundError, NotADirectoryError):
        raise Rejected("uri_not_found", "there is no such file") from None
    except PermissionError:
        raise Rejected("uri_forbidden", "the farm may not read this file") from None
    except (OSError, RuntimeError) as error:
        raise Rejected("uri_not_found", f"this file cannot be read: {error}") from None
    return path


def resolve(target: Target, limits: InputLimits) -> tuple[str, ...]:
    """The addresses of a host, all of them allowed: connect to one of these and to nothing else.

    Rejected: uri_host_refused (any of them is private), uri_host_unknown. Transient: uri_unavailable.
    """
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise Transient("uri_unavailable", f"{target.host}: {error.strerror}") from None
        raise Rejected("uri_host_unknown", f"{target.host}: {error.strerror}") from None
    except (OSError, UnicodeError) as error:
        raise Rejected("uri_host_unknown", f"{target.host}: {error}") from None
    addresses = tuple(dict.fromkeys(str(info[4][0]) for info in found))
    for address in addresses:
        _check_address(ipaddress.ip_address(address.partition("%")[0]), target, limits)
    return addresses


def _check_address(address: IPAddress, target: Target, limits: InputLimits) -> None:
    if target.host in limits.private_hosts or f"{target.host}:{target.port}" in limits.private_hosts:
        return
    if not is_public(address):
        detail = f"{target.host} is a private address; only public hosts are reached (DUBFARM_INPUT_PRIVATE_HOSTS)"
        raise Rejected("uri_host_refused", detail)


def is_public(address: IPAddress) -> bool:
    """Whether everybody's internet is behind this address, also where an IPv6 address only wraps an IPv4 one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address.ipv4_mapped
        if inner is not None:
            return is_public(inner)
        if address not in _UNICAST or (address.sixtofour is not None and not is_public(address.sixtofour)):
            return False
    if any(address in block for block in _NEVER if block.version == address.version):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _literal(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def check_destination(uri: str, limits: InputLimits) -> None:
    """Where an output may be copied to: a key in an allow-listed bucket, or a folder there when it ends in a slash.

    Rejected: destination_refused.
    """
    try:
        target = _parse(uri.removesuffix("/"))
        if target.scheme == "s3":
            check_key(target.path)
    except (Rejected, ValueError) as error:
        raise Rejected("destination_refused", getattr(error, "detail", str(error))) from None
    if target.scheme != "s3" or target.host not in limits.s3_buckets:
        buckets = ", ".join(limits.s3_buckets) or "none is set"
        detail = f"a destination is s3://bucket/key in a bucket of this farm (DUBFARM_INPUT_S3_BUCKETS: {buckets})"
        raise Rejected("destination_refused", detail)
