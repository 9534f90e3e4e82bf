"""Bytes in and out: uploads, ranges, previews; on a local folder and on an S3 server."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from farm.client import ApiError, Client
from farm.storage.blobs import BlobStore, open_store
from tests.api.conftest import Api, Starter
from tests.api.hands import OUTPUT, PREVIEW, Hands
from tests.api.test_batches import items

DATA = os.urandom(3_000_000)
TAG = f'"{hashlib.sha256(OUTPUT).hexdigest()}"'


@pytest.fixture(scope="module")
def folder_store(tmp_path_factory: pytest.TempPathFactory) -> BlobStore:
    return open_store(tmp_path_factory.mktemp("blobs").as_uri())


@pytest.fixture(scope="module")
def api(start_api: Starter, folder_store: BlobStore) -> Api:
    """On a folder, wherever the run has its store: only there do bytes pass through the API."""
    return start_api(store=folder_store)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "Stimme ü.wav"
    path.write_bytes(DATA)
    return path


def test_an_upload(client: Client, file: Path, api: Api):
    sent: list[tuple[int, int]] = []
    asset = client.upload(file, lambda *progress: sent.append(progress))
    assert (asset.status, asset.filename, asset.size_bytes) == ("ready", "Stimme ü.wav", len(DATA))
    assert asset.sha256 == hashlib.sha256(DATA).hexdigest()
    assert sent[-1] == (len(DATA), len(DATA))
    assert client.asset(asset.id) == asset
    item = items()[0] | {"audio": {"asset_id": asset.id}}
    assert client.submit([item]).counts.total == 1


def test_the_same_bytes_are_sent_once(client: Client, file: Path, http: httpx.Client, api: Api):
    first = client.upload(file)
    body = {"sha256": first.sha256, "filename": "again.wav"}
    again = http.post("/v1/assets", json=body).json()
    assert (again["status"], again["upload"], again["filename"]) == ("ready", None, "again.wav")
    assert again["id"] != first.id
    # A hash proves nothing: another tenant has to bring the bytes.
    with api.http(api.key("somebody with the hash")) as other:
        answer = other.post("/v1/assets", json=body).json()
        assert answer["status"] == "pending"
        assert answer["upload"] is not None


def test_an_upload_by_hand(http: httpx.Client):
    made = http.post("/v1/assets", json={"filename": "a.bin", "content_type": "video/mp4"})
    assert made.status_code == 201
    asset = made.json()
    assert made.headers["location"] == f"/v1/assets/{asset['id']}"
    assert asset["asset_id"] == asset["id"]
    upload = asset["upload"]
    complete = f"/v1/assets/{asset['id']}/complete"
    early = http.post(complete)
    assert (early.status_code, early.json()["code"]) == (422, "asset_bytes_missing")
    put = http.request(upload["method"], upload["url"], content=iter([b"a" * 70_000, b"b"]), headers=upload["headers"])
    assert put.status_code == 204
    wrong = http.post(complete, json={"sha256": "0" * 64})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "asset_sha256_mismatch")
    assert http.post(complete).json()["code"] == "asset_bytes_missing"
    http.put(upload["url"], content=b"a" * 70_000 + b"b")
    done = http.post(complete)
    assert (done.status_code, done.json()["status"], done.json()["size_bytes"]) == (200, "ready", 70_001)
    assert done.json()["upload"] is None
    assert http.post(complete).json() == done.json()
    late = http.put(upload["url"], content=b"other")
    assert (late.status_code, late.json()["code"]) == (409, "asset_already_complete")
    assert [row["id"] for row in http.get("/v1/assets").json()["data"]] == [asset["id"]]


def test_too_many_bytes(start_api: Starter, folder_store: BlobStore):
    api = start_api(max_bytes=1000, store=folder_store)
    with api.http(api.key("large")) as http:
        assert http.post("/v1/assets", json={"size_bytes": 1001}).json()["code"] == "asset_too_large"
        url = http.post("/v1/assets", json={}).json()["upload"]["url"]
        for content in (b"x" * 1001, iter([b"x" * 500] * 3)):
            answer = http.put(url, content=content)
            assert (answer.status_code, answer.json()["code"]) == (413, "asset_too_large")
        assert http.put(url, content=b"x" * 1000).status_code == 204


def test_an_empty_file(http: httpx.Client):
    asset = http.post("/v1/assets").json()
    assert http.put(asset["upload"]["url"], content=b"").status_code == 204
    answer = http.post(f"/v1/assets/{asset['id']}/complete")
    assert (answer.status_code, answer.json()["code"]) == (422, "asset_empty")


@pytest.fixture(scope="module")
def made(api: Api) -> Iterator[tuple[httpx.Client, str]]:
    """A job with an output, and its owner."""
    with api.http(api.key("owner of an output")) as http:
        item = items()[0] | {"custom_id": 'Szene "1"/ü'}
        batch_id = http.post("/v1/batches", json={"items": [item]}).json()["id"]
        job_id = http.get(f"/v1/batches/{batch_id}/jobs").json()["data"][0]["id"]
        Hands(api.database, api.store).make(job_id)
        yield http, job_id


def test_an_output(made: tuple[httpx.Client, str]):
    http, job_id = made
    answer = http.get(f"/v1/jobs/{job_id}/output")
    assert (answer.status_code, answer.content) == (200, OUTPUT)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-length"] == str(len(OUTPUT))
    assert answer.headers["etag"] == TAG
    assert answer.headers["accept-ranges"] == "bytes"
    assert "filename*=UTF-8''Szene%20%221%22%2F%C3%BC.mp4" in answer.headers["content-disposition"]


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-99", 0, 100), ("bytes=131000-", 131000, 131072), ("bytes=-5", 131067, 131072), ("bytes=5-5", 5, 6)],
)
def test_a_part_of_an_output(made: tuple[httpx.Client, str], asked: str, start: int, stop: int):
    http, job_id = made
    answer = http.get(f"/v1/jobs/{job_id}/output", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, OUTPUT[start:stop])
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(OUTPUT)}"


def test_conditions(made: tuple[httpx.Client, str]):
    http, job_id = made
    url = f"/v1/jobs/{job_id}/output"
    assert http.get(url, headers={"If-None-Match": TAG}).status_code == 304
    part = {"Range": "bytes=0-9"}
    assert http.get(url, headers=part | {"If-Range": TAG}).status_code == 206
    assert http.get(url, headers=part | {"If-Range": '"other"'}).content == OUTPUT
    beyond = http.get(url, headers={"Range": "bytes=999999-"})
    assert (beyond.status_code, beyond.json()["code"]) == (416, "range_not_satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{len(OUTPUT)}"


def test_a_download_resumes(api: Api, made: tuple[httpx.Client, str], tmp_path: Path):
    http, job_id = made
    key = http.headers["authorization"].removeprefix("Bearer ")
    dest = tmp_path / "o.mp4"
    dest.with_name("o.mp4.part").write_bytes(OUTPUT[:1000])
    first: list[int] = []
    with Client(api.url, key) as client:
        client.download(job_id, dest, lambda done, total: first.append(done))
    assert dest.read_bytes() == OUTPUT
    assert first[0] > 1000


def test_a_preview(made: tuple[httpx.Client, str]):
    http, job_id = made
    answer = http.get(f"/v1/jobs/{job_id}/preview")
    assert (answer.status_code, answer.content) == (200, PREVIEW)
    assert answer.headers["content-type"] == "image/jpeg"


def test_not_yet(client: Client, http: httpx.Client, tmp_path: Path):
    (job,) = client.jobs(client.submit(items()).id)
    answer = http.get(f"/v1/jobs/{job.id}/output")
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (409, "output_not_ready", True)
    assert client.preview(job.id) is None
    with pytest.raises(ApiError, match="output_not_ready"):
        client.download(job.id, tmp_path / "o.mp4")


def test_on_an_s3_server(start_api: Starter, s3_store: BlobStore, file: Path, tmp_path: Path):
    """Bytes go straight to the store and come straight from it."""
    api = start_api(store=s3_store)
    key = api.key("s3")
    with Client(api.url, key) as client, api.http(key) as http:
        upload = http.post("/v1/assets", json={"size_bytes": 5}).json()["upload"]
        assert not upload["url"].startswith(api.url)
        asset = client.upload(file)
        assert asset.sha256 == hashlib.sha256(DATA).hexdigest()
        (job,) = client.jobs(client.submit([items()[0] | {"audio": {"asset_id": asset.id}}]).id)
        Hands(api.database, s3_store).make(job.id)
        answer = http.get(f"/v1/jobs/{job.id}/output")
        assert answer.status_code == 302
        assert answer.headers["cache-control"] == "no-store"
        dest = tmp_path / "o.mp4"
        dest.with_name("o.mp4.part").write_bytes(OUTPUT[:1000])
        assert client.download(job.id, dest).read_bytes() == OUTPUT
        assert client.preview(job.id) == PREVIEW
