"""Jobs: read, steer, output, preview, events."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Header, Request
from starlette.responses import Response, StreamingResponse

from api import errors, streams
from api.deps import AFarm, APage, Farm, Reader, Submitter
from api.ranges import blob_response
from api.v1.answers import ChunkAnswer, JobAnswer, PageAnswer
from api.v1.batches import PriorityBody
from api.v1.paths import JobId
from farm.db import chunks, jobs
from farm.db.session import Session
from farm.domain.tenant import Principal
from farm.domain.views import JobView
from farm.flow import control
from farm.storage.blobs import Missing

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


def _job(session: Session, who: Principal, job_id: str) -> JobView:
    view = jobs.get(session, who.tenant_id, job_id)
    if view is None:
        raise errors.not_found("job", job_id)
    return view


@router.get("/{job_id}", response_model=JobAnswer)
def get_job(farm: AFarm, who: Reader, job_id: JobId) -> JobAnswer:
    with farm.transaction() as session:
        return JobAnswer.of(_job(session, who, job_id))


@router.patch("/{job_id}", response_model=JobAnswer)
def set_job_priority(farm: AFarm, who: Submitter, job_id: JobId, body: PriorityBody) -> JobAnswer:
    with farm.transaction() as session:
        return JobAnswer.of(control.set_job_priority(session, who.tenant_id, job_id, body.priority, actor=who.actor))


@router.get("/{job_id}/chunks", response_model=PageAnswer[ChunkAnswer])
def list_chunks(farm: AFarm, who: Reader, job_id: JobId, page: APage) -> PageAnswer[ChunkAnswer]:
    """Plan, render spans, finalize; each with its attempts, their workers and their reasons."""
    with farm.transaction() as session:
        _job(session, who, job_id)
        found = chunks.page(session, who.tenant_id, job_id, cursor=page.cursor, page_size=page.page_size)
    return PageAnswer(data=[ChunkAnswer.of(view) for view in found.items], next_cursor=found.next_cursor)


def _act(farm: Farm, verb: Callable[..., JobView], who: Principal, job_id: str) -> JobAnswer:
    with farm.transaction() as session:
        view = verb(session, who.tenant_id, job_id, actor=who.actor)
    farm.wake()
    return JobAnswer.of(view)


@router.post("/{job_id}/cancel", response_model=JobAnswer)
def cancel_job(farm: AFarm, who: Submitter, job_id: JobId) -> JobAnswer:
    return _act(farm, control.cancel_job, who, job_id)


@router.post("/{job_id}/retry", response_model=JobAnswer)
def retry_job(farm: AFarm, who: Submitter, job_id: JobId) -> JobAnswer:
    """Take up a failed or canceled job again, from the chunk that failed."""
    return _act(farm, control.retry_job, who, job_id)


@router.get(
    "/{job_id}/output",
    response_class=Response,
    responses={
        200: {"description": "The file.", "content": {"video/mp4": {"schema": {"type": "string", "format": "binary"}}}},
        206: {"description": "The range asked for."},
        302: {"description": "A presigned url of the object store."},
        304: {"description": "You have it: the ETag is its SHA-256."},
    },
)
def get_output(request: Request, farm: AFarm, who: Reader, job_id: JobId) -> Response:
    """The finished video. `Range`, `If-Range` and `If-None-Match` work."""
    with farm.transaction() as session:
        view = _job(session, who, job_id)
    if view.output is None:
        status = f"{view.status}, {view.error_code}" if view.error_code else view.status
        raise errors.ApiProblem("output_not_ready", f"{job_id} has no output: it is {status}")
    return blob_response(request, farm.store, view.output.blob, "video/mp4", f"{view.custom_id}.mp4")


@router.get(
    "/{job_id}/preview",
    response_class=Response,
    responses={
        200: {
            "description": "A picture.",
            "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
def get_preview(farm: AFarm, who: Reader, job_id: JobId) -> Response:
    """The newest rendered frame."""
    with farm.transaction() as session:
        view = _job(session, who, job_id)
    if view.preview_key is None:
        raise errors.ApiProblem("preview_not_ready", f"{job_id} has no rendered frame yet")
    try:
        picture = farm.store.get_bytes(view.preview_key)
    except Missing as error:
        raise errors.ApiProblem("preview_not_ready", f"the picture of {job_id} was swept away") from error
    return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


@router.get("/{job_id}/events", response_class=StreamingResponse, responses=streams.DOCUMENTED)
def job_events(
    farm: AFarm, who: Reader, job_id: JobId, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """What changes in the job, as server-sent events, until it ends."""
    with farm.transaction() as session:
        _job(session, who, job_id)

    def look(session: Session, _since: datetime | None) -> streams.Look | None:
        view = jobs.get(session, who.tenant_id, job_id)
        if view is None:
            return None
        return streams.Look({"job": JobAnswer.of(view).json_dict()}, view.status.is_terminal)

    return streams.response(farm, who.tenant_id, last_event_id, look, job_id=job_id)
