"""User uris: what is refused and with which code, and that what is allowed arrives whole."""

from __future__ import annotations

import datetime
import hashlib
import http.server
import ipaddress
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from farm.domain.limits import InputLimits
from farm.errors import Rejected, Transient
from farm.storage import fetch, guard
from farm.storage.s3 import S3Store

OPEN = InputLimits(schemes=("http", "https", "s3", "file"), private_hosts=("127.0.0.1", "localhost"))
BODY = b"frames" * 50_000


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("", "uri_malformed"),
        ("video.mp4", "uri_malformed"),
        ("https://", "uri_malformed"),
        ("https://exa mple.com/", "uri_malformed"),
        ("https://example.com/\r\nHost: evil", "uri_malformed"),
        ("https://example.com\\@127.0.0.1/", "uri_malformed"),
        ("https://[::1/", "uri_malformed"),
        ("https://example.com:99999/", "uri_malformed"),
        ("file://host/x", "uri_malformed"),
        ("s3://bucket", "uri_malformed"),
        ("https://" + "x" * 9000, "uri_malformed"),
        ("http://example.com/", "uri_scheme_refused"),
        ("ftp://example.com/", "uri_scheme_refused"),
        ("gopher://example.com/", "uri_scheme_refused"),
        ("data:text/plain,x", "uri_malformed"),
        ("file:///etc/passwd", "uri_scheme_refused"),
        ("s3://other/key", "uri_bucket_refused"),
        ("https://user:pw@example.com/", "uri_credentials_refused"),
        ("https://127.0.0.1/", "uri_host_refused"),
        ("https://10.1.2.3/", "uri_host_refused"),
        ("https://172.16.0.1/", "uri_host_refused"),
        ("https://192.168.1.1/", "uri_host_refused"),
        ("https://169.254.169.254/latest/meta-data", "uri_host_refused"),
        ("https://100.64.0.1/", "uri_host_refused"),
        ("https://0.0.0.0/", "uri_host_refused"),
        ("https://224.0.0.1/", "uri_host_refused"),
        ("https://255.255.255.255/", "uri_host_refused"),
        ("https://[::1]/", "uri_host_refused"),
        ("https://[::]/", "uri_host_refused"),
        ("https://[fe80::1]/", "uri_host_refused"),
        ("https://[fd00::1]/", "uri_host_refused"),
        ("https://[::ffff:127.0.0.1]/", "uri_host_refused"),
        ("https://[::ffff:a00:1]/", "uri_host_refused"),
        ("https://[64:ff9b::7f00:1]/", "uri_host_refused"),
        ("https://[2002:7f00:1::]/", "uri_host_refused"),
    ],
)
def test_refused_by_text(uri: str, code: str) -> None:
    with pytest.raises(Rejected) as refused:
        fetch.check_uri(uri, InputLimits())
    assert refused.value.code == code


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost"])
def test_refused_by_address(host: str, tmp_path: Path) -> None:
    """Spellings that only the resolver understands."""
    with pytest.raises(Rejected) as refused:
        fetch.fetch(f"https://{host}/x", tmp_path / "x", InputLimits())
    assert refused.value.code in ("uri_host_refused", "uri_host_unknown")


def test_one_private_address_among_public_ones_refuses_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(2, 1, 6, "", ("93.184.216.34", 443)), (2, 1, 6, "", ("10.0.0.1", 443))]

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    with pytest.raises(Rejected, match="uri_host_refused"):
        guard.resolve(fetch.check_uri("https://rebind.example/", InputLimits()), InputLimits())


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"])
def test_public_addresses_are_public(address: str) -> None:
    assert guard.is_public(ipaddress.ip_address(address))


def test_uri_in_parts() -> None:
    target = fetch.check_uri("https://MÜNCHEN.example:8443/a b".replace(" ", "%20") + "/ü?q=1&r=ä#top", InputLimits())
    assert target == guard.Target("https", "xn--mnchen-3ya.example", 8443, "/a%20b/%C3%BC?q=1&r=%C3%A4")


class _Files(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self.path.split("?")[0].strip("/")
        if name.startswith("status-"):
            self._answer(int(name.removeprefix("status-")), b"no")
        elif name.startswith("hop-"):
            left = int(name.removeprefix("hop-"))
            self._redirect(f"/hop-{left - 1}" if left else "/file")
        elif name.startswith("to/"):
            self._redirect(name.removeprefix("to/"))
        elif name == "chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in (BODY[:1000], BODY[1000:]):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        elif name == "short":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 10)
            self.close_connection = True
        elif name == "drip":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            try:
                for _ in range(100):
                    self.wfile.write(b"x")
                    time.sleep(0.05)
            except OSError:
                self.close_connection = True
        else:
            self._answer(200, b"" if name == "empty" else BODY)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _redirect(self, to: str) -> None:
        self.send_response(302)
        self.send_header("Location", to)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def _serve(server: http.server.ThreadingHTTPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    for port in _serve(http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Files)):
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("name", ["file", "chunked", "hop-4", "file?x=1#y"])
def test_file_arrives_whole(site: str, name: str, tmp_path: Path) -> None:
    got = fetch.fetch(f"{site}/{name}", tmp_path / "x", OPEN)
    assert got == fetch.Fetched(tmp_path / "x", len(BODY), hashlib.sha256(BODY).hexdigest())
    assert (tmp_path / "x").read_bytes() == BODY


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("status-404", "uri_not_found"),
        ("status-410", "uri_not_found"),
        ("status-403", "uri_forbidden"),
        ("status-204", "uri_forbidden"),
        ("hop-5", "uri_redirects"),
        ("empty", "uri_empty"),
        ("to/https://10.0.0.1/x", "uri_host_refused"),
        ("to/http://169.254.169.254/latest", "uri_host_refused"),
        ("to/file:///etc/passwd", "uri_root_refused"),
        ("to/s3://farm/key", "uri_scheme_refused"),
        ("to/ftp://example.com/", "uri_scheme_refused"),
    ],
)
def test_refused_on_the_way(site: str, name: str, code: str, tmp_path: Path) -> None:
    limits = replace(OPEN, s3_buckets=("farm",))
    with pytest.raises(Rejected) as refused:
        fetch.fetch(f"{site}/{name}", tmp_path / "x", limits)
    assert refused.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_no_step_down_to_http(site: str) -> None:
    with pytest.raises(Rejected, match="uri_scheme_refused"):
        fetch.check_uri(f"{site}/file", replace(OPEN, schemes=("https",)))


@pytest.mark.parametrize("name", ["status-500", "status-503", "status-429", "short"])
def test_worth_another_try(site: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(Transient) as failed:
        fetch.fetch(f"{site}/{name}", tmp_path / "x", OPEN)
    assert failed.value.code == "uri_unavailable"
    assert list(tmp_path.iterdir()) == []


def test_nobody_there_is_worth_another_try(tmp_path: Path) -> None:
    with pytest.raises(Transient, match="uri_unavailable"):
        fetch.fetch("http://127.0.0.1:9/x", tmp_path / "x", OPEN)


@pytest.mark.parametrize("name", ["file", "chunked"])
def test_too_large_whether_announced_or_not(site: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="uri_too_large"):
        fetch.fetch(f"{site}/{name}", tmp_path / "x", replace(OPEN, max_bytes=len(BODY) - 1))
    assert list(tmp_path.iterdir()) == []


def test_server_that_drips_is_broken_off(site: str, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="uri_too_slow"):
        fetch.fetch(f"{site}/drip", tmp_path / "x", replace(OPEN, fetch_timeout_s=0.3))


def _certificate(folder: Path, host: str) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{host}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_https_asks_for_the_host_by_name_and_checks_its_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = _certificate(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    for port in _serve(server):
        uri = f"https://localhost:{port}/file"
        with pytest.raises(Rejected, match="uri_tls"):
            fetch.fetch(uri, tmp_path / "x", OPEN)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert fetch.fetch(uri, tmp_path / "x", OPEN).size_bytes == len(BODY)
        with pytest.raises(Rejected, match="uri_tls"):
            fetch.fetch(f"https://127.0.0.1:{port}/file", tmp_path / "x", OPEN)


def test_files_inside_their_roots(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.write_bytes(b"secret")
    (root / "a b.mp4").write_bytes(BODY)
    (root / "link").symlink_to(outside)
    (root / "folder").mkdir()
    (root / "empty").touch()
    os.mkfifo(root / "pipe")
    limits = InputLimits(schemes=("file",), file_roots=(root,))
    dest = tmp_path / "x"
    assert fetch.fetch((root / "a b.mp4").as_uri(), dest, limits).size_bytes == len(BODY)
    for uri, code in {
        (root / "none").as_uri(): "uri_not_found",
        (root / "folder").as_uri(): "uri_not_found",
        (root / "pipe").as_uri(): "uri_not_found",
        (root / "empty").as_uri(): "uri_empty",
        (root / "link").as_uri(): "uri_root_refused",
        outside.as_uri(): "uri_root_refused",
        f"file://{root}/../outside": "uri_root_refused",
        f"file://{root}/%2e%2e/outside": "uri_root_refused",
        f"file://{root}/a%00b": "uri_root_refused",
        f"file://{root}-beside/x": "uri_root_refused",
    }.items():
        with pytest.raises(Rejected) as refused:
            fetch.fetch(uri, dest, limits)
        assert refused.value.code == code, uri


def test_destinations_are_keys_in_allowed_buckets() -> None:
    limits = InputLimits(s3_buckets=("films",))
    fetch.check_destination("s3://films/out/a.mp4", limits)
    fetch.check_destination("s3://films/out/", limits)
    nowhere = ("s3://other/a.mp4", "s3://films", "s3://films/", "s3://films/a/../b", "s3://films/a//", "s3://films//a")
    for uri in (*nowhere, "https://example.com/x", "file:///x", "nothing"):
        with pytest.raises(Rejected, match="destination_refused"):
            fetch.check_destination(uri, limits)


def test_s3_uris_in_allowed_buckets(s3_store: S3Store, own_s3_url: str, tmp_path: Path) -> None:
    s3_store.put_bytes(BODY, "in/ä b.mp4")
    limits = InputLimits(s3_buckets=("farm", "gone"))
    uri = s3_store.uri("in/ä b.mp4")
    with pytest.raises(Rejected, match="uri_malformed"):
        fetch.fetch(uri, tmp_path / "x", limits, own_s3_url)
    s3_store.copy("in/ä b.mp4", "in/b.mp4")
    uri = s3_store.uri("in/b.mp4")
    assert fetch.fetch(uri, tmp_path / "x", limits, own_s3_url).size_bytes == len(BODY)
    with pytest.raises(Rejected, match="uri_too_large"):
        fetch.fetch(uri, tmp_path / "x", replace(limits, max_bytes=10), own_s3_url)
    for missing in (f"{uri}.no", "s3://gone/key"):
        with pytest.raises((Rejected, Transient)) as failed:
            fetch.fetch(missing, tmp_path / "y", limits, own_s3_url)
        assert failed.value.code == "uri_not_found"
