"""One contract, two stores: a folder, and S3 through moto's server. The store of STORAGE_URL too, where it is set."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from farm.domain.order import Blob
from farm.errors import Rejected, Transient
from farm.storage.blobs import BlobStore, Exists, Missing, open_store
from farm.storage.local import LocalStore
from farm.storage.s3 import UPLOAD_PART, S3Store, connect, disposition

DATA = bytes(range(256)) * 5000


@pytest.fixture(params=["local", "s3", *(["outside"] if "STORAGE_URL" in os.environ else [])])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "local":
        return LocalStore(tmp_path / "blobs")
    if request.param == "s3":
        return request.getfixturevalue("s3_store")
    return request.getfixturevalue("store")


def test_bytes_come_back_as_they_went(blobs: BlobStore, tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    want = Blob("a/b/c.bin", len(DATA), hashlib.sha256(DATA).hexdigest())
    assert blobs.put_file(path, "a/b/c.bin") == want
    assert blobs.get_bytes("a/b/c.bin") == DATA
    assert blobs.get_file("a/b/c.bin", tmp_path / "copy") == want
    assert (tmp_path / "copy").read_bytes() == DATA
    assert blobs.digest("a/b/c.bin") == want
    assert blobs.stat("a/b/c.bin").size_bytes == len(DATA)
    blobs.copy("a/b/c.bin", "z")
    blobs.delete("a/b/c.bin")
    blobs.delete("a/b/c.bin")
    assert blobs.get_bytes("z") == DATA
    assert blobs.put_bytes(b"", "empty").size_bytes == 0
    assert blobs.get_bytes("empty") == b""


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 10), (5, 5), (255, 300), (len(DATA) - 3, None), (0, None), (7, 10**9), (10**9, None)]
)
def test_ranges(blobs: BlobStore, start: int, stop: int | None) -> None:
    blobs.put_bytes(DATA, "range")
    assert b"".join(blobs.read_range("range", start, stop)) == DATA[start:stop]


def test_missing_says_which_key(blobs: BlobStore, tmp_path: Path) -> None:
    for read in (blobs.get_bytes, blobs.stat, blobs.digest, lambda key: blobs.read_range(key, 0, 5)):
        with pytest.raises(Missing, match="nothing is stored under no/such"):
            read("no/such")
    with pytest.raises(Missing):
        blobs.get_file("no/such", tmp_path / "x")
    with pytest.raises(Missing):
        blobs.copy("no/such", "y")
    assert list(tmp_path.glob("*x*")) == []
    assert issubclass(Missing, Transient)


def test_if_absent_writes_once(blobs: BlobStore, tmp_path: Path) -> None:
    blobs.put_bytes(b"first", "once", if_absent=True)
    with pytest.raises(Exists):
        blobs.put_bytes(b"second", "once", if_absent=True)
    path = tmp_path / "source"
    path.write_bytes(b"third")
    with pytest.raises(Exists):
        blobs.put_file(path, "once", if_absent=True)
    assert blobs.get_bytes("once") == b"first"
    blobs.put_bytes(b"second", "once")
    assert blobs.get_bytes("once") == b"second"


def test_of_many_writers_at_once_one_wins(blobs: BlobStore) -> None:
    won: list[int] = []

    def write(k: int) -> None:
        try:
            blobs.put_bytes(b"%d" % k * 1000, "contested", if_absent=True)
            won.append(k)
        except Exists:
            pass

    threads = [threading.Thread(target=write, args=(k,)) for k in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blobs.get_bytes("contested") == b"%d" % won[0] * 1000
    if isinstance(blobs, LocalStore):  # moto checks and writes in two steps
        assert len(won) == 1


def test_stream_past_its_limit_stores_nothing(blobs: BlobStore) -> None:
    with pytest.raises(Rejected, match="too_large"):
        blobs.put_stream(iter([b"x" * 600, b"x" * 600]), "big", max_bytes=1000)

    def broken() -> Iterator[bytes]:
        yield b"x"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        blobs.put_stream(broken(), "big")
    with pytest.raises(Missing):
        blobs.stat("big")
    assert blobs.put_stream(iter([b"x" * 600, b"y" * 400]), "big", max_bytes=1000).size_bytes == 1000


def test_list_goes_by_prefix(blobs: BlobStore) -> None:
    keys = ["k/a", "k/a-b", "k/a/b", "k/b/1", "k/b/2", "kk", "other"]
    for key in keys:
        if key != "k/a":  # a folder cannot hold both k/a and k/a/b
            blobs.put_bytes(key.encode(), key)
    for prefix in ("k/", "k/b", "k"):
        found = sorted(stat.key for stat in blobs.list(prefix))
        assert found == [key for key in keys[1:] if key.startswith(prefix)]
    assert list(blobs.list("nothing/")) == []


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "a\\b", "a\0b"])
def test_keys_do_not_leave_the_store(blobs: BlobStore, key: str) -> None:
    for use in (blobs.get_bytes, lambda key: blobs.put_bytes(b"", key), blobs.delete, blobs.uri):
        with pytest.raises(ValueError, match="not a key"):
            use(key)


def test_local_writes_leave_nothing_behind(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "blobs")
    store.put_bytes(b"x", "a/b")
    assert sorted(p.relative_to(store.root).as_posix() for p in store.root.rglob("*")) == [".writing", "a", "a/b"]
    assert store.uri("a/b") == (tmp_path / "blobs/a/b").as_uri()
    with pytest.raises(ValueError, match="not a key"):
        store.get_bytes(".writing/x")
    with pytest.raises(Transient, match="storage_unavailable"):
        store.put_bytes(b"x", "a/b/c")


def test_multipart_upload(s3_store: S3Store) -> None:
    size = 2 * UPLOAD_PART + 5
    part = b"ab" * (1 << 19)
    pieces = [part] * (size // len(part)) + [b"z" * (size % len(part))]
    made = s3_store.put_stream(iter(pieces), "large")
    assert made == s3_store.digest("large")
    assert made.size_bytes == size
    with pytest.raises(Rejected):
        s3_store.put_stream(iter([*pieces, b"!"]), "larger", max_bytes=size)
    uploads = s3_store._client.list_multipart_uploads(Bucket="farm").get("Uploads", [])
    assert uploads == []


def test_presigned_requests_work_for_anybody(s3_store: S3Store) -> None:
    upload = s3_store.presign_put("in/key", size_bytes=4, content_type="video/mp4")
    assert upload is not None
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in upload.url
    assert httpx.request(upload.method, upload.url, headers=upload.headers, content=b"data").status_code == 200
    url = s3_store.presign_get("in/key", "take 1 (naïve).mp4")
    assert url is not None
    assert "X-Amz-Signature" in url
    answer = httpx.get(url)
    assert answer.content == b"data"
    assert answer.headers["content-disposition"] == disposition("take 1 (naïve).mp4")


def test_s3_that_does_not_answer_is_transient(own_s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Transient, match="storage_unavailable"):
        S3Store(connect(own_s3_url), "no-such-bucket").put_bytes(b"", "k")
    client = connect("http://127.0.0.1:9")
    client.meta.config.retries["max_attempts"] = 1
    with pytest.raises(Transient, match="storage_unavailable"):
        S3Store(client, "farm").get_bytes("k")


def test_open_store_by_url(tmp_path: Path, own_s3_url: str) -> None:
    store = open_store((tmp_path / "with space").as_uri())
    assert isinstance(store, LocalStore)
    assert store.root == tmp_path / "with space"
    far = open_store("s3://farm/some/prefix/", own_s3_url)
    assert far.uri("k") == "s3://farm/some/prefix/k"
    for url in ("ftp://x/y", "/plain/path", "s3:///key", "file://host/x"):
        with pytest.raises(ValueError, match="store's url"):
            open_store(url)
