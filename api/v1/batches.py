"""Batches: submit, read, steer, results, events."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from api import errors, streams
from api.deps import (
    AFarm,
    APage,
    Farm,
    IdempotencyKey,
    Raw,
    Reader,
    Submitter,
    UpdatedSince,
    act,
    answer_of,
    create_once,
)
from api.gate import json_bytes
from api.v1 import batch_body
from api.v1.answers import BatchAnswer, DeltaPageAnswer, EstimateAnswer, JobAnswer, ResultAnswer
from api.v1.paths import BatchId
from farm.db import batches, deltas, jobs
from farm.db.session import Session
from farm.domain.batch import BatchSpec
from farm.domain.job import BatchStatus, JobStatus
from farm.domain.tenant import Principal
from farm.domain.views import BatchView
from farm.errors import Problem, Rejected
from farm.flow import control, submit
from farm.flow.estimate import estimate
from farm.flow.idempotency import Answer

router = APIRouter(prefix="/v1/batches", tags=["batches"])


class PriorityBody(batch_body.Strict):
    priority: int = Field(ge=0, le=100)


@router.post(
    "",
    status_code=202,
    response_model=BatchAnswer,
    responses={200: {"model": EstimateAnswer, "description": "The estimate of a dry run; nothing was stored."}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/BatchBody"}}},
        }
    },
)
def submit_batch(
    request: Request, farm: AFarm, who: Submitter, raw: Raw, idempotency_key: IdempotencyKey = None
) -> Response:
    """Submit jobs. Everything that is wrong with any item is answered at once, and then nothing is stored."""
    read = batch_body.read(raw)
    if read.problems or read.spec is None:
        raise errors.invalid((*read.problems, *_further_problems(farm, who, read)))
    spec = read.spec
    if read.dry_run:
        return _dry_run(farm, who, spec)

    def make(session: Session) -> Answer:
        view = submit.submit(session, who.tenant_id, spec, farm.limits, actor=who.actor)
        return Answer(202, BatchAnswer.of(view).json_dict(), {"Location": f"/v1/batches/{view.id}"})

    try:
        answer = create_once(farm, who, request, raw, idempotency_key, make)
    except Rejected as error:
        if error.code == "batch_invalid":
            raise errors.invalid(error.problems) from error
        raise
    farm.wake()
    return answer


def _further_problems(farm: Farm, who: Principal, read: batch_body.Read) -> tuple[Problem, ...]:
    """What the farm would refuse of the parts that can be read, so that one round trip shows everything."""
    spec = batch_body.to_check(read)
    with farm.transaction() as session:
        found = submit.check(session, who.tenant_id, spec, farm.limits)
    known = {(problem.pointer, problem.code) for problem in read.problems}
    return tuple(p for p in batch_body.as_sent(read, found) if (p.pointer, p.code) not in known)


def _dry_run(farm: Farm, who: Principal, spec: BatchSpec) -> Response:
    with farm.transaction() as session:
        found = submit.check(session, who.tenant_id, spec, farm.limits)
        if found:
            raise errors.invalid(found)
        cost = estimate(session, who.tenant_id, spec)
    eta = None if cost.finish_s is None else datetime.now(UTC) + timedelta(seconds=cost.finish_s)
    return answer_of(Answer(200, EstimateAnswer.of(cost, eta).json_dict()))


@router.get("", response_model=DeltaPageAnswer[BatchAnswer])
def list_batches(
    farm: AFarm, who: Reader, page: APage, status: BatchStatus | None = None, updated_since: UpdatedSince = None
) -> DeltaPageAnswer[BatchAnswer]:
    """Your batches, newest first."""
    with farm.transaction() as session:
        as_of = deltas.safe_since(session)
        found = batches.page(
            session,
            who.tenant_id,
            status=status,
            updated_since=updated_since,
            cursor=page.cursor,
            page_size=page.page_size,
        )
    data = [BatchAnswer.of(view) for view in found.items]
    return DeltaPageAnswer(data=data, next_cursor=found.next_cursor, as_of=as_of)


def _batch(session: Session, who: Principal, batch_id: str) -> BatchView:
    view = batches.get(session, who.tenant_id, batch_id)
    if view is None:
        raise errors.not_found("batch", batch_id)
    return view


@router.get("/{batch_id}", response_model=BatchAnswer)
def get_batch(farm: AFarm, who: Reader, batch_id: BatchId) -> BatchAnswer:
    with farm.transaction() as session:
        return BatchAnswer.of(_batch(session, who, batch_id))


@router.patch("/{batch_id}", response_model=BatchAnswer)
def set_batch_priority(farm: AFarm, who: Submitter, batch_id: BatchId, body: PriorityBody) -> BatchAnswer:
    """The priority of every job that has not ended; acts on the next chunk that is handed out."""
    with farm.transaction() as session:
        return BatchAnswer.of(
            control.set_batch_priority(session, who.tenant_id, batch_id, body.priority, actor=who.actor)
        )


@router.get("/{batch_id}/jobs", response_model=DeltaPageAnswer[JobAnswer])
def list_jobs(
    farm: AFarm,
    who: Reader,
    batch_id: BatchId,
    page: APage,
    status: JobStatus | None = None,
    updated_since: UpdatedSince = None,
) -> DeltaPageAnswer[JobAnswer]:
    """In the order of the batch's items."""
    with farm.transaction() as session:
        as_of = deltas.safe_since(session)
        _batch(session, who, batch_id)
        found = jobs.page(
            session,
            who.tenant_id,
            batch_id,
            status=status,
            updated_since=updated_since,
            cursor=page.cursor,
            page_size=page.page_size,
        )
    data = [JobAnswer.of(view) for view in found.items]
    return DeltaPageAnswer(data=data, next_cursor=found.next_cursor, as_of=as_of)


@router.post("/{batch_id}/cancel", response_model=BatchAnswer)
def cancel_batch(farm: AFarm, who: Submitter, batch_id: BatchId) -> BatchAnswer:
    """Cancel every job that has not ended."""
    return BatchAnswer.of(act(farm, who, control.cancel_batch, batch_id))


@router.delete("/{batch_id}", status_code=202, response_model=BatchAnswer)
def delete_batch(farm: AFarm, who: Submitter, batch_id: BatchId) -> BatchAnswer:
    """Erase the media of every job of an ended batch for good; their rows stay."""
    return BatchAnswer.of(act(farm, who, control.delete_batch, batch_id))


@router.post("/{batch_id}/pause", response_model=BatchAnswer)
def pause_batch(farm: AFarm, who: Submitter, batch_id: BatchId) -> BatchAnswer:
    """Hold every job that has not ended; finished chunks are kept."""
    return BatchAnswer.of(act(farm, who, control.pause_batch, batch_id))


@router.post("/{batch_id}/resume", response_model=BatchAnswer)
def resume_batch(farm: AFarm, who: Submitter, batch_id: BatchId) -> BatchAnswer:
    return BatchAnswer.of(act(farm, who, control.resume_batch, batch_id))


@router.post("/{batch_id}/retry-failed", response_model=BatchAnswer)
def retry_failed(farm: AFarm, who: Submitter, batch_id: BatchId) -> BatchAnswer:
    """Take up every failed job again, from the chunk that failed."""
    return BatchAnswer.of(act(farm, who, control.retry_failed, batch_id))


@router.get(
    "/{batch_id}/results.jsonl",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "A line a job, in the order of the items.",
            "content": {"application/x-ndjson": {"schema": {"$ref": "#/components/schemas/ResultAnswer"}}},
        }
    },
)
def results(farm: AFarm, who: Reader, batch_id: BatchId) -> StreamingResponse:
    with farm.transaction() as session:
        _batch(session, who, batch_id)
    headers = {"Content-Disposition": f'attachment; filename="{batch_id}.results.jsonl"', "Cache-Control": "no-store"}
    return StreamingResponse(_lines(farm, who, batch_id), 200, headers, media_type="application/x-ndjson")


def _lines(farm: Farm, who: Principal, batch_id: str) -> Iterator[bytes]:
    with farm.transaction() as session:
        lines = (
            json_bytes(ResultAnswer.of(line).json_dict()) + b"\n"
            for line in jobs.results(session, who.tenant_id, batch_id)
        )
        # Each part costs a change of threads.
        while part := b"".join(islice(lines, 200)):
            yield part


@router.get("/{batch_id}/events", response_class=StreamingResponse, responses=streams.DOCUMENTED)
def batch_events(
    farm: AFarm, who: Reader, batch_id: BatchId, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """What changes in the batch, as server-sent events, until it ends."""
    with farm.transaction() as session:
        _batch(session, who, batch_id)

    def look(session: Session, since: datetime | None) -> streams.Look | None:
        view = batches.get(session, who.tenant_id, batch_id)
        if view is None:
            return None
        # Phases and frames go on without a change of the job's row: jobs in a worker's hands are looked at each time.
        changed = jobs.page(session, who.tenant_id, batch_id, updated_since=since, page_size=200)
        in_hand = jobs.page(session, who.tenant_id, batch_id, in_hand=True, page_size=100)
        recent = {job.id: job for job in (*changed.items, *in_hand.items)}
        data: dict[str, Any] = {
            "batch": BatchAnswer.of(view).json_dict(),
            "jobs": [JobAnswer.of(job).json_dict() for job in recent.values()],
        }
        ended = view.status in (BatchStatus.COMPLETED, BatchStatus.CANCELED)
        return streams.Look(data, ended)

    return streams.response(farm, last_event_id, look, streams.of_jobs(who.tenant_id, batch_id=batch_id))
