"""Whether the service lives, whether it can work, and its numbers."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import JSONResponse, PlainTextResponse, Response

from api.deps import AFarm
from api.v1 import scrape
from api.v1.answers import Answer
from farm.db import migrate
from farm.domain.measure import Page
from farm.errors import Transient
from farm.storage.blobs import Missing

router = APIRouter(tags=["service"])

_PROBE_KEY = "readyz"


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


class ReadyAnswer(Answer):
    status: str = Field(description="ok or unavailable")
    checks: dict[str, str] = Field(description="By what is looked at: ok, or a code.")


@router.get(
    "/readyz",
    response_model=ReadyAnswer,
    responses={503: {"model": ReadyAnswer, "description": "Something is away; the answer says what."}},
)
def readyz(farm: AFarm) -> Response:
    """Database, storage and broker answer. Without the broker work still starts, at the control worker's tick."""

    def storage() -> None:
        try:
            farm.store.stat(_PROBE_KEY)
        except Missing:
            return

    def schema() -> None:
        if not migrate.is_current(farm.database):
            raise Transient("schema_outdated", "the database waits for a migration")

    checks: dict[str, Callable[[], None]] = {
        "database": farm.database.ping,
        "schema": schema,
        "storage": storage,
        "broker": farm.broker_check,
    }
    found: dict[str, str] = {}
    for name, check in checks.items():
        try:
            check()
            found[name] = "ok"
        except Transient as error:
            found[name] = error.code
    ready = all(state == "ok" for state in found.values()) and not farm.stopping.is_set()
    return JSONResponse({"status": "ok" if ready else "unavailable", "checks": found}, 200 if ready else 503)


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(farm: AFarm) -> PlainTextResponse:
    """Prometheus text format 0.0.4: totals over all tenants, no names."""
    page = Page()
    with farm.transaction() as session:
        scrape.of_the_farm(session, page)
    farm.requests.write(page)
    return PlainTextResponse(page.text(), media_type="text/plain; version=0.0.4")
