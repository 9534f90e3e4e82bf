"""Schedules of training runs, by name."""

from __future__ import annotations

import re
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.deps import AFarm, APage, IdempotencyKey, OperatorsTrainer, Raw, answer_of, create_once, slice_of
from api.errors import ApiProblem, not_found
from api.v1.answers import PageAnswer
from api.v1.paths import ScheduleName
from api.v1.training_answers import RunAnswer, ScheduleAnswer
from api.v1.training_body import ScheduleBody
from farm.db import schedules as stored
from farm.db.session import Session
from farm.flow import schedules
from farm.flow.idempotency import Answer

router = APIRouter(prefix="/v1/training-schedules", tags=["training"])

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@router.get("", response_model=PageAnswer[ScheduleAnswer])
def list_schedules(farm: AFarm, who: OperatorsTrainer, page: APage) -> PageAnswer[ScheduleAnswer]:
    """By name."""
    with farm.transaction() as session:
        found = stored.listed(session)
        start, stop, following = slice_of(found, page)
        data = [ScheduleAnswer.of(schedules.shown(session, kept)) for kept in found[start:stop]]
    return PageAnswer(data=data, next_cursor=following)


@router.get("/{schedule}", response_model=ScheduleAnswer)
def get_schedule(farm: AFarm, who: OperatorsTrainer, schedule: ScheduleName) -> ScheduleAnswer:
    _check(schedule)
    with farm.transaction() as session:
        return ScheduleAnswer.of(schedules.view(session, schedule))


@router.put("/{schedule}", response_model=ScheduleAnswer, responses={201: {"model": ScheduleAnswer}})
def put_schedule(farm: AFarm, who: OperatorsTrainer, schedule: ScheduleName, body: ScheduleBody) -> Response:
    """Make it, or replace it whole. Runs that it started keep the settings that they have."""
    if not NAME.fullmatch(schedule):
        raise ApiProblem("schedule_name_invalid", "a name has 1 to 100 letters, digits, and . _ - inside")
    with farm.transaction() as session:
        view, is_new = schedules.put(session, body.schedule(schedule), farm.limits, actor=who.actor)
        answer = ScheduleAnswer.of(view).json_dict()
    return answer_of(Answer(201 if is_new else 200, answer))


@router.delete("/{schedule}", status_code=204, response_class=Response)
def delete_schedule(farm: AFarm, who: OperatorsTrainer, schedule: ScheduleName) -> Response:
    """Runs that it started go on."""
    _check(schedule)
    with farm.transaction() as session:
        schedules.delete(session, schedule, actor=who.actor)
    return Response(status_code=204)


@router.post("/{schedule}/run-now", status_code=202, response_model=RunAnswer)
def run_schedule(
    request: Request,
    farm: AFarm,
    who: OperatorsTrainer,
    schedule: ScheduleName,
    raw: Raw,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """A run at once, paused or not; its own times stay as they are. 409 `run_open` where its overlap policy forbids."""
    _check(schedule)

    def make(session: Session) -> Answer:
        run = schedules.run_now(session, schedule, actor=who.actor)
        return Answer(202, RunAnswer.of(run).json_dict(), {"Location": f"/v1/training-runs/{run.id}"})

    return create_once(farm, who, request, raw, idempotency_key, make)


def _check(name: str) -> None:
    if not NAME.fullmatch(name):
        raise not_found("training schedule", name)
