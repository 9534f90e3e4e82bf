"""The command without a farm: usage, exit codes, and what scripts see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from farm.cli.app import run
from farm.embedded import process

IMPORTS = """
import sys
from farm.cli.app import run
from farm.embedded import process
assert run(["--help"]) == 0
heavy = {"torch", "av", "sqlalchemy", "celery", "numpy", "boto3"} & set(sys.modules)
assert not heavy, heavy
"""
# Nobody is there: a mistake is told before the first request.
SERVER = ("--server", "http://127.0.0.1:1", "--key", "k")


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DUBFARM_URL", "DUBFARM_KEY", "DATABASE_URL", "BROKER_URL", "STORAGE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DUBFARM_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


def test_help_is_light() -> None:
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], env=here, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    for word in ("up", "demo", "dub", "animate", "batch", "job", "models", "workers", "keys", "doctor"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["frob"], "usage"),
        (["dub"], "usage"),
        (["dub", "missing.mp4", "missing.wav"], "file_missing"),
        (["dub", "empty.mp4", "empty.mp4"], "file_empty"),
        (["dub", ".", "empty.mp4"], "not_a_file"),
        (["dub", "some.mp4", "some.mp4", "--sync-mode", "sideways"], "usage"),
        (["dub", "some.mp4", "some.mp4", "--face-point", "left"], "face_point_invalid"),
        (["dub", "some.mp4", "some.mp4", "--face-point", "1,2", "--face-reference", "a.png"], "face_ambiguous"),
        (["dub", "some.mp4", "some.mp4", "--pose", "missing.mp4"], "file_missing"),
        (["dub", "some.mp4", "some.mp4", "-o", "some.mp4"], "output_exists"),
        (["dub", "some.mp4", "some.mp4", "--crf", "99"], "usage"),
        (["animate", "missing.png", "some.mp4"], "file_missing"),
        (["batch", "submit", "missing.jsonl", *SERVER], "file_missing"),
        (["batch", "submit", "wrong.jsonl", *SERVER], "manifest_invalid"),
        (["batch", "submit", "none.jsonl", *SERVER], "manifest_empty"),
        (["batch", "list", "--server", "localhost:8700", "--key", "k"], "server_not_url"),
        (["models", "register", "some-folder", "--name", "x", *SERVER], "bundle_missing"),
        (["models", "import-official", "missing"], "usage"),
        (["models", "evaluate", "some-folder"], "bundle_missing"),
        (["models", "evaluate", "--scope", "huge"], "usage"),
        (["models", "evaluate", "--clips", "missing"], "usage"),
        (["models", "gate", "set", *SERVER], "rules_missing"),
        (["models", "canary", "set", "missing.json", *SERVER], "rules_invalid"),
        (["train", "run", "--recipe", "r", "--set", "frob", *SERVER], "set_invalid"),
        (
            ["train", "schedule", "set", "s", "--cron", "0 3 * * 0", "--recipe", "r", "--set", "frob", *SERVER],
            "set_invalid",
        ),
        (["train", "clips", ".", *SERVER], "folder_not_empty"),
        (["job", "consent", "job_1", "--reference", "r", *SERVER], "statement_missing"),
        (["tenants", "create", "t", "frob=1", *SERVER], "limit_unknown"),
        (["tenants", "set", "t", "weight=frob", *SERVER], "limit_not_a_number"),
        (["webhooks", "create", "https://hooks.example", "--event", "ping", *SERVER], "event_not_offered"),
        (["webhooks", "change", "whe_1", *SERVER], "nothing_to_change"),
        (["webhooks", "replay", "whe_1", *SERVER], "replay_what"),
        (["setup"], "services_not_named"),
    ],
)
def test_mistakes_end_with_2_and_say_which(
    arguments: list[str], code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "some.mp4").write_bytes(b"x")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "wrong.jsonl").write_text('{"kind": "dub"\n[1]\n\n{"kind": "dub", "video": "no.mp4"}\n')
    (tmp_path / "none.jsonl").write_text("\n")
    (tmp_path / "some-folder").mkdir()
    assert run([*arguments, "--json"]) == 2
    told = json.loads(capsys.readouterr().out)  # one document and nothing else
    assert told["exit_code"] == 2
    assert told["error"]["code"] == code
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err
    assert "Traceback" not in shown.err


def test_every_wrong_line_of_a_manifest_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.jsonl").write_text(
        '{"kind": "dub"\n[1]\n\n{"video": "no.mp4", "factors": {"pose": {"video": "gone"}}}\n'
    )
    assert run(["batch", "submit", "m.jsonl", *SERVER, "--json"]) == 2
    errors = json.loads(capsys.readouterr().out)["error"]["errors"]
    assert [(e["pointer"], e["code"]) for e in errors] == [
        ("line 1", "not_json"),
        ("line 2", "not_an_item"),
        ("line 4", "file_missing"),
        ("line 4", "file_missing"),
    ]


def test_a_server_without_a_key_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "list", "--server", "http://127.0.0.1:1", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "key_missing"


def test_no_farm_ends_with_5(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["workers", "--json"]) == 5
    told = json.loads(capsys.readouterr().out)["error"]
    assert told["code"] == "no_farm"
    assert "dubfarm up" in told["fix"]


def test_doctor_tells_every_check(capsys: pytest.CaptureFixture[str]) -> None:
    run(["doctor", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert {"python", "torch", "ffmpeg", "data folder", "Postgres", "Valkey", "server"} <= {
        c["check"] for c in told["checks"]
    }
    assert told["ok"] == all(check["status"] != "fail" for check in told["checks"])


def test_doctor_fails_on_services_that_do_not_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BROKER_URL", f"redis://127.0.0.1:{process.free_port()}/0")
    assert run(["doctor", "--json"]) == 5
    checks = {check["check"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["BROKER_URL"]["status"] == "fail"
    assert "BROKER_URL" in checks["BROKER_URL"]["fix"]
