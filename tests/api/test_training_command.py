"""`dubfarm train …` against a live API, whose launcher is the test."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator

import pytest

from farm.client import Client
from farm.domain.reconcile import Life, Over, Report, Seen
from farm.domain.run import Attempt, Outcome, RunError, RunStatus, Standing
from farm.flow import launch, reconcile
from tests.api.conftest import OPERATORS, Api, Dubfarm, admin_of

NAN = Over(Outcome.FAILED, RunStatus.FAILED, "nan", RunError("nan", "the loss of [/lip] is no number"))


@pytest.fixture
def key(api: Api) -> Iterator[str]:
    """Training belongs to the tenant that runs the farm. What the test leaves is canceled or deleted."""
    with admin_of(api, OPERATORS) as key:
        yield key
        with Client(api.url, key) as client:
            for run in client.training.runs():
                if not run.is_over:
                    client.training.cancel(run.id)
            for schedule in client.training.schedules():
                client.training.delete_schedule(schedule.name)


@pytest.fixture
def name() -> str:
    return f"nightly-{secrets.token_hex(4)}"


def started(api: Api, run_id: str) -> Attempt:
    """An attempt of the run, as a launcher opens it; those of older runs fail."""
    while True:
        with api.database.transaction() as session:
            found = launch.claim(session, "a host", 1000)
        assert found is not None
        if found.attempt.run_id == run_id:
            return found.attempt
        fail(api, found.attempt)


def fail(api: Api, attempt: Attempt) -> None:
    with api.database.transaction() as session:
        reconcile.fail(session, attempt, NAN)


def see(api: Api, attempt: Attempt, **standing: object) -> None:
    report = Report("running", Standing("lip", 3, 6, 4, 12, **standing), None, "")  # pyright: ignore[reportArgumentType]
    with api.database.transaction() as session:
        reconcile.settle(session, attempt, Seen(Life.ALIVE, report))


def test_a_run_as_it_was_asked_for(dubfarm: Dubfarm) -> None:
    changes = ("--set", "seed=7", "--set", "stages.lip.steps=3")
    code, told = dubfarm("train", "run", "--recipe", "smoke", *changes, "--workers", 2, "--on-success", "promote")
    assert code == 0
    assert (told["status"], told["recipe"], told["dataset"]) == ("queued", "smoke", "puppets")
    assert told["overrides"] == {"seed": 7, "stages.lip.steps": 3}
    assert (told["scaling"], told["on_success"]) == ({"workers": 2, "use_gpu": False}, "promote")
    code, again = dubfarm(
        "train", "run", "--recipe", "smoke", "--resume-from", told["id"], "--gpu", "--priority", 80, "--preempt"
    )
    assert (code, again["resume_from"], again["scaling"]["use_gpu"]) == (0, told["id"], True)
    assert (again["priority"], again["preempt"], told["priority"], told["preempt"]) == (80, True, 50, False)
    assert dubfarm("train", "cancel", told["id"])[1]["status"] == "canceled"
    assert dubfarm("train", "resume", told["id"])[1]["status"] == "queued"
    assert [run["id"] for run in dubfarm("train", "list", "--status", "queued")[1]][:2] == [again["id"], told["id"]]
    assert dubfarm("train", "list", "--schedule", "no-such")[1] == []
    code, shown = dubfarm.shown("train", "list")
    assert code == 0
    assert told["id"] in shown


def test_mistakes_end_with_2_and_say_where(dubfarm: Dubfarm) -> None:
    for arguments, expected in (
        (("--recipe", "smoke", "--set", "seed"), "set_invalid"),
        (("--recipe", "smoke", "--set", "seed=seven"), "set_invalid"),
        (("--recipe", "smoke", "--manifest-sha256", "0" * 64), "manifest_without_dataset"),
        (("--recipe", "smoke", "--workers", "-1"), "usage"),
        ((), "usage"),
    ):
        code, told = dubfarm("train", "run", *arguments)
        assert (code, told["error"]["code"]) == (2, expected)
    code, told = dubfarm("train", "run", "--recipe", "smoke", "--set", "sed=1", "--dataset", "ftp://x/y")
    assert (code, {error["pointer"] for error in told["error"]["errors"]}) == (2, {"/overrides/sed", "/dataset/uri"})
    for what in ("show", "watch", "cancel", "resume"):
        code, told = dubfarm("train", what, "run_" + "0" * 32)
        assert (code, told["error"]["code"]) == (2, "not_found")
    for what in ("show", "run-now", "delete"):
        assert dubfarm("train", "schedule", what, "no-such")[0] == 2


def test_show_tells_where_it_stands(api: Api, dubfarm: Dubfarm) -> None:
    run_id = dubfarm("train", "run", "--recipe", "smoke")[1]["id"]
    attempt = started(api, run_id)
    see(
        api,
        attempt,
        losses={"lip/sync": 0.5, "lip/all": None},
        samples_per_s=12.5,
        eta_s=90,
        goodput=0.9,
        gpu_hours=2.0,
    )
    for path in ("lip-8/a.safetensors", "lip-8/manifest.json"):
        api.store.put_bytes(b"1234", f"training/{run_id}/checkpoints/{path}")
    code, told = dubfarm("train", "show", run_id)
    assert code == 0
    assert (told["run"]["stage"], told["run"]["step"], told["run"]["alerts"]) == ("lip", 4, ["nan"])
    assert [checkpoint["name"] for checkpoint in told["checkpoints"]] == ["lip-8"]
    code, shown = dubfarm.shown("train", "show", run_id)
    for part in ("lip 4/12", "12.5 samples/s, 0:01:30 to the stage's end, 2.00 GPU-hours, goodput 90%", "lip-8"):
        assert part in shown
    for part in ("lip/all NaN, lip/sync 0.5", "alerts: nan"):
        assert part in shown
    fail(api, attempt)
    code, shown = dubfarm.shown("train", "show", run_id)
    assert code == 0
    assert "the loss of [/lip] is no number" in shown


def test_watch_follows_a_run_to_its_end(api: Api, dubfarm: Dubfarm) -> None:
    run_id = dubfarm("train", "run", "--recipe", "smoke")[1]["id"]
    code, told = dubfarm("train", "watch", run_id, "--timeout", 0.2)
    assert (code, told["error"]["code"]) == (4, "time_out")
    attempt = started(api, run_id)
    see(api, attempt, losses={"lip/sync": 0.5})

    def end() -> None:
        time.sleep(0.5)
        fail(api, attempt)

    ending = threading.Thread(target=end)
    ending.start()
    code, shown = dubfarm.shown("train", "watch", run_id)
    ending.join()
    assert code == 1
    assert f"{run_id} failed: the loss of [/lip] is no number" in shown
    assert f"dubfarm train resume {run_id}" in shown
    code, out, _ = dubfarm.run("train", "watch", run_id, "--json")
    assert code == 1
    assert '"event": "end"' in out


def test_run_and_wait(api: Api, dubfarm: Dubfarm) -> None:
    """Ends with the run's end: here somebody cancels it."""

    def cancel() -> None:
        with Client(api.url, dubfarm.key) as client:
            deadline = time.monotonic() + 60
            while not (found := list(client.training.runs(status="queued"))):
                assert time.monotonic() < deadline
            client.training.cancel(found[0].id)

    canceling = threading.Thread(target=cancel)
    canceling.start()
    code, told = dubfarm("train", "run", "--recipe", "smoke", "--wait")
    canceling.join()
    assert (code, told["error"]["code"]) == (1, "canceled")


def test_schedules_by_name(dubfarm: Dubfarm, name: str) -> None:
    given = ("--cron", "30 2 * * *", "--recipe", "smoke", "--timezone", "Europe/Berlin", "--overlap", "queue")
    code, told = dubfarm("train", "schedule", "set", name, *given, "--catch-up", "all", "--catch-up-most", 2)
    assert code == 0
    assert (told["cron"], told["overlap"], told["catch_up"], told["catch_up_most"]) == ("30 2 * * *", "queue", "all", 2)
    assert len(told["next"]) == 5
    code, run = dubfarm("train", "schedule", "run-now", name)
    assert (code, run["schedule"], run["status"]) == (0, name, "queued")
    assert [found["id"] for found in dubfarm("train", "list", "--schedule", name)[1]] == [run["id"]]
    assert name in [found["name"] for found in dubfarm("train", "schedule", "list")[1]]
    code, shown = dubfarm.shown("train", "schedule", "show", name)
    assert code == 0
    assert "Europe/Berlin" in shown
    assert "has not fired yet" in shown
    code, shown = dubfarm.shown("train", "schedule", "set", name, *given, "--paused")
    assert (code, "paused" in shown) == (0, True)
    assert "paused" in dubfarm.shown("train", "schedule", "list")[1]
    code, told = dubfarm(
        "train", "schedule", "set", name, "--cron", "61 * * *", "--recipe", "smoke", "--min-new-clips", 3
    )
    assert (code, {e["code"] for e in told["error"]["errors"]}) == (2, {"cron_invalid", "min_new_clips_refused"})
    assert dubfarm("train", "schedule", "delete", name) == (0, {"deleted": name})
    assert dubfarm("train", "show", run["id"])[0] == 0


def test_recipes_and_their_keys(dubfarm: Dubfarm) -> None:
    code, told = dubfarm("train", "recipes")
    assert code == 0
    assert {"smoke", "tiny", "paper"} <= {recipe["name"] for recipe in told}
    assert "seed = " not in dubfarm.shown("train", "recipes")[1]
    assert "seed = 1 (int)" in dubfarm.shown("train", "recipes", "--keys")[1]
