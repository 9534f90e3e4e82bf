"""Training runs: started, followed, ended. Models are everybody's, so that runs belong to who runs the farm."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from itertools import groupby
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response, StreamingResponse

from api import errors, streams
from api.deps import (
    AFarm,
    APage,
    Farm,
    IdempotencyKey,
    OperatorsTrainer,
    Raw,
    UpdatedSince,
    create_once,
)
from api.v1.answers import DeltaPageAnswer
from api.v1.paths import GridName, RunId
from api.v1.training_answers import (
    CheckpointAnswer,
    CheckpointsAnswer,
    CurveAnswer,
    CurvesAnswer,
    GridAnswer,
    GridsAnswer,
    RecipeAnswer,
    RecipesAnswer,
    RunAnswer,
    RunDetailAnswer,
)
from api.v1.training_body import RunBody
from farm.db import deltas, runs
from farm.db.session import Session
from farm.domain import curves
from farm.domain.run import OPEN, RunStatus, RunView
from farm.domain.tenant import Principal
from farm.flow import recipes
from farm.flow import runs as verbs
from farm.flow.idempotency import Answer
from farm.storage import keys
from farm.storage.blobs import Missing

router = APIRouter(prefix="/v1", tags=["training"])

Status = Literal["queued", "starting", "running", "canceling", "succeeded", "failed", "canceled"]
_CHECKPOINT: Final = re.compile(r"checkpoints/(([a-z0-9_]+)-(\d+))/(.+)")
_GRID: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,150}\.png")


@router.get("/training-recipes", response_model=RecipesAnswer)
def list_recipes(_farm: AFarm, _who: OperatorsTrainer) -> RecipesAnswer:
    """What can be trained, and the keys of each that a run may override."""
    return RecipesAnswer(
        data=[
            RecipeAnswer.model_validate(
                {
                    "name": recipe.name,
                    "about": recipe.about,
                    "needs_dataset": recipe.needs_data,
                    "stages": [asdict(stage) for stage in recipe.stages],
                    "keys": [asdict(key) for key in recipe.keys],
                }
            )
            for recipe in recipes.declared().values()
        ]
    )


@router.post("/training-runs", status_code=202, response_model=RunAnswer)
def create_run(
    request: Request,
    farm: AFarm,
    who: OperatorsTrainer,
    body: RunBody,
    raw: Raw,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Queue a run. It starts as soon as there is a place for it."""

    def make(session: Session) -> Answer:
        view = verbs.create(session, body.spec(), farm.limits, actor=who.actor)
        return Answer(202, RunAnswer.of(view).json_dict(), {"Location": f"/v1/training-runs/{view.id}"})

    return create_once(farm, who, request, raw, idempotency_key, make)


@router.get("/training-runs", response_model=DeltaPageAnswer[RunAnswer])
def list_runs(
    farm: AFarm,
    who: OperatorsTrainer,
    page: APage,
    status: Annotated[Status | None, Query()] = None,
    schedule: Annotated[str | None, Query(max_length=100, pattern=r"^[^\x00]*$")] = None,
    updated_since: UpdatedSince = None,
) -> DeltaPageAnswer[RunAnswer]:
    """Newest first."""
    with farm.transaction() as session:
        as_of = deltas.safe_since(session)
        found = runs.page(
            session,
            status=RunStatus(status) if status is not None else None,
            schedule=schedule,
            updated_since=updated_since,
            cursor=page.cursor,
            page_size=page.page_size,
        )
    answers = [RunAnswer.of(view) for view in found.items]
    return DeltaPageAnswer(data=answers, next_cursor=found.next_cursor, as_of=as_of)


@router.get("/training-runs/{run_id}", response_model=RunDetailAnswer)
def get_run(farm: AFarm, who: OperatorsTrainer, run_id: RunId) -> RunDetailAnswer:
    """With its attempts."""
    return RunDetailAnswer.of(_run(farm, run_id))


@router.get("/training-runs/{run_id}/metrics", response_model=CurvesAnswer)
def get_curves(
    farm: AFarm,
    who: OperatorsTrainer,
    run_id: RunId,
    stage: Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")] = None,
    points: Annotated[int, Query(ge=2, le=1000, description="At most so many a stage.")] = 300,
) -> CurvesAnswer:
    """The losses' curves, thinned by means over neighbouring steps."""
    _run(farm, run_id)
    with farm.transaction() as session:
        found = runs.points(session, run_id, stage)
    by_stage = {name: tuple(part) for name, part in groupby(found, key=lambda point: point.stage)}
    return CurvesAnswer(data=[CurveAnswer.of(name, curves.thin(part, points)) for name, part in by_stage.items()])


@router.get("/training-runs/{run_id}/checkpoints", response_model=CheckpointsAnswer)
def list_checkpoints(farm: AFarm, who: OperatorsTrainer, run_id: RunId) -> CheckpointsAnswer:
    """What the run can be taken up from: committed checkpoints, in the order of their steps."""
    _run(farm, run_id)
    sizes: dict[tuple[str, str, int], int] = {}
    whole: set[str] = set()
    root = keys.run(run_id)
    for stat in farm.store.list(f"{root}/checkpoints/"):
        match = _CHECKPOINT.fullmatch(stat.key.removeprefix(f"{root}/"))
        if match is None:
            continue
        name, stage, step, file = match.groups()
        sizes[name, stage, int(step)] = sizes.get((name, stage, int(step)), 0) + stat.size_bytes
        if file == "manifest.json":
            whole.add(name)
    found = [
        CheckpointAnswer(
            name=name, stage=stage, step=step, size_bytes=size, uri=farm.store.uri(f"{root}/checkpoints/{name}")
        )
        for (name, stage, step), size in sorted(sizes.items(), key=lambda item: (item[0][1], item[0][2]))
        if name in whole
    ]
    return CheckpointsAnswer(data=found)


@router.get("/training-runs/{run_id}/grids", response_model=GridsAnswer)
def list_grids(farm: AFarm, who: OperatorsTrainer, run_id: RunId) -> GridsAnswer:
    """Pictures that the run has drawn of held-out people, by name."""
    _run(farm, run_id)
    folder = f"{keys.run(run_id)}/grids/"
    named = sorted((stat.key.removeprefix(folder), stat.size_bytes) for stat in farm.store.list(folder))
    return GridsAnswer(
        data=[
            GridAnswer(name=name, size_bytes=size, url=f"/v1/training-runs/{run_id}/grids/{name}")
            for name, size in named
            if _GRID.fullmatch(name)
        ]
    )


@router.get(
    "/training-runs/{run_id}/grids/{grid}",
    response_class=Response,
    responses={200: {"description": "The picture.", "content": {"image/png": {}}}},
)
def get_grid(farm: AFarm, who: OperatorsTrainer, run_id: RunId, grid: GridName) -> Response:
    _run(farm, run_id)
    if not _GRID.fullmatch(grid):
        raise errors.not_found("grid", grid)
    try:
        picture = farm.store.get_bytes(keys.of_run(run_id, f"grids/{grid}"))
    except Missing as error:
        raise errors.not_found("grid", grid) from error
    return Response(picture, media_type="image/png", headers={"Cache-Control": "no-store"})


@router.get("/training-runs/{run_id}/events", response_class=StreamingResponse, responses=streams.DOCUMENTED)
def run_events(
    farm: AFarm, who: OperatorsTrainer, run_id: RunId, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """What changes in the run, as server-sent events, until it ends."""
    _run(farm, run_id)

    def look(session: Session, _since: datetime | None) -> streams.Look | None:
        view = runs.get(session, run_id)
        if view is None:
            return None
        return streams.Look({"run": RunAnswer.of(view).json_dict()}, view.status not in OPEN)

    def after(session: Session, last_id: int, limit: int) -> list[streams.Told]:
        found = runs.events_after(session, run_id, last_id, limit)
        return [streams.Told(e.id, e.kind, _told(e)) for e in found]

    return streams.response(farm, last_event_id, look, after)


def _told(event: Any) -> dict[str, Any]:
    return {
        "id": event.id,
        "kind": event.kind,
        "run_id": event.run_id,
        "at": event.at.isoformat().replace("+00:00", "Z"),
        "data": dict(event.data),
    }


@router.post("/training-runs/{run_id}/cancel", response_model=RunAnswer)
def cancel_run(farm: AFarm, who: OperatorsTrainer, run_id: RunId) -> RunAnswer:
    """End it; it leaves a checkpoint, from which `resume` takes it up again."""
    return _act(farm, who, verbs.cancel, run_id)


@router.post("/training-runs/{run_id}/resume", response_model=RunAnswer)
def resume_run(farm: AFarm, who: OperatorsTrainer, run_id: RunId) -> RunAnswer:
    """Take a failed or canceled run up again, where its last checkpoint stands."""
    return _act(farm, who, verbs.resume, run_id)


def _act(farm: Farm, who: Principal, verb: Callable[..., RunView], run_id: str) -> RunAnswer:
    with farm.transaction() as session:
        return RunAnswer.of(verb(session, run_id, actor=who.actor))


def _run(farm: Farm, run_id: str) -> RunView:
    with farm.transaction() as session:
        view = runs.get(session, run_id) if "\x00" not in run_id else None
    if view is None:
        raise errors.not_found("training run", run_id)
    return view
