"""Consent to training on a dub's source video: its tenant gives and withdraws it, who runs the farm exports by it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from api import errors
from api.deps import AFarm, APage, OperatorsTrainer, Reader, Submitter
from api.ranges import blob_response
from api.v1.answers import Answer, PageAnswer, RightsAnswer
from api.v1.batch_body import ConsentBody
from api.v1.paths import ClipId, JobId
from farm.db import consents
from farm.domain.consent import ConsentedClip, GivenConsent
from farm.flow import consent

router = APIRouter(prefix="/v1", tags=["training"])

_FILE: Final = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
SOURCE_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The file.", "content": _FILE},
    206: {"description": "The range asked for.", "content": _FILE},
    302: {"description": "A presigned url of the object store."},
    304: {"description": "You have it: the ETag is its SHA-256."},
}


class ConsentAnswer(Answer):
    job_id: str
    statement: str
    reference: str | None
    asked_by: str | None = Field(description="Id of the key that said so.")
    given_at: datetime
    withdrawn_at: datetime | None
    withdrawn_by: str | None

    @staticmethod
    def of(found: GivenConsent) -> ConsentAnswer:
        return ConsentAnswer(
            job_id=found.job_id,
            statement=found.consent.statement,
            reference=found.consent.reference,
            asked_by=found.asked_by,
            given_at=found.given_at,
            withdrawn_at=found.withdrawn_at,
            withdrawn_by=found.withdrawn_by,
        )


class SourceAnswer(Answer):
    sha256: str
    size_bytes: int


class ConsentedClipAnswer(Answer):
    job_id: str
    tenant_id: str
    statement: str
    reference: str | None
    rights: RightsAnswer | None = Field(description="What gave the right to the dub itself.")
    asked_by: str | None
    given_at: datetime
    source: SourceAnswer

    @staticmethod
    def of(clip: ConsentedClip) -> ConsentedClipAnswer:
        return ConsentedClipAnswer(
            job_id=clip.job_id,
            tenant_id=clip.tenant_id,
            statement=clip.consent.statement,
            reference=clip.consent.reference,
            rights=RightsAnswer.of(clip.rights),
            asked_by=clip.asked_by,
            given_at=clip.given_at,
            source=SourceAnswer(sha256=clip.source.sha256, size_bytes=clip.source.size_bytes),
        )


@router.put("/jobs/{job_id}/training-consent", response_model=ConsentAnswer)
def give_consent(farm: AFarm, who: Submitter, job_id: JobId, body: ConsentBody) -> ConsentAnswer:
    """The people in the source video of this dub agree that models are trained on it. 409 `no_source_video` for a job
    that animates a picture."""
    with farm.transaction() as session:
        return ConsentAnswer.of(consent.give(session, who.tenant_id, job_id, body.consent(), actor=who.actor))


@router.get("/jobs/{job_id}/training-consent", response_model=ConsentAnswer)
def get_consent(farm: AFarm, who: Reader, job_id: JobId) -> ConsentAnswer:
    """404 where nobody ever consented."""
    with farm.transaction() as session:
        return ConsentAnswer.of(consent.get(session, who.tenant_id, job_id))


@router.delete("/jobs/{job_id}/training-consent", response_model=ConsentAnswer)
def withdraw_consent(farm: AFarm, who: Submitter, job_id: JobId) -> ConsentAnswer:
    """The video is in no later export, nor is any other job's with the same bytes."""
    with farm.transaction() as session:
        return ConsentAnswer.of(consent.withdraw(session, who.tenant_id, job_id, actor=who.actor))


@router.get("/training-clips", response_model=PageAnswer[ConsentedClipAnswer])
def list_clips(farm: AFarm, who: OperatorsTrainer, page: APage) -> PageAnswer[ConsentedClipAnswer]:
    """Source videos of finished dubs of all tenants that may be trained on now."""
    with farm.transaction() as session:
        found = consents.clips(session, page.cursor, page.page_size)
    return PageAnswer(data=[ConsentedClipAnswer.of(clip) for clip in found.items], next_cursor=found.next_cursor)


@router.get("/training-clips/{clip}/source", response_class=Response, responses=SOURCE_ANSWERS)
def get_clip(request: Request, farm: AFarm, who: OperatorsTrainer, clip: ClipId) -> Response:
    """The source video, as it was fetched; 404 unless it is listed."""
    with farm.transaction() as session:
        found = consents.clip(session, clip) if "\x00" not in clip else None
    if found is None:
        raise errors.not_found("training clip", clip)
    return blob_response(request, farm.store, found.source, "application/octet-stream", f"{found.source.sha256}.video")
