"""What routes need: the farm behind the API, the asker, one page, and creating something once."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeVar

from fastapi import Depends, Header, Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AwareDatetime, BeforeValidator, Field
from starlette.responses import Response

from api.errors import ApiProblem
from api.gate import Requests, json_bytes
from farm.db.session import Database, Session
from farm.domain.limits import InputLimits
from farm.domain.tenant import Principal, Scope
from farm.flow import idempotency, keys
from farm.flow.idempotency import Answer
from farm.rates import Limiter
from farm.storage.blobs import BlobStore

T = TypeVar("T")
KEY_LENGTH: Final = 255


@dataclass(frozen=True)
class Farm:
    """Handles of one API process. `limiter`: None lets every key ask as often as it likes. `wake` asks for wake-ups
    after a commit and returns at once; `broker_check` raises Transient; `stopping` is set when the process is to end,
    so that event streams end too. `requests`: counts them. `webhook_limits`: where webhooks may go."""

    database: Database
    store: BlobStore
    limits: InputLimits
    wake: Callable[[], None]
    broker_check: Callable[[], None]
    limiter: Limiter | None = None
    public_url: str | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    requests: Requests = field(default_factory=Requests)
    webhook_limits: InputLimits = field(default_factory=lambda: InputLimits(schemes=("https",)))

    def transaction(self) -> AbstractContextManager[Session]:
        return self.database.transaction()


def the_farm(request: Request) -> Farm:
    return request.app.state.farm


AFarm = Annotated[Farm, Depends(the_farm)]

bearer = HTTPBearer(
    auto_error=False, bearerFormat="dub_<prefix>_<secret>", description="An API key, made by `dubfarm keys create`."
)


def requires(scope: Scope, *, operator: bool = False) -> Callable[..., Principal]:
    """The dependency that lets in keys with this scope; `operator`: only those of the tenant that runs the farm."""

    def check(
        request: Request, farm: AFarm, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]
    ) -> Principal:
        challenge = {"WWW-Authenticate": "Bearer"}
        if credentials is None:
            raise ApiProblem("key_missing", "send Authorization: Bearer dub_…", headers=challenge)
        with farm.transaction() as session:
            principal = keys.verify(session, credentials.credentials)
        if principal is None:
            raise ApiProblem("key_invalid", "this key is unknown, revoked or expired", headers=challenge)
        request.scope["tenant_id"] = principal.tenant_id
        _count(request, farm, principal)
        if not principal.may(scope):
            raise ApiProblem("scope_missing", f"this key lacks the scope {scope}")
        if operator and not principal.is_operator:
            raise ApiProblem("operator_only", "only keys of the tenant that runs this farm may do this")
        return principal

    check.scope = scope  # type: ignore[attr-defined]  # api.openapi tells both
    check.operator = operator  # type: ignore[attr-defined]
    return check


def _count(request: Request, farm: Farm, who: Principal) -> None:
    """One more request of this key; the gate shows how things stand in the answer's RateLimit fields."""
    spent = farm.limiter.take(who.key_id, who.tenant_rate, who.key_rate) if farm.limiter is not None else None
    if spent is None:
        return
    window_s = math.ceil(spent.rate.burst / spent.rate.per_s)
    request.scope["answer_headers"] = {
        "RateLimit-Policy": f'"key";q={spent.rate.burst};w={window_s}',
        "RateLimit": f'"key";r={spent.remaining};t={math.ceil(spent.reset_s)}',
    }
    if not spent.allowed:
        raise ApiProblem(
            "rate_limited",
            f"this key may ask {spent.rate.per_s:g} times a second, {spent.rate.burst} at once;"
            f" wait {spent.retry_s:.2f} s",
            headers={"Retry-After": str(max(1, math.ceil(spent.retry_s)))},
        )


Reader = Annotated[Principal, Depends(requires(Scope.READ))]
Submitter = Annotated[Principal, Depends(requires(Scope.SUBMIT))]
Admin = Annotated[Principal, Depends(requires(Scope.ADMIN))]
Operator = Annotated[Principal, Depends(requires(Scope.ADMIN, operator=True))]
OperatorsTrainer = Annotated[Principal, Depends(requires(Scope.TRAIN, operator=True))]


def act(farm: Farm, who: Principal, verb: Callable[..., T], id: str) -> T:
    """A verb of farm.flow.control on one of the asker's things; work that it sets free is woken for."""
    with farm.transaction() as session:
        view = verb(session, who.tenant_id, id, actor=who.actor)
    farm.wake()
    return view


@dataclass(frozen=True)
class Paging:
    cursor: str | None
    page_size: int


def paging(
    cursor: Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before.")] = None,
    page_size: Annotated[int, Query(ge=1, le=200)] = 100,
) -> Paging:
    return Paging(cursor, page_size)


APage = Annotated[Paging, Depends(paging)]


def _written_out(value: object) -> object:
    """A bare number would pass for seconds since 1970, which the document does not offer."""
    if not isinstance(value, str) or not re.match(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d", value):
        raise ValueError("a time as RFC 3339 writes it is needed, with its zone: 2026-11-22T14:00:00Z")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_written_out), Field(strict=False)]
"""A time that a client sends: RFC 3339 with its zone."""
UpdatedSince = Annotated[Moment | None, Query(description="Only what changed at or after this time (RFC 3339).")]


def slice_of(rows: Sequence[object], page: Paging) -> tuple[int, int, str | None]:
    """(start, stop, next_cursor) of a list that is short enough to be read whole."""
    if page.cursor is not None and not page.cursor.isdecimal():
        raise ApiProblem("cursor_invalid", "this cursor is not from an earlier page")
    start = int(page.cursor[:9]) if page.cursor else 0
    stop = start + page.page_size
    return start, stop, str(stop) if stop < len(rows) else None


async def raw_body(request: Request) -> bytes:
    """The bytes as sent: endpoints run in threads and cannot await them."""
    return await request.body()


Raw = Annotated[bytes, Depends(raw_body)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        json_schema_extra={"minLength": 1, "maxLength": KEY_LENGTH, "pattern": "^[ -~]+$"},
        description="Any string of yours; repeating the request with it answers the same and does nothing twice.",
    ),
]


def create_once(
    farm: Farm,
    who: Principal,
    request: Request,
    raw: bytes,
    key: str | None,
    make: Callable[[Session], Answer],
) -> Response:
    """Answer with what `make` creates, or with the answer to the first request under this key.

    The answer is stored in the transaction that creates, so neither is there without the other.
    """
    if key is None:
        with farm.transaction() as session:
            return answer_of(make(session))
    if not 1 <= len(key) <= KEY_LENGTH or not key.isprintable():
        raise ApiProblem("idempotency_key_invalid", f"an Idempotency-Key has 1 to {KEY_LENGTH} printable characters")
    print_of_request = idempotency.request_sha256(request.method, request.url.path, raw)
    with farm.transaction() as session:
        earlier = idempotency.begin(session, who.tenant_id, key, print_of_request)
        if earlier is not None:
            return answer_of(earlier, {"Idempotent-Replayed": "true"})
        answer = make(session)
        idempotency.finish(session, who.tenant_id, key, print_of_request, answer)
    return answer_of(answer)


def answer_of(answer: Answer, extra: dict[str, str] | None = None) -> Response:
    return Response(
        json_bytes(answer.body),
        answer.status,
        headers={**answer.headers, **(extra or {})},
        media_type="application/json",
    )
