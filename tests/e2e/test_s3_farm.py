"""A farm that keeps everything in S3: bytes pass the API by, and no folder holds any."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import av
import httpx
import pytest

from farm.cli.demo import MATERIAL
from farm.storage import s3
from farm.storage.blobs import BlobStore, open_store
from tests import media_files
from tests.e2e.command import WORK_S, Command, short_voice


@pytest.fixture
def bucket(on_s3: Mapping[str, str]) -> Iterator[str]:
    """A studio's own bucket on the same server: inputs and finished videos."""
    client = s3.connect(on_s3.get("STORAGE_ENDPOINT_URL"))
    name = f"studio-{secrets.token_hex(4)}"
    client.create_bucket(Bucket=name)
    yield name
    store = s3.S3Store(client, name)
    for found in list(store.list("")):
        store.delete(found.key)
    client.delete_bucket(Bucket=name)


@pytest.mark.timeout(900)
def test_a_batch_goes_through_a_farm_on_s3(on_s3: Mapping[str, str], bucket: str, tmp_path: Path) -> None:
    allowed = {
        "DUBFARM_INPUT_S3_BUCKETS": json.dumps([bucket]),
        "DUBFARM_WORKER_CHUNK_FRAMES": "16",
        "DUBFARM_WORKER_CACHE_DIR": str(tmp_path / "cache"),
    }
    dubfarm = Command(tmp_path / "data", {**on_s3, **allowed})
    endpoint = on_s3.get("STORAGE_ENDPOINT_URL")
    studio = open_store(f"s3://{bucket}", endpoint)
    _material(tmp_path)
    studio.put_file(MATERIAL / "portrait.png", "in/portrait.png")
    items: list[dict[str, Any]] = [
        {"custom_id": "dub", "kind": "dub", "video": "actor.mp4", "audio": "voice.wav"},
        {"custom_id": "still", "kind": "animate", "image": f"s3://{bucket}/in/portrait.png", "audio": "voice.wav"},
        {"custom_id": "nobody", "kind": "dub", "video": str(MATERIAL / "no_face.mp4"), "audio": "voice.wav"},
        {"custom_id": "gone", "kind": "animate", "image": f"s3://{bucket}/in/missing.png", "audio": "voice.wav"},
    ]
    items[0]["output"] = {"destination": f"s3://{bucket}/out/"}
    (tmp_path / "four.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))

    with dubfarm.farm() as (process, told):
        code, done = dubfarm("batch", "submit", "four.jsonl", "--wait", "-o", "out", "--timeout", str(WORK_S))
        assert code == 1, (done, dubfarm.logs())
        jobs = {job["custom_id"]: job for job in done["jobs"]}
        reasons = {name: job["error"] and job["error"]["code"] for name, job in jobs.items()}
        assert reasons == {"dub": None, "still": None, "nobody": "no_face", "gone": "uri_not_found"}, dubfarm.logs()
        assert {name: job["output"]["frames"] for name, job in jobs.items() if job["output"]} == {
            "dub": 20,
            "still": 20,
        }
        for name in ("dub", "still"):
            with av.open(str(tmp_path / done["files"][name])) as video:
                assert sum(1 for _ in video.decode(video=0)) == 20
        delivered = (tmp_path / done["files"]["dub"]).read_bytes()
        assert studio.get_bytes("out/dub.mp4") == delivered
        _bytes_pass_the_api_by(told, jobs["dub"]["id"], delivered, studio)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0, dubfarm.logs()
    dubfarm.wait_until_gone()
    assert not (dubfarm.data / "blobs").exists()
    kept = {found.key.split("/")[0] for found in open_store(on_s3["STORAGE_URL"], endpoint).list("")}
    assert {"bundles", "inputs", "jobs"} <= kept


def _material(folder: Path) -> None:
    """Most of a second of the drawn actor, and of a voice."""
    cut = ("-frames:v", "20", "-vf", "scale=320:-2", "-crf", "14", "-an")
    media_files.ffmpeg("-i", str(MATERIAL / "actor.mp4"), *cut, dest=folder / "actor.mp4")
    short_voice(folder / "voice.wav", 0.8)


def _bytes_pass_the_api_by(told: Mapping[str, str], job_id: str, output: bytes, store: BlobStore) -> None:
    """Up and down by presigned urls of the same server as `store`'s."""
    presigned = store.presign_get("any")
    assert presigned is not None
    server = httpx.URL(presigned).netloc
    key = {"Authorization": f"Bearer {told['key']}"}
    with httpx.Client(base_url=told["url"], headers=key, timeout=60) as http:
        upload = http.post("/v1/assets", json={"size_bytes": 5}).json()["upload"]
        assert httpx.URL(upload["url"]).netloc == server
        answer = http.get(f"/v1/jobs/{job_id}/output")
        assert answer.status_code == 302
        assert httpx.URL(answer.headers["location"]).netloc == server
        assert httpx.get(answer.headers["location"], timeout=60).content == output
