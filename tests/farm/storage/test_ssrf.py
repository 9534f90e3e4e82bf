"""Nobody may have the farm look at its own network: every spelling, redirect and resolver trick ends in a refusal, and
the server on loopback that they aim at never hears of it. No packet of these tests leaves the machine."""

from __future__ import annotations

import http.server
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from farm.domain.limits import InputLimits
from farm.errors import Rejected, Transient
from farm.storage import fetch, guard

LIMITS = InputLimits(schemes=("http", "https"), fetch_timeout_s=20)
PUBLIC = "127.0.0.2"
"""Stands for a server on the internet: a second address of this machine, which these tests call public."""


@dataclass
class Server:
    port: int
    asked: list[str] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)


def _serving(address: str) -> Iterator[Server]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(self.headers.get("Host", ""))
            to = server.redirects.get(self.path)
            self.send_response(302 if to is not None else 200)
            if to is not None:
                self.send_header("Location", to)
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"secret")

        def log_message(self, format: str, *args: object) -> None:
            pass

    listening = http.server.ThreadingHTTPServer((address, 0), Handler)
    server = Server(listening.server_address[1])
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield server
    listening.shutdown()
    listening.server_close()
    thread.join()


@pytest.fixture
def secret() -> Iterator[Server]:
    """What an attacker is after: it counts who asks."""
    yield from _serving("127.0.0.1")


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    really = guard.is_public
    monkeypatch.setattr(guard, "is_public", lambda address: str(address) == PUBLIC or really(address))
    yield from _serving(PUBLIC)


Resolver = Callable[[str, Sequence[Sequence[str]]], None]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """A resolver of our own: each look-up of a name gives the next of its answers, and the last one from then on."""
    answers: dict[str, list[Sequence[str]]] = {}
    really = socket.getaddrinfo

    def look_up(host: str | bytes | None, port: object, *more: object, **named: object) -> object:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in answers:
            return really(host, port, *more, **named)  # pyright: ignore[reportArgumentType, reportCallIssue]
        left = answers[name]
        found = left.pop(0) if len(left) > 1 else left[0]
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return lambda name, given: answers.__setitem__(name, list(given))


def refused(uri: str, folder: Path, limits: InputLimits = LIMITS) -> str:
    with pytest.raises((Rejected, Transient)) as caught:
        fetch.fetch(uri, folder / "x", limits)
    assert list(folder.iterdir()) == []
    return caught.value.code


SPELLINGS = (
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0x7f.0x0.0x0.0x1",
    "0177.0.0.01",
    "0x7F.1",
    "127.000.000.001",
    "127.0.0.1.",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "ip6-localhost",
    "0",
    "0.0.0.0",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:0:127.0.0.1]",
    "[0000::ffff:127.0.0.1%25lo]",
    "[fe80::1%25lo]",
    "[fe80::1%lo]",
    "[::1%25lo]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2002:7f00:0001::1]",
    "[2001:0:7f00:1::]",
    "[fd00:ec2::254]",
    "[fec0::1]",
    "[ff02::1]",
    "169.254.169.254",
    "2852039166",
    "0xA9FEA9FE",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::]",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "10.0.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "198.18.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "①②⑦.⓪.⓪.①",
    "１２７．０．０．１",
    "127。0。0。1",
    "loc\u00adalhost",
    "user@127.0.0.1",
    "example.com@127.0.0.1",
    "example.com:pw@127.0.0.1",
    "127.0.0.1#@example.com",
    "127.0.0.1?@example.com",
    "127.0.0.1/@example.com",
    "127.0.0.1\\@example.com",
    "127.0.0.1 @example.com",
    "example.com%00.127.0.0.1",
    "example.com\r\nHost:127.0.0.1",
    "%31%32%37.0.0.1",
    "[::1]@example.com",
    "[::1",
    "::1",
)


@pytest.mark.parametrize("host", SPELLINGS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_every_spelling_of_a_private_address_is_refused(scheme: str, host: str, secret: Server, tmp_path: Path) -> None:
    at = host if any(mark in host for mark in "#?/") else f"{host}:{secret.port}"
    code = refused(f"{scheme}://{at}/latest/meta-data", tmp_path)
    assert code in ("uri_host_refused", "uri_host_unknown", "uri_malformed", "uri_credentials_refused")
    assert secret.asked == []


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "FILE:///etc/passwd",
        "file:/etc/passwd",
        "/etc/passwd",
        "//127.0.0.1/x",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "dict://127.0.0.1:11211/stats",
        "ldap://127.0.0.1/",
        "jar:http://127.0.0.1!/x",
        "netdoc:///etc/passwd",
        "concat:/etc/passwd",
        "subfile,,start,0,end,9,,:/etc/passwd",
        "data:text/plain,hello",
        "s3://127.0.0.1/x",
        "s3://farm/../x",
        "http:127.0.0.1",
        "http:/127.0.0.1/",
        "http:///127.0.0.1/",
        "https://",
        "javascript:alert(1)",
    ],
)
def test_odd_schemes_are_refused(uri: str, tmp_path: Path) -> None:
    code = refused(uri, tmp_path, InputLimits(schemes=("http", "https", "s3")))
    assert code in ("uri_scheme_refused", "uri_malformed", "uri_bucket_refused")


def test_the_address_that_was_checked_is_the_one_connected_to(
    public: Server, secret: Server, names: Resolver, tmp_path: Path
) -> None:
    """DNS rebinding: public when asked first, private ever after."""
    names("rebind.test", [[PUBLIC], ["127.0.0.1"]])
    assert fetch.fetch(f"http://rebind.test:{public.port}/x", tmp_path / "x", LIMITS).size_bytes == 6
    assert public.asked == [f"rebind.test:{public.port}"]
    (tmp_path / "x").unlink()
    names("rebind.test", [[PUBLIC], ["127.0.0.1"]])
    assert refused(f"http://rebind.test:{secret.port}/x", tmp_path) == "uri_unavailable"  # nobody there at PUBLIC
    assert refused(f"http://rebind.test:{secret.port}/x", tmp_path) == "uri_host_refused"
    assert secret.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.1"],
        [PUBLIC, "127.0.0.1"],
        ["127.0.0.1", PUBLIC],
        [PUBLIC, "::1"],
        [PUBLIC, "::ffff:127.0.0.1"],
        [PUBLIC, "fe80::1%lo"],
        [PUBLIC, "169.254.169.254"],
        [PUBLIC, "64:ff9b::7f00:1"],
        ["0.0.0.0"],
    ],
)
def test_one_private_answer_among_public_ones_refuses_the_name(
    answer: list[str], public: Server, secret: Server, names: Resolver, tmp_path: Path
) -> None:
    names("mixed.test", [answer])
    for server in (public, secret):
        assert refused(f"http://mixed.test:{server.port}/x", tmp_path) == "uri_host_refused"
    assert (public.asked, secret.asked) == ([], [])


@pytest.mark.parametrize(
    ("to", "code"),
    [
        ("http://127.0.0.1:{secret}/x", "uri_host_refused"),
        ("http://2130706433:{secret}/x", "uri_host_refused"),
        ("http://[::ffff:127.0.0.1]:{secret}/x", "uri_host_refused"),
        ("http://inside.test:{secret}/x", "uri_host_refused"),
        ("//127.0.0.1:{secret}/x", "uri_host_refused"),
        ("/to-loopback", "uri_host_refused"),
        ("http://user:pw@127.0.0.1:{secret}/x", "uri_credentials_refused"),
        ("file:///etc/passwd", "uri_scheme_refused"),
        ("ftp://127.0.0.1/x", "uri_scheme_refused"),
        ("s3://bucket/key", "uri_scheme_refused"),
        ("data:text/plain,x", "uri_malformed"),
        ("http://exa mple/", "uri_malformed"),
        ("http://[::1/", "uri_malformed"),
        ("", "uri_redirects"),
        ("/again", "uri_redirects"),
        ("http://turns.test:{public}/again", "uri_host_refused"),
    ],
)
def test_redirects_are_checked_like_the_first_uri(
    to: str, code: str, public: Server, secret: Server, names: Resolver, tmp_path: Path
) -> None:
    names("inside.test", [["127.0.0.1"]])
    names("turns.test", [[PUBLIC], ["127.0.0.1"]])  # public for the first hop, private for the second
    there = to.format(secret=secret.port, public=public.port)
    loopback = f"http://127.0.0.1:{secret.port}/x"
    public.redirects |= {"/start": there, "/again": "/start", "/to-loopback": loopback}
    assert refused(f"http://{PUBLIC}:{public.port}/start", tmp_path) == code
    assert public.asked
    assert secret.asked == []


def test_a_proxy_in_the_environment_is_not_asked(
    public: Server, secret: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{secret.port}")
    fetch.fetch(f"http://{PUBLIC}:{public.port}/x", tmp_path / "x", LIMITS)
    assert (len(public.asked), secret.asked) == (1, [])


@pytest.mark.parametrize(
    ("address", "is_public"),
    [
        ("8.8.8.8", True),
        ("2606:2800:220:1::1", True),
        ("64:ff9b::808:808", True),
        ("2002:808:808::1", True),
        ("::ffff:8.8.8.8", True),
        ("3fff::1", False),
        ("fec0::1", False),
        ("5f00::1", False),
        ("100::1", False),
        ("192.88.99.1", False),
        ("192.0.0.8", False),
    ],
)
def test_what_is_public(address: str, is_public: bool) -> None:
    assert guard.is_public(ipaddress.ip_address(address)) is is_public


def test_refusals_name_the_setting(tmp_path: Path) -> None:
    limits = InputLimits(schemes=("https", "file", "s3"), file_roots=(tmp_path,), max_bytes=3)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"four")
    for uri, setting in {
        "http://example.com/": "DUBFARM_INPUT_SCHEMES",
        "https://127.0.0.1/": "DUBFARM_INPUT_PRIVATE_HOSTS",
        "s3://other/x": "DUBFARM_INPUT_S3_BUCKETS",
        "file:///etc/passwd": "DUBFARM_INPUT_FILE_ROOTS",
        (tmp_path / "in" / "a").as_uri(): "DUBFARM_INPUT_MAX_BYTES",
    }.items():
        with pytest.raises(Rejected) as caught:
            fetch.fetch(uri, tmp_path / "x", limits)
        assert setting in caught.value.detail
