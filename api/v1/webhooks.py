"""Webhook endpoints of the asker's tenant: who is told what, and what became of every message."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Request
from pydantic import Field, StringConstraints
from starlette.responses import Response

from api.deps import Admin, AFarm, APage, Farm, IdempotencyKey, Moment, Raw, answer_of, create_once
from api.errors import ApiProblem, not_found
from api.v1.answers import Answer as AnswerBody
from api.v1.answers import PageAnswer
from api.v1.batch_body import Strict, Text
from api.v1.paths import DeliveryId, EndpointId
from farm.db import outbox
from farm.db import webhooks as stored
from farm.db.session import Session
from farm.domain.tenant import Principal
from farm.domain.webhook import OFFERED, DeliveryStatus, DeliveryView, EndpointView, Topic, TryView
from farm.flow import webhooks
from farm.flow.idempotency import Answer

router = APIRouter(prefix="/v1/webhook-endpoints", tags=["webhooks"])

LONGEST_OVERLAP_S: Final = 7 * 86_400
Offered = Literal[
    "batch.completed",
    "job.succeeded",
    "job.failed",
    "training_run.completed",
    "training_run.alert",
    "model.promoted",
    "model.canary_stopped",
]
Url = Annotated[Text, StringConstraints(min_length=1, max_length=2000)]
Description = Annotated[Text, StringConstraints(max_length=200)]


class EndpointBody(Strict):
    url: Url = Field(description="https://…, public unless this farm's settings allow the host.")
    events: list[Offered] = Field(default_factory=list, max_length=len(OFFERED), description="Empty: all of them.")
    description: Description | None = None


class EndpointChange(Strict):
    """Only what is given changes. `enabled`: false stops deliveries, true takes them up again."""

    url: Url | None = None
    events: list[Offered] | None = Field(default=None, max_length=len(OFFERED))
    description: Description | None = None
    enabled: bool | None = None


class RotateBody(Strict):
    overlap_s: int = Field(
        default=86_400, ge=0, le=LONGEST_OVERLAP_S, description="So long messages are signed with the old one too."
    )


class ReplayBody(Strict):
    since: Moment
    delivered: bool = Field(default=False, description="Also what has arrived, not only what failed or was skipped.")


class EndpointAnswer(AnswerBody):
    id: str
    url: str
    description: str | None
    events: list[str] = Field(description="Empty: all of them.")
    enabled: bool
    disabled_reason: str | None
    disabled_at: datetime | None
    old_secret_until: datetime | None = Field(description="After a rotation: until then the old secret signs too.")
    last_success_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @staticmethod
    def of(view: EndpointView) -> EndpointAnswer:
        return EndpointAnswer(
            id=view.id,
            url=view.url,
            description=view.description,
            events=list(view.topics),
            enabled=view.enabled,
            disabled_reason=view.disabled_reason,
            disabled_at=view.disabled_at,
            old_secret_until=view.old_secret_until,
            last_success_at=view.last_success_at,
            created_at=view.created_at,
            updated_at=view.updated_at,
        )


class NewEndpointAnswer(EndpointAnswer):
    secret: str = Field(description="`whsec_…`: verifies signatures. Shown this once.")


class DeliveryAnswer(AnswerBody):
    """One event for this endpoint; `id` is the webhook-id that every try carries."""

    id: str
    event_id: str
    event: str
    status: str = Field(description="pending, delivered, failed or skipped (the endpoint was disabled)")
    attempts: int
    next_attempt_at: datetime | None
    last_status: int | None = Field(description="HTTP status of the newest try; null where there was no answer.")
    last_error: str | None
    created_at: datetime
    finished_at: datetime | None

    @staticmethod
    def fields(view: DeliveryView) -> dict[str, Any]:
        return {
            "id": view.id,
            "event_id": view.event_id,
            "event": view.topic,
            "status": view.status,
            "attempts": view.attempts,
            "next_attempt_at": view.due_at,
            "last_status": view.last_status,
            "last_error": view.last_error,
            "created_at": view.created_at,
            "finished_at": view.finished_at,
        }

    @staticmethod
    def of(view: DeliveryView) -> DeliveryAnswer:
        return DeliveryAnswer(**DeliveryAnswer.fields(view))


class TryAnswer(AnswerBody):
    number: int
    at: datetime
    status: int | None
    error: str | None
    seconds: float
    answer: str = Field(description="The first 1,024 bytes of the answer's body.")

    @staticmethod
    def of(view: TryView) -> TryAnswer:
        return TryAnswer(
            number=view.number,
            at=view.at,
            status=view.status,
            error=view.error,
            seconds=view.seconds,
            answer=view.answer,
        )


class DeliveryDetailAnswer(DeliveryAnswer):
    tries: list[TryAnswer]
    body: str = Field(description="The exact text that is sent and signed.")


class ReplayAnswer(AnswerBody):
    deliveries: int = Field(description="How many are sent again.")


def _with_secret(
    request: Request,
    farm: Farm,
    who: Principal,
    raw: bytes,
    key: str | None,
    status: int,
    make: Callable[[Session], tuple[EndpointView, str]],
) -> Response:
    """Answer with an endpoint and its new secret; a replay under the same Idempotency-Key has no secret to show."""
    secret: str | None = None

    def made(session: Session) -> Answer:
        nonlocal secret
        view, secret = make(session)
        location = {"Location": f"/v1/webhook-endpoints/{view.id}"} if status == 201 else {}
        return Answer(status, EndpointAnswer.of(view).json_dict(), location)

    kept = create_once(farm, who, request, raw, key, made)
    if secret is None:
        raise ApiProblem(
            "secret_shown_once",
            "this request was answered before and its secret is not shown again: rotate it under another key",
        )
    headers = {"Cache-Control": "no-store"}
    if status == 201:
        headers["Location"] = kept.headers["location"]
    return answer_of(Answer(status, {**json.loads(bytes(kept.body)), "secret": secret}, headers))


@router.post("", status_code=201, response_model=NewEndpointAnswer)
def create_endpoint(
    request: Request, farm: AFarm, who: Admin, body: EndpointBody, raw: Raw, idempotency_key: IdempotencyKey = None
) -> Response:
    """Have events sent to a url. The secret in the answer verifies their signatures."""

    def make(session: Session) -> tuple[EndpointView, str]:
        return webhooks.create(
            session,
            who.tenant_id,
            body.url,
            [Topic(t) for t in body.events],
            body.description,
            farm.webhook_limits,
            actor=who.actor,
        )

    return _with_secret(request, farm, who, raw, idempotency_key, 201, make)


@router.get("", response_model=PageAnswer[EndpointAnswer])
def list_endpoints(farm: AFarm, who: Admin, page: APage) -> PageAnswer[EndpointAnswer]:
    """Newest first."""
    with farm.transaction() as session:
        found = stored.page(session, who.tenant_id, cursor=page.cursor, page_size=page.page_size)
    return PageAnswer(data=[EndpointAnswer.of(view) for view in found.items], next_cursor=found.next_cursor)


def _endpoint(session: Session, who: Principal, endpoint_id: str) -> EndpointView:
    view = stored.get(session, who.tenant_id, endpoint_id)
    if view is None:
        raise not_found("webhook endpoint", endpoint_id)
    return view


@router.get("/{endpoint_id}", response_model=EndpointAnswer)
def get_endpoint(farm: AFarm, who: Admin, endpoint_id: EndpointId) -> EndpointAnswer:
    with farm.transaction() as session:
        return EndpointAnswer.of(_endpoint(session, who, endpoint_id))


@router.patch("/{endpoint_id}", response_model=EndpointAnswer)
def change_endpoint(farm: AFarm, who: Admin, endpoint_id: EndpointId, body: EndpointChange) -> EndpointAnswer:
    """What happens while an endpoint is disabled is kept as `skipped`; replay sends it."""
    given = body.model_dump(exclude_unset=True)
    enabled = given.pop("enabled", None)
    if "events" in given:
        given["topics"] = [Topic(topic) for topic in given.pop("events") or []]
    if given.get("url", "") is None:
        del given["url"]
    with farm.transaction() as session:
        view = webhooks.change(
            session, who.tenant_id, endpoint_id, farm.webhook_limits, actor=who.actor, enabled=enabled, **given
        )
    return EndpointAnswer.of(view)


@router.delete("/{endpoint_id}", status_code=204, response_class=Response)
def delete_endpoint(farm: AFarm, who: Admin, endpoint_id: EndpointId) -> Response:
    """With its delivery log."""
    with farm.transaction() as session:
        webhooks.delete(session, who.tenant_id, endpoint_id, actor=who.actor)
    return Response(status_code=204)


@router.post("/{endpoint_id}/rotate-secret", response_model=NewEndpointAnswer)
def rotate_secret(
    request: Request,
    farm: AFarm,
    who: Admin,
    endpoint_id: EndpointId,
    raw: Raw,
    body: RotateBody | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """A new secret. For `overlap_s` seconds messages carry signatures of both."""
    overlap_s = (body or RotateBody()).overlap_s

    def make(session: Session) -> tuple[EndpointView, str]:
        return webhooks.rotate_secret(session, who.tenant_id, endpoint_id, overlap_s, actor=who.actor)

    return _with_secret(request, farm, who, raw, idempotency_key, 200, make)


@router.post("/{endpoint_id}/ping", status_code=202, response_model=DeliveryAnswer)
def ping_endpoint(
    request: Request,
    farm: AFarm,
    who: Admin,
    endpoint_id: EndpointId,
    raw: Raw,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Send a `ping` event to this endpoint; its delivery says what became of it."""

    def make(session: Session) -> Answer:
        delivery_id = webhooks.ping(session, who.tenant_id, endpoint_id)
        return Answer(202, DeliveryAnswer.of(_delivery(session, endpoint_id, delivery_id)[0]).json_dict())

    return create_once(farm, who, request, raw, idempotency_key, make)


def _delivery(session: Session, endpoint_id: str, delivery_id: str) -> tuple[DeliveryView, str]:
    found = outbox.get(session, endpoint_id, delivery_id)
    if found is None:
        raise not_found("delivery", delivery_id)
    return found


@router.get("/{endpoint_id}/deliveries", response_model=PageAnswer[DeliveryAnswer])
def list_deliveries(
    farm: AFarm,
    who: Admin,
    endpoint_id: EndpointId,
    page: APage,
    status: DeliveryStatus | None = None,
    event: Topic | None = None,
) -> PageAnswer[DeliveryAnswer]:
    """Newest first; kept for 30 days."""
    with farm.transaction() as session:
        _endpoint(session, who, endpoint_id)
        found = outbox.page(
            session, endpoint_id, status=status, topic=event, cursor=page.cursor, page_size=page.page_size
        )
    return PageAnswer(data=[DeliveryAnswer.of(view) for view in found.items], next_cursor=found.next_cursor)


@router.get("/{endpoint_id}/deliveries/{delivery_id}", response_model=DeliveryDetailAnswer)
def get_delivery(farm: AFarm, who: Admin, endpoint_id: EndpointId, delivery_id: DeliveryId) -> DeliveryDetailAnswer:
    """With its body and every try."""
    with farm.transaction() as session:
        _endpoint(session, who, endpoint_id)
        view, body = _delivery(session, endpoint_id, delivery_id)
        tries = outbox.tries(session, delivery_id)
    return DeliveryDetailAnswer(**DeliveryAnswer.fields(view), tries=[TryAnswer.of(each) for each in tries], body=body)


@router.post("/{endpoint_id}/deliveries/{delivery_id}/replay", status_code=202, response_model=DeliveryAnswer)
def replay_delivery(
    request: Request,
    farm: AFarm,
    who: Admin,
    endpoint_id: EndpointId,
    delivery_id: DeliveryId,
    raw: Raw,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Send it again, under the same webhook-id."""

    def make(session: Session) -> Answer:
        webhooks.replay(session, who.tenant_id, endpoint_id, delivery_id, actor=who.actor)
        return Answer(202, DeliveryAnswer.of(_delivery(session, endpoint_id, delivery_id)[0]).json_dict())

    return create_once(farm, who, request, raw, idempotency_key, make)


@router.post("/{endpoint_id}/replay", status_code=202, response_model=ReplayAnswer)
def replay_since(
    request: Request,
    farm: AFarm,
    who: Admin,
    endpoint_id: EndpointId,
    body: ReplayBody,
    raw: Raw,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Send again what failed or was skipped since a time, after an outage on your side."""

    def make(session: Session) -> Answer:
        count = webhooks.replay_since(
            session, who.tenant_id, endpoint_id, body.since, delivered=body.delivered, actor=who.actor
        )
        return Answer(202, ReplayAnswer(deliveries=count).json_dict())

    return create_once(farm, who, request, raw, idempotency_key, make)
