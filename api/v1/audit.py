"""Who did what: the audit log, for admins."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from api.deps import Admin, AFarm, APage, Moment
from api.v1.answers import Answer, PageAnswer
from farm.db import audit
from farm.domain.audit import AuditEntry

router = APIRouter(prefix="/v1/audit", tags=["audit"])

_PLAIN = r"^[^\x00]*$"


class ActorAnswer(Answer):
    """A key of a tenant, or the farm itself (`key_id` is null). Keys of other tenants are not told apart."""

    name: str
    key_id: str | None


class AuditAnswer(Answer):
    id: int
    at: datetime
    actor: ActorAnswer
    action: str = Field(examples=["batch.paused"])
    subject: str = Field(description="The id of what was acted on, or `model/alias`.")
    detail: Mapping[str, Any]

    @staticmethod
    def of(entry: AuditEntry) -> AuditAnswer:
        return AuditAnswer(
            id=entry.id,
            at=entry.at,
            actor=ActorAnswer(name=entry.actor.name, key_id=entry.actor.key_id),
            action=entry.action,
            subject=entry.subject,
            detail=entry.detail,
        )


@router.get("", response_model=PageAnswer[AuditAnswer])
def list_audit(
    farm: AFarm,
    who: Admin,
    page: APage,
    action: Annotated[
        str | None, Query(max_length=100, pattern=_PLAIN, description="One (`batch.paused`) or a family (`batch`).")
    ] = None,
    subject: Annotated[str | None, Query(max_length=200, pattern=_PLAIN)] = None,
    since: Annotated[Moment | None, Query(description="At or after this time.")] = None,
    until: Annotated[Moment | None, Query(description="Before this time.")] = None,
) -> PageAnswer[AuditAnswer]:
    """What was done to your tenant's things and by your keys, newest first; for the tenant that runs the farm, also
    what was done to what all tenants share."""
    with farm.transaction() as session:
        found = audit.page(
            session,
            who.tenant_id,
            shared=who.is_operator,
            action=action,
            subject=subject,
            since=since,
            until=until,
            cursor=page.cursor,
            page_size=page.page_size,
        )
    return PageAnswer(data=[AuditAnswer.of(entry) for entry in found.items], next_cursor=found.next_cursor)
