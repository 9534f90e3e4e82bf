"""Training runs and schedules over HTTP: bodies, refusals, schedules' answers, events."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import httpx
import pytest

from farm.db import runs
from farm.domain.reconcile import Life, Over, Report, Seen
from farm.domain.run import Outcome, Point, RunError, RunStatus, Standing
from farm.flow import launch, reconcile
from tests.api.conftest import OPERATORS, Api

NAN = Over(Outcome.FAILED, RunStatus.FAILED, "nan", RunError("nan", "the loss is no number"))


@pytest.fixture
def desk(api: Api) -> Iterator[httpx.Client]:
    with api.http(api.key(OPERATORS)) as http:
        yield http
        for run in http.get("/v1/training-runs").json()["data"]:
            if run["finished_at"] is None:
                http.post(f"/v1/training-runs/{run['id']}/cancel")


@pytest.fixture
def name() -> str:
    return f"nightly-{secrets.token_hex(4)}"


def codes(answer: httpx.Response) -> set[tuple[str, str]]:
    return {(error["pointer"], error["code"]) for error in answer.json()["errors"]}


def test_a_run_is_made_once(desk: httpx.Client) -> None:
    body = {"recipe": "smoke", "overrides": {"stages.lip.steps": 3, "seed": 7}, "on_success": "promote"}
    answers = [desk.post("/v1/training-runs", json=body, headers={"Idempotency-Key": "once"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    run = desk.get(answers[0].headers["Location"]).json()
    assert (run["status"], run["dataset"], run["overrides"]) == ("queued", "puppets", body["overrides"])
    assert run["history"] == []
    listed = desk.get("/v1/training-runs", params={"status": "queued"}).json()["data"]
    assert run["id"] in [other["id"] for other in listed]


def test_everything_wrong_is_said_at_once(desk: httpx.Client) -> None:
    answer = desk.post(
        "/v1/training-runs",
        json={
            "recipe": "smoke",
            "dataset": {"uri": "s3://somebody-elses/clips"},
            "overrides": {"stages.lip.step": 3, "seed": 1.5, "stages.eye.batch": 0},
            "resume_from": "yesterday",
        },
    )
    assert answer.status_code == 422
    assert codes(answer) == {
        ("/dataset/uri", "uri_bucket_refused"),
        ("/overrides/stages.lip.step", "bad_override"),
        ("/overrides/seed", "bad_override"),
        ("/overrides/stages.eye.batch", "bad_override"),
        ("/resume_from", "resume_from_invalid"),
    }
    assert "did you mean stages.lip.steps" in answer.text
    for body, code in (
        ({"recipe": "large"}, "recipe_unknown"),
        ({"recipe": "paper"}, "dataset_missing"),
        ({"recipe": "smoke", "resume_from": "run_" + "0" * 32}, "run_not_found"),
        ({"recipe": "smoke", "overrides": {"seed": [1]}}, "type_wrong"),
        ({"recipe": "smoke", "overrides": {"seed": 1e300}}, "out_of_range"),
        ({"recipe": "smoke", "dataset": "puppet"}, "value_not_offered"),
        ({"recipe": "smoke", "scaling": {"workers": -1}}, "out_of_range"),
        ({"recipe": "smoke", "steps": 3}, "field_unknown"),
    ):
        answer = desk.post("/v1/training-runs", json=body)
        assert answer.status_code == 422
        assert code in {code for _, code in codes(answer)}, answer.text


def test_recipes_show_their_keys(desk: httpx.Client) -> None:
    found = {recipe["name"]: recipe for recipe in desk.get("/v1/training-recipes").json()["data"]}
    assert found["paper"]["needs_dataset"]
    assert not found["smoke"]["needs_dataset"]
    assert [key["type"] for key in found["smoke"]["keys"] if key["name"] == "seed"] == ["int"]


def test_cancel_and_resume(desk: httpx.Client) -> None:
    run_id = desk.post("/v1/training-runs", json={"recipe": "smoke"}).json()["id"]
    for _ in range(2):
        canceled = desk.post(f"/v1/training-runs/{run_id}/cancel")
        assert canceled.json()["status"] == "canceled", canceled.text
    for _ in range(2):
        assert desk.post(f"/v1/training-runs/{run_id}/resume").json()["status"] == "queued"
    actions = [entry["action"] for entry in desk.get("/v1/audit", params={"subject": run_id}).json()["data"]]
    assert actions == ["training_run.resumed", "training_run.canceled", "training_run.created"]


def test_a_schedule_lives_by_its_name(desk: httpx.Client, name: str) -> None:
    path = f"/v1/training-schedules/{name}"
    assert desk.get(path).status_code == 404
    body = {"recipe": "smoke", "cron": "30 2 * * *", "timezone": "Europe/Berlin"}
    made = desk.put(path, json=body)
    assert made.status_code == 201
    assert len(made.json()["next"]) == 5
    same = desk.put(path, json=body)
    assert (same.status_code, same.json()["revision"]) == (200, 1)
    paused = desk.put(path, json={**body, "paused": True}).json()
    assert (paused["next"], paused["revision"]) == ([], 2)
    assert name in [s["name"] for s in desk.get("/v1/training-schedules").json()["data"]]
    run = desk.post(f"{path}/run-now").json()
    assert (run["status"], run["schedule"], run["fired_for"]) == ("queued", name, None)
    again = desk.post(f"{path}/run-now")
    assert (again.status_code, again.json()["code"]) == (409, "run_open")
    assert desk.delete(path).status_code == 204
    assert desk.delete(path).status_code == 404
    assert desk.get(f"/v1/training-runs/{run['id']}").json()["status"] == "queued", "its runs go on"


def test_a_schedule_says_everything_that_is_wrong(desk: httpx.Client, name: str) -> None:
    body = {"recipe": "smoke", "cron": "61 * * *", "timezone": "Mars/X", "min_new_clips": 5, "overrides": {"x": 1}}
    answer = desk.put(f"/v1/training-schedules/{name}", json=body)
    assert codes(answer) == {
        ("/cron", "cron_invalid"),
        ("/timezone", "timezone_unknown"),
        ("/min_new_clips", "min_new_clips_refused"),
        ("/overrides/x", "bad_override"),
    }
    assert desk.put("/v1/training-schedules/no good", json=body).json()["code"] == "schedule_name_invalid"


def test_events_and_curves_of_a_run(api: Api, desk: httpx.Client) -> None:
    run_id = desk.post("/v1/training-runs", json={"recipe": "smoke"}).json()["id"]
    launched: list[launch.Launch] = []
    while not launched or launched[-1].attempt.run_id != run_id:
        with api.database.transaction() as session:
            found = launch.claim(session, "a host", 1000)
        assert found is not None
        launched.append(found)
    attempt = launched[-1].attempt
    report = Report("running", Standing("lip", 3, 6, 4, 12, losses={"lip/sync": 0.5}), None, "")
    with api.database.transaction() as session:
        reconcile.settle(session, attempt, Seen(Life.ALIVE, report))
        points = [Point("lip", n + 1, 1, {"lip/sync": float(n)}) for n in range(12)]
        reconcile.read_curves(session, attempt, points, 100)
    curves = desk.get(f"/v1/training-runs/{run_id}/metrics", params={"points": 4}).json()["data"]
    assert curves == [{"stage": "lip", "step": [3, 6, 9, 12], "losses": {"lip/sync": [1.0, 4.0, 7.0, 10.0]}}]
    shown = desk.get(f"/v1/training-runs/{run_id}").json()
    assert (shown["status"], shown["stage"], shown["step"]) == ("running", "lip", 4)
    assert shown["history"][0]["submission_id"] == f"{run_id}-1"
    with api.database.transaction() as session:
        reconcile.fail(session, attempt, NAN)
        logged = runs.events_after(session, run_id)
    with desk.stream("GET", f"/v1/training-runs/{run_id}/events", headers={"Last-Event-ID": str(logged[1].id)}) as sse:
        told = [line.removeprefix("event: ") for line in sse.iter_lines() if line.startswith("event: ")]
    assert told == [*(event.kind for event in logged[2:]), "end"]
    assert desk.get(f"/v1/training-runs/{run_id}/checkpoints").json() == {"data": []}
    for other in launched[:-1]:
        with api.database.transaction() as session:
            reconcile.fail(session, other.attempt, NAN)


def test_checkpoints_and_grids_come_from_the_runs_folder(api: Api, desk: httpx.Client) -> None:
    run_id = desk.post("/v1/training-runs", json={"recipe": "smoke"}).json()["id"]
    root = f"training/{run_id}"
    for path in ("lip-8/a.safetensors", "lip-8/manifest.json", "lip-12/a.safetensors"):
        api.store.put_bytes(b"1234", f"{root}/checkpoints/{path}")
    api.store.put_bytes(b"\x89PNG", f"{root}/grids/after_lip.png")
    (only,) = desk.get(f"/v1/training-runs/{run_id}/checkpoints").json()["data"]
    assert (only["name"], only["stage"], only["step"], only["size_bytes"]) == ("lip-8", "lip", 8, 8)
    (grid,) = desk.get(f"/v1/training-runs/{run_id}/grids").json()["data"]
    picture = desk.get(grid["url"])
    assert (picture.content, picture.headers["content-type"]) == (b"\x89PNG", "image/png")
    assert desk.get(f"/v1/training-runs/{run_id}/grids/other.png").status_code == 404
    assert desk.get(f"/v1/training-runs/{run_id}/grids/..%2Fstatus.json").status_code == 404
