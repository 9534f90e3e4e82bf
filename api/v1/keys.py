"""API keys of the asker's own tenant."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field, StringConstraints
from starlette.responses import Response

from api.deps import Admin, AFarm, APage, Farm, IdempotencyKey, Moment, Raw, answer_of, create_once, slice_of
from api.errors import ApiProblem
from api.v1.answers import Answer as AnswerBody
from api.v1.answers import PageAnswer
from api.v1.batch_body import Strict, Text
from api.v1.paths import KeyId
from farm.db import keys as stored
from farm.db.session import Session
from farm.domain.quota import Rate
from farm.domain.tenant import Principal, Scope
from farm.flow import keys
from farm.flow.idempotency import Answer

router = APIRouter(prefix="/v1/keys", tags=["keys"])


class RateBody(Strict):
    per_s: float = Field(ge=0.001, le=1e6, allow_inf_nan=False, description="Requests a second, on average.")
    burst: int = Field(ge=1, le=1_000_000, description="How many of them may come at once.")

    def rate(self) -> Rate:
        return Rate(self.per_s, self.burst)


class KeyBody(Strict):
    name: Annotated[Text, StringConstraints(min_length=1, max_length=100)]
    scopes: list[Annotated[Scope, Field(strict=False)]] = Field(
        default_factory=lambda: [Scope.SUBMIT, Scope.READ], min_length=1, max_length=4
    )
    expires_at: Moment | None = Field(default=None, description="From then on the key is refused.")
    rate: RateBody | None = Field(default=None, description="Held to as well, where it is lower than its tenant's.")


class RateAnswer(AnswerBody):
    per_s: float
    burst: int

    @staticmethod
    def of(rate: Rate | None) -> RateAnswer | None:
        return None if rate is None else RateAnswer(per_s=rate.per_s, burst=rate.burst)


class KeyAnswer(AnswerBody):
    id: str
    name: str
    prefix: str = Field(description="The public part: `dub_<prefix>_…`.")
    scopes: list[Scope]
    rate: RateAnswer | None = Field(description="Null: its tenant's, or the farm's.")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @staticmethod
    def of(key: stored.KeyRecord) -> KeyAnswer:
        return KeyAnswer(
            id=key.id,
            name=key.name,
            prefix=key.prefix,
            scopes=sorted(Scope(scope) for scope in key.scopes),
            rate=RateAnswer.of(key.rate),
            created_at=key.created_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
        )


class NewKeyAnswer(KeyAnswer):
    secret: str = Field(description="The whole key; shown this once and kept nowhere.")


@router.post("", status_code=201, response_model=NewKeyAnswer)
def create_key(
    request: Request, farm: AFarm, who: Admin, body: KeyBody, raw: Raw, idempotency_key: IdempotencyKey = None
) -> Response:
    """A new key. A replay under the same Idempotency-Key is refused: the secret is not kept, so it cannot be answered
    again."""
    return new_key(farm, who, request, body, raw, idempotency_key, who.tenant_id)


def new_key(
    farm: Farm, who: Principal, request: Request, body: KeyBody, raw: bytes, idempotency_key: str | None, tenant_id: str
) -> Response:
    """The answer with a new key of this tenant."""
    secret: str | None = None

    def make(session: Session) -> Answer:
        nonlocal secret
        new = keys.create(
            session,
            tenant_id,
            body.name,
            body.scopes,
            expires_at=body.expires_at,
            rate=body.rate.rate() if body.rate else None,
            actor=who.actor,
        )
        secret = new.text
        made = next(key for key in stored.listed(session, tenant_id) if key.id == new.id)
        return Answer(201, KeyAnswer.of(made).json_dict(), {"Location": f"/v1/keys/{new.id}"})

    kept = create_once(farm, who, request, raw, idempotency_key, make)
    if secret is None:
        raise ApiProblem(
            "key_shown_once",
            "this request made a key before and its secret is not kept: revoke that key, use another Idempotency-Key",
        )
    body_with_secret = {**json.loads(bytes(kept.body)), "secret": secret}
    headers = {"Location": kept.headers["location"], "Cache-Control": "no-store"}
    return answer_of(Answer(201, body_with_secret, headers))


@router.get("", response_model=PageAnswer[KeyAnswer])
def list_keys(farm: AFarm, who: Admin, page: APage) -> PageAnswer[KeyAnswer]:
    """Newest first; revoked ones stay listed."""
    with farm.transaction() as session:
        found = stored.listed(session, who.tenant_id)[::-1]
    start, stop, following = slice_of(found, page)
    return PageAnswer(data=[KeyAnswer.of(key) for key in found[start:stop]], next_cursor=following)


@router.delete("/{key_id}", status_code=204, response_class=Response)
def revoke_key(farm: AFarm, who: Admin, key_id: KeyId) -> Response:
    """End a key at once, by its id or its prefix. Its batches go on."""
    with farm.transaction() as session:
        keys.revoke(session, who.tenant_id, key_id, actor=who.actor)
    return Response(status_code=204)
