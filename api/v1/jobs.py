"""Jobs: read, steer, output, preview, events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response, StreamingResponse

from api import errors, streams
from api.deps import AFarm, APage, Farm, Reader, Submitter, act
from api.ranges import blob_response
from api.v1.answers import ChunkAnswer, JobAnswer, PageAnswer
from api.v1.batches import PriorityBody
from api.v1.paths import JobId
from farm.db import chunks, jobs
from farm.db.session import Session
from farm.domain.tenant import Principal
from farm.domain.views import JobView
from farm.flow import control
from farm.storage import keys
from farm.storage.blobs import Missing

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_MP4: Final = {"video/mp4": {"schema": {"type": "string", "format": "binary"}}}
OUTPUT_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The file.", "content": _MP4},
    206: {"description": "The range asked for.", "content": _MP4},
    302: {"description": "A presigned url of the object store."},
    304: {"description": "You have it: the ETag is its SHA-256."},
}
PREVIEW_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "A picture.", "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}
}


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


@router.post("/{job_id}/cancel", response_model=JobAnswer)
def cancel_job(farm: AFarm, who: Submitter, job_id: JobId) -> JobAnswer:
    return JobAnswer.of(act(farm, who, control.cancel_job, job_id))


@router.post("/{job_id}/retry", response_model=JobAnswer)
def retry_job(farm: AFarm, who: Submitter, job_id: JobId) -> JobAnswer:
    """Take up a failed or canceled job again, from the chunk that failed."""
    return JobAnswer.of(act(farm, who, control.retry_job, job_id))


@router.delete("/{job_id}", status_code=202, response_model=JobAnswer)
def delete_job(farm: AFarm, who: Submitter, job_id: JobId) -> JobAnswer:
    """Erase all media of an ended job for good: output, previews, segments, and its inputs where nothing else needs
    them. Its row stays: who asked, with what right, what came of it."""
    return JobAnswer.of(act(farm, who, control.delete_job, job_id))


@router.head("/{job_id}/output", operation_id="head_output", response_class=Response, responses=OUTPUT_ANSWERS)
@router.get("/{job_id}/output", response_class=Response, responses=OUTPUT_ANSWERS)
def get_output(request: Request, farm: AFarm, who: Reader, job_id: JobId) -> Response:
    """The finished video. `Range`, `If-Range` and `If-None-Match` work."""
    with farm.transaction() as session:
        view = _job(session, who, job_id)
    if view.deleted_at is not None:
        raise errors.ApiProblem("output_deleted", f"the media of {job_id} were erased by request")
    if view.output_erased_at is not None:
        raise errors.ApiProblem(
            "output_expired", f"the output of {job_id} was kept until {view.output_erased_at:%F %T} UTC"
        )
    if view.output is None:
        status = f"{view.status}, {view.error_code}" if view.error_code else view.status
        raise errors.ApiProblem("output_not_ready", f"{job_id} has no output: it is {status}")
    return blob_response(request, farm.store, view.output.blob, "video/mp4", f"{view.custom_id}.mp4")


@router.get(
    "/{job_id}/logs",
    response_class=StreamingResponse,
    responses={200: {"description": "Lines.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def get_logs(
    farm: AFarm,
    who: Reader,
    job_id: JobId,
    chunk_id: Annotated[str | None, Query(max_length=100, pattern=r"^[^\x00]*$")] = None,
    attempt: Annotated[int | None, Query(ge=1, le=1_000_000)] = None,
) -> StreamingResponse:
    """What workers logged about the job's attempts, oldest first, each under a line that names it: the newest 500.
    An attempt that still runs, or whose worker was lost, has no lines."""
    with farm.transaction() as session:
        _job(session, who, job_id)
        found = chunks.trails(session, who.tenant_id, job_id, chunk_id=chunk_id, number=attempt, limit=500)
    return StreamingResponse(_logs(farm, job_id, found), media_type="text/plain; charset=utf-8")


def _logs(farm: Farm, job_id: str, found: Sequence[chunks.AttemptTrail]) -> Iterator[bytes]:
    for trail in found:
        span = f" {trail.span.start}-{trail.span.stop}" if len(trail.span) else ""
        ended = " ".join(filter(None, (trail.outcome, trail.reason)))
        head = f"== {trail.chunk_id} {trail.work}{span} attempt {trail.number} on {trail.worker_id}: {ended}\n"
        try:
            lines = farm.store.get_bytes(keys.log(job_id, trail.chunk_id, trail.token))
        except Missing:
            lines = b"(no lines)\n"
        yield head.encode() + lines


@router.head("/{job_id}/preview", operation_id="head_preview", response_class=Response, responses=PREVIEW_ANSWERS)
@router.get("/{job_id}/preview", response_class=Response, responses=PREVIEW_ANSWERS)
def get_preview(farm: AFarm, who: Reader, job_id: JobId) -> Response:
    """The newest rendered frame."""
    with farm.transaction() as session:
        view = _job(session, who, job_id)
    if view.previews_erased_at is not None:
        raise errors.ApiProblem("preview_expired", f"the pictures of {job_id} have been erased")
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

    return streams.response(farm, last_event_id, look, streams.of_jobs(who.tenant_id, job_id=job_id))
