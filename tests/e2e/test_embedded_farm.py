"""The whole farm as a user meets it: `dubfarm up`, a batch over HTTP by the command, a stop, a crash, a start again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import pytest

from farm.cli.demo import MATERIAL
from farm.embedded.process import free_port

ROOT = Path(__file__).resolve().parents[2]
WORK_S = 300


@dataclass(frozen=True)
class Command:
    """`dubfarm … --json` on one data folder."""

    data: Path

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DUBFARM_", "PG"))}
        for name in ("DATABASE_URL", "BROKER_URL", "STORAGE_URL", "STORAGE_ENDPOINT_URL"):
            kept.pop(name, None)
        # Warnings are errors in the tests' own process only.
        kept.pop("PYTHONWARNINGS", None)
        return {**kept, "DUBFARM_DATA": str(self.data), "PYTHONPATH": str(ROOT)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "farm.cli", *arguments, "--json"],
            env=self.environment(),
            cwd=self.data.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str) -> tuple[int, Any]:
        """(exit code, what it answered)."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=WORK_S + 60)
        assert "Traceback" not in err, err
        return process.returncode, json.loads(out) if out else None

    @contextmanager
    def farm(self) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
        """`dubfarm up`, killed at the end if the test did not end it."""
        process = self.start("up", "--port", str(free_port()))
        try:
            assert process.stdout is not None
            line = process.stdout.readline()  # the suite's time-out bounds it
            assert line, f"{process.stderr.read() if process.stderr else ''}\n{_logs(self.data)}"
            yield process, json.loads(line)
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=60)

    def processes(self) -> list[str]:
        """Command lines of all processes that belong to this data folder, zombies apart."""
        found: list[str] = []
        for proc in Path("/proc").glob("[0-9]*"):
            try:
                belongs = str(self.data).encode() in (proc / "environ").read_bytes() + (proc / "cmdline").read_bytes()
                line = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if belongs and line and int(proc.name) != os.getpid():
                found.append(f"{proc.name} {line}")
        return found

    def wait_until_gone(self) -> None:
        deadline = time.monotonic() + 60
        while left := self.processes():
            assert time.monotonic() < deadline, left
            time.sleep(0.2)


def _logs(data: Path) -> str:
    return "\n".join(f"== {log.name}\n{log.read_text()[-3000:]}" for log in sorted((data / "logs").glob("*.log")))


def _short_voice(dest: Path, seconds: float) -> None:
    """The beginning of the demo's voice, as a wav."""
    with av.open(str(MATERIAL / "voice_en.flac")) as container:
        mono = av.AudioResampler("s16", "mono", 16000)
        parts = [part for frame in container.decode(audio=0) for part in mono.resample(frame)]
    samples = b"".join(part.to_ndarray().astype("<i2").tobytes() for part in parts)
    with wave.open(str(dest), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(samples[: int(seconds * 16000) * 2])


@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_farm_from_first_start_to_crash_and_back(tmp_path: Path) -> None:
    dubfarm = Command(tmp_path / "farm data")
    _short_voice(tmp_path / "voice.wav", 0.8)
    items = [
        {"custom_id": "speaks", "kind": "animate", "image": str(MATERIAL / "portrait.png"), "audio": "voice.wav"},
        {"custom_id": "nobody", "kind": "dub", "video": str(MATERIAL / "no_face.mp4"), "audio": "voice.wav"},
    ]
    (tmp_path / "two.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))

    with dubfarm.farm() as (process, told):
        code, done = dubfarm("batch", "submit", "two.jsonl", "--wait", "-o", "out", "--timeout", str(WORK_S))
        assert code == 1, (done, _logs(dubfarm.data))
        jobs = {job["custom_id"]: job for job in done["jobs"]}
        assert jobs["speaks"]["status"] == "succeeded", (jobs, _logs(dubfarm.data))
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
        assert process.wait(120) == 0, _logs(dubfarm.data)
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
        process.wait(60)
    dubfarm.wait_until_gone()  # a killed farm takes everything along

    with dubfarm.farm() as (process, _):
        assert dubfarm("batch", "show", done["batch"]["id"])[0] == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
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


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_demo_comes_out_as_designed(tmp_path: Path) -> None:
    dubfarm = Command(tmp_path / "data")
    code, report = dubfarm("demo", "--output", str(tmp_path / "out"))
    assert code == 0, report
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    assert [item["as_designed"] for item in report["items"]] == [True] * 4
    for item in report["items"]:
        assert (item["output"] is None) == (item["status"] == "failed")
