"""The whole farm as a user meets it: `dubfarm up`, a batch over HTTP by the command, a stop, a crash, a start again."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import av
import pytest

from farm.cli.demo import MATERIAL
from tests.e2e.command import WORK_S, Command, short_voice


@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_farm_from_first_start_to_crash_and_back(services: Mapping[str, str], tmp_path: Path) -> None:
    dubfarm = Command(tmp_path / "farm data", services)
    short_voice(tmp_path / "voice.wav", 0.8)
    items = [
        {"custom_id": "speaks", "kind": "animate", "image": str(MATERIAL / "portrait.png"), "audio": "voice.wav"},
        {"custom_id": "nobody", "kind": "dub", "video": str(MATERIAL / "no_face.mp4"), "audio": "voice.wav"},
    ]
    (tmp_path / "two.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))

    with dubfarm.farm() as (process, told):
        code, done = dubfarm("batch", "submit", "two.jsonl", "--wait", "-o", "out", "--timeout", str(WORK_S))
        assert code == 1, (done, dubfarm.logs())
        jobs = {job["custom_id"]: job for job in done["jobs"]}
        assert jobs["speaks"]["status"] == "succeeded", (jobs, dubfarm.logs())
        assert jobs["nobody"]["status"] == "failed"
        assert jobs["nobody"]["error"]["code"] == "no_face"
        assert list(done["files"]) == ["speaks"]
        with av.open(str(tmp_path / done["files"]["speaks"])) as video:
            assert sum(1 for _ in video.decode(video=0)) == jobs["speaks"]["output"]["frames"] == 20

        _keys_are_worth_what_they_say(dubfarm)
        code, checks = dubfarm("doctor")
        assert code == 0, checks
        assert {"workers", "model", "API key"} <= {check["check"] for check in checks["checks"]}
        code, refused = dubfarm("up")
        assert (code, refused["error"]["code"]) == (2, "folder_in_use")

        process.send_signal(signal.SIGTERM)
        assert process.wait(180) == 0, dubfarm.logs()
    dubfarm.wait_until_gone()
    assert dubfarm("batch", "list")[0] == 5

    with dubfarm.farm() as (process, again):
        assert again["key"] == told["key"]
        code, batches = dubfarm("batch", "list")
        assert (code, [batch["id"] for batch in batches]) == (0, [done["batch"]["id"]])
        code, _ = dubfarm("job", "download", jobs["speaks"]["id"], "-o", "again.mp4")
        assert code == 0
        assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / done["files"]["speaks"]).read_bytes()
        process.kill()
        process.wait(180)
    dubfarm.wait_until_gone()  # a killed farm takes everything along

    with dubfarm.farm() as (process, _):
        assert dubfarm("batch", "show", done["batch"]["id"])[0] == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(180) == 0
    dubfarm.wait_until_gone()


def _keys_are_worth_what_they_say(dubfarm: Command) -> None:
    code, made = dubfarm("keys", "create", "reader", "--scope", "read")
    assert code == 0
    assert dubfarm("batch", "list", "--key", made["secret"])[0] == 0
    code, refused = dubfarm("batch", "submit", "two.jsonl", "--key", made["secret"])
    assert (code, refused["exit_code"]) == (3, 3)
    assert dubfarm("keys", "revoke", made["key"]["id"])[0] == 0
    assert dubfarm("batch", "list", "--key", made["secret"])[0] == 3
    assert dubfarm("batch", "show", "bat_00000000000000000000000000000000")[0] == 2


@pytest.mark.timeout(900)
def test_the_demo_comes_out_as_designed(services: Mapping[str, str], tmp_path: Path) -> None:
    dubfarm = Command(tmp_path / "data", services)
    code, report = dubfarm("demo", "--output", str(tmp_path / "out"))
    assert code == 0, report
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    assert [item["as_designed"] for item in report["items"]] == [True] * 4
    for item in report["items"]:
        assert (item["output"] is None) == (item["status"] == "failed")
