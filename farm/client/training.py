"""Training, of farms whose operator the key belongs to: runs, their curves, schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from farm.client import events, files
from farm.client.answers import Checkpoint, ConsentedClip, Curve, Event, TrainingRun, TrainingSchedule, build
from farm.client.transport import Transport

Body = Mapping[str, object]
"""As docs/api.md writes it: recipe, dataset, overrides, scaling, on_success, resume_from; cron, timezone, ..."""


class Pages(Protocol):
    def __call__(self, cls: Any, path: str, **params: Any) -> Iterator[Any]: ...


class Training:
    """`Client.training`. Raises as Client does."""

    def __init__(self, http: Transport, pages: Pages, create: Callable[..., Any]) -> None:
        self._http, self._pages, self._create = http, pages, create

    def start(self, body: Body, *, idempotency_key: str | None = None) -> TrainingRun:
        return build(TrainingRun, self._create("/v1/training-runs", dict(body), idempotency_key))

    def runs(self, *, status: str | None = None, schedule: str | None = None) -> Iterator[TrainingRun]:
        """Newest first."""
        return self._pages(TrainingRun, "/v1/training-runs", status=status, schedule=schedule)

    def run(self, run_id: str) -> TrainingRun:
        return build(TrainingRun, self._http.json("GET", f"/v1/training-runs/{run_id}"))

    def cancel(self, run_id: str) -> TrainingRun:
        return build(TrainingRun, self._http.json("POST", f"/v1/training-runs/{run_id}/cancel"))

    def resume(self, run_id: str) -> TrainingRun:
        return build(TrainingRun, self._http.json("POST", f"/v1/training-runs/{run_id}/resume"))

    def curves(self, run_id: str, *, stage: str | None = None, points: int = 300) -> list[Curve]:
        params = {"stage": stage, "points": points}
        found = self._http.json("GET", f"/v1/training-runs/{run_id}/metrics", params=params)
        return [build(Curve, curve) for curve in found["data"]]

    def checkpoints(self, run_id: str) -> list[Checkpoint]:
        found = self._http.json("GET", f"/v1/training-runs/{run_id}/checkpoints")
        return [build(Checkpoint, checkpoint) for checkpoint in found["data"]]

    def watch(self, run_id: str) -> Iterator[Event]:
        """Everything that changes in the run, until an event of type `end`; survives cuts and restarts of the API."""
        path = f"/v1/training-runs/{run_id}"
        return events.watch(
            self._http,
            f"{path}/events",
            lambda: {"run": self._http.json("GET", path)},
            lambda data: build(TrainingRun, data["run"]).is_over,
        )

    def clips(self) -> Iterator[ConsentedClip]:
        """Source videos of finished dubs that may be trained on, of all tenants."""
        return self._pages(ConsentedClip, "/v1/training-clips")

    def fetch_clip(self, clip: ConsentedClip, dest: Path, progress: files.Progress | None = None) -> Path:
        """Its bytes, checked; ApiError 404 where it may be trained on no more."""
        return files.fetch(self._http, f"/v1/training-clips/{clip.job_id}/source", clip.source, dest, progress)

    def recipes(self) -> list[Mapping[str, Any]]:
        return self._http.json("GET", "/v1/training-recipes")["data"]

    def set_schedule(self, name: str, body: Body) -> TrainingSchedule:
        """Made, or replaced whole."""
        return build(TrainingSchedule, self._http.json("PUT", f"/v1/training-schedules/{name}", body=dict(body)))

    def schedules(self) -> Iterator[TrainingSchedule]:
        return self._pages(TrainingSchedule, "/v1/training-schedules")

    def schedule(self, name: str) -> TrainingSchedule:
        return build(TrainingSchedule, self._http.json("GET", f"/v1/training-schedules/{name}"))

    def delete_schedule(self, name: str) -> None:
        self._http.json("DELETE", f"/v1/training-schedules/{name}")

    def run_now(self, name: str) -> TrainingRun:
        return build(TrainingRun, self._create(f"/v1/training-schedules/{name}/run-now", None))
