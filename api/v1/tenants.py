"""Tenants and their limits, for who runs the farm; and what of them a tenant has used."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field, StringConstraints
from starlette.responses import Response

from api.deps import AFarm, APage, IdempotencyKey, Operator, Raw, Reader, create_once
from api.v1.answers import Answer as AnswerBody
from api.v1.answers import PageAnswer
from api.v1.batch_body import Strict, Text
from api.v1.keys import KeyBody, NewKeyAnswer, RateAnswer, RateBody, new_key
from api.v1.paths import TenantId
from farm.db import tenants as stored
from farm.db.session import Session
from farm.domain.tenant import Tenant
from farm.flow import tenants
from farm.flow.idempotency import Answer

router = APIRouter(prefix="/v1", tags=["tenants"])

MOST: int = 2**53
Days = Annotated[float, Field(ge=0, le=36_500, allow_inf_nan=False)]


class QuotasBody(Strict):
    """Null: no limit. A field that is left out stays as it is."""

    jobs_open: int | None = Field(default=None, ge=0, le=2**31 - 1, description="Jobs that have not ended.")
    frames_month: int | None = Field(default=None, ge=0, le=MOST, description="Frames a calendar month (UTC).")
    storage_bytes: int | None = Field(default=None, ge=0, le=MOST, description="Assets, each file once, and outputs.")


class RetentionBody(Strict):
    """Days; null keeps the class for good. A field that is left out goes by the farm's own time."""

    chunks: Days | None = None
    previews: Days | None = None
    outputs: Days | None = None
    assets: Days | None = None
    uploads: Days | None = None


class LimitsBody(Strict):
    """What is left out stays as it is."""

    weight: float = Field(default=1.0, gt=0, le=1000, allow_inf_nan=False, description="Share beside other tenants.")
    max_in_flight: int | None = Field(
        default=None, ge=0, le=2**31 - 1, description="Chunks that workers may hold of it at once; null: no cap."
    )
    rate: RateBody | None = Field(default=None, description="Of each of its keys; null: the farm's own.")
    quotas: QuotasBody = Field(default_factory=lambda: QuotasBody())
    retention: RetentionBody | None = Field(default=None, description="Null: the farm's own times.")

    def columns(self) -> Mapping[str, Any]:
        """What was sent, by the tenant's columns."""
        sent = self.model_dump(exclude_unset=True, exclude={"quotas", "rate", "retention", "name"})
        if "rate" in self.model_fields_set:
            sent |= {"rate_per_s": self.rate and self.rate.per_s, "rate_burst": self.rate and self.rate.burst}
        sent |= {f"quota_{name}": value for name, value in self.quotas.model_dump(exclude_unset=True).items()}
        if "retention" in self.model_fields_set:
            sent["retention"] = self.retention and self.retention.model_dump(exclude_unset=True)
        return sent


class TenantBody(LimitsBody):
    name: Annotated[Text, StringConstraints(min_length=1, max_length=100)]


class QuotasAnswer(AnswerBody):
    """Null: no limit."""

    jobs_open: int | None
    frames_month: int | None
    storage_bytes: int | None


class TenantAnswer(AnswerBody):
    id: str
    name: str
    is_operator: bool = Field(description="Its admins run the farm for everybody.")
    weight: float
    max_in_flight: int | None
    rate: RateAnswer | None = Field(description="Null: the farm's own.")
    quotas: QuotasAnswer
    retention: Mapping[str, float | None] = Field(description="Days by class, where they are not the farm's.")
    created_at: datetime

    @staticmethod
    def of(tenant: Tenant) -> TenantAnswer:
        return TenantAnswer(
            id=tenant.id,
            name=tenant.name,
            is_operator=tenant.is_operator,
            weight=tenant.weight,
            max_in_flight=tenant.max_in_flight,
            rate=RateAnswer.of(tenant.rate),
            quotas=_quotas(tenant),
            retention=tenant.retention,
            created_at=tenant.created_at,
        )


class UsedAnswer(AnswerBody):
    jobs_open: int
    frames_month: int = Field(description="Of jobs that ended this month, and of planned ones that have not ended.")
    storage_bytes: int


class UsageAnswer(AnswerBody):
    tenant_id: str
    month: datetime = Field(description="When the month began.")
    used: UsedAnswer
    quotas: QuotasAnswer


def _quotas(tenant: Tenant) -> QuotasAnswer:
    found = tenant.quotas
    return QuotasAnswer(jobs_open=found.jobs_open, frames_month=found.frames_month, storage_bytes=found.storage_bytes)


def _usage(session: Session, tenant_id: str) -> UsageAnswer:
    tenant = tenants.get(session, tenant_id)
    usage = stored.usage(session, tenant_id)
    used = UsedAnswer(jobs_open=usage.jobs_open, frames_month=usage.frames_month, storage_bytes=usage.storage_bytes)
    return UsageAnswer(tenant_id=tenant_id, month=usage.month, used=used, quotas=_quotas(tenant))


@router.get("/usage", response_model=UsageAnswer)
def get_usage(farm: AFarm, who: Reader) -> UsageAnswer:
    """What your tenant has used of its quotas."""
    with farm.transaction() as session:
        return _usage(session, who.tenant_id)


@router.post("/tenants", status_code=201, response_model=TenantAnswer)
def create_tenant(
    request: Request, farm: AFarm, who: Operator, body: TenantBody, raw: Raw, idempotency_key: IdempotencyKey = None
) -> Response:
    def make(session: Session) -> Answer:
        tenant = tenants.create(session, body.name, body.columns(), actor=who.actor)
        return Answer(201, TenantAnswer.of(tenant).json_dict(), {"Location": f"/v1/tenants/{tenant.id}"})

    return create_once(farm, who, request, raw, idempotency_key, make)


@router.get("/tenants", response_model=PageAnswer[TenantAnswer])
def list_tenants(farm: AFarm, who: Operator, page: APage) -> PageAnswer[TenantAnswer]:
    """Oldest first."""
    with farm.transaction() as session:
        found = stored.page(session, cursor=page.cursor, page_size=page.page_size)
    return PageAnswer(data=[TenantAnswer.of(tenant) for tenant in found.items], next_cursor=found.next_cursor)


@router.get("/tenants/{tenant_id}", response_model=TenantAnswer)
def get_tenant(farm: AFarm, who: Operator, tenant_id: TenantId) -> TenantAnswer:
    with farm.transaction() as session:
        return TenantAnswer.of(tenants.get(session, tenant_id))


@router.patch("/tenants/{tenant_id}", response_model=TenantAnswer)
def set_tenant(farm: AFarm, who: Operator, tenant_id: TenantId, body: LimitsBody) -> TenantAnswer:
    """Change its limits. They hold from now on: what is over a new quota stays, and nothing more comes in."""
    with farm.transaction() as session:
        return TenantAnswer.of(tenants.change(session, tenant_id, body.columns(), actor=who.actor))


@router.get("/tenants/{tenant_id}/usage", response_model=UsageAnswer)
def get_tenant_usage(farm: AFarm, who: Operator, tenant_id: TenantId) -> UsageAnswer:
    with farm.transaction() as session:
        return _usage(session, tenant_id)


@router.post("/tenants/{tenant_id}/keys", status_code=201, response_model=NewKeyAnswer)
def create_tenant_key(
    request: Request,
    farm: AFarm,
    who: Operator,
    tenant_id: TenantId,
    body: KeyBody,
    raw: Raw,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """A key of that tenant: how a new tenant comes in. As `POST /v1/keys`."""
    with farm.transaction() as session:
        tenants.get(session, tenant_id)
    return new_key(farm, who, request, body, raw, idempotency_key, tenant_id)
