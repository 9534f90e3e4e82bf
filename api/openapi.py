"""The OpenAPI 3.1 document: FastAPI's own, with our errors and with the batch body that we read ourselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from api.errors import MEDIA_TYPE, STATUS_OF_CODE
from api.v1.answers import ProblemAnswer, ResultAnswer
from api.v1.batch_body import BatchBody

DESCRIPTION: Final = """
Batches of dubbing jobs in, videos with new lips out.

Errors are RFC 9457 problems (`application/problem+json`) with a `code`; `errors` holds every mistake at once.
Creating POSTs take an `Idempotency-Key`. Lists come in pages: pass `next_cursor` as `cursor`.
Ids are a prefix and a time-ordered UUID; times are RFC 3339 in UTC.
"""
WRITES: Final = ("post", "put", "patch", "delete")
_BATCH_VERBS: Final = ("cancel_batch", "pause_batch", "resume_batch", "retry_failed", "delete_batch")
MORE: Final[Mapping[str, Sequence[int]]] = {
    **dict.fromkeys((*_BATCH_VERBS, "cancel_job", "retry_job", "delete_job"), (409,)),
    **dict.fromkeys(("submit_batch", "create_asset", "complete_asset", "delete_asset", "put_bytes"), (409,)),
    **dict.fromkeys(("create_key", "create_tenant", "create_tenant_key", "register_version", "rollback_alias"), (409,)),
    **dict.fromkeys(("get_output", "head_output"), (409, 410, 416)),
    **dict.fromkeys(("get_preview", "head_preview"), (409, 410)),
    **dict.fromkeys(("create_endpoint", "ping_endpoint", "replay_delivery", "replay_since", "rotate_secret"), (409,)),
    **dict.fromkeys(("create_run", "cancel_run", "resume_run", "run_schedule"), (409,)),
    "complete_asset": (409, 422),
    "rollback_alias": (409, 412, 422),
    "set_alias": (409, 412),
    "compare_versions": (409,),
}
"""Statuses of an operation that its parameters do not tell."""
NAMES: Final[Mapping[str, tuple[str, str, str]]] = {
    "submit_batch": ("202", "batch_id", "/id"),
    "list_batches": ("200", "batch_id", "/data/0/id"),
    "list_jobs": ("200", "job_id", "/data/0/id"),
    "create_asset": ("201", "asset_id", "/id"),
    "list_assets": ("200", "asset_id", "/data/0/id"),
    "create_key": ("201", "key_id", "/id"),
    "create_tenant": ("201", "tenant_id", "/id"),
    "list_workers": ("200", "worker_id", "/data/0/id"),
    "create_endpoint": ("201", "endpoint_id", "/id"),
    "create_run": ("202", "run_id", "/id"),
    "list_runs": ("200", "run_id", "/data/0/id"),
    "put_schedule": ("200", "schedule", "/name"),
}
"""Where answers name things: (status, the parameter that takes it, JSON pointer)."""
_SCHEMA_REF: Final = "#/components/schemas/{model}"


def document(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema:
        return app.openapi_schema
    made = get_openapi(
        title=app.title, version=app.version, routes=app.routes, description=DESCRIPTION, openapi_version="3.1.0"
    )
    _, extra = models_json_schema(
        [(BatchBody, "validation"), (ProblemAnswer, "serialization"), (ResultAnswer, "serialization")],
        ref_template=_SCHEMA_REF,
    )
    schemas: dict[str, Any] = made["components"]["schemas"]
    for name, schema in extra["$defs"].items():
        schemas.setdefault(name, schema)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    scopes = {route.name: required(route) for route in _routes(app)}
    takers: dict[str, list[str]] = {}
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            names = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
            _with_problems(operation, method, has_ids=bool(names), needs_key=path.startswith("/v1/"))
            if (scope := scopes.get(operation["operationId"].replace("head_", "get_", 1))) is not None:
                operation["x-scopes"] = [scope.name]
                operation["x-operator"] = scope.operator
            if len(names) == 1 and method != "head":
                takers.setdefault(names.pop(), []).append(operation["operationId"])
    for operations in made["paths"].values():
        for operation in operations.values():
            _with_links(operation, takers)
    app.openapi_schema = made
    return made


def _routes(app: FastAPI) -> Iterator[APIRoute]:
    return (route for route in _flat(app.routes) if isinstance(route, APIRoute))


def _flat(routes: Sequence[Any]) -> Iterator[Any]:
    """Included routers are routes too."""
    for route in routes:
        inner = getattr(getattr(route, "original_router", None), "routes", None)
        yield from _flat(inner) if inner is not None else (route,)


@dataclass(frozen=True)
class Required:
    """operator: of a key of the tenant that runs the farm."""

    name: str
    operator: bool


def required(route: APIRoute) -> Required | None:
    """The scope that an operation asks for (api.deps.requires); None: no key."""
    for needed in route.dependant.dependencies:
        scope = getattr(needed.call, "scope", None)
        if scope is not None:
            return Required(str(scope), bool(getattr(needed.call, "operator", False)))
    return None


def _with_problems(operation: dict[str, Any], method: str, *, has_ids: bool, needs_key: bool) -> None:
    """Every status that can come, each a problem."""
    asks = bool(operation.get("parameters")) or "requestBody" in operation
    statuses = {
        401: needs_key,
        403: needs_key,
        404: has_ids,
        413: method in WRITES,
        415: method in WRITES,
        422: asks,
        429: needs_key,
        500: True,
        503: True,
        400: "requestBody" in operation or any(p["in"] == "header" for p in operation.get("parameters", ())),
    }
    statuses |= dict.fromkeys(MORE.get(operation["operationId"], ()), True)
    responses: dict[str, Any] = operation["responses"]
    responses.pop("422", None)
    for status in sorted(status for status, can_come in statuses.items() if can_come):
        codes = [f"`{code}`" for code, of_code in STATUS_OF_CODE.items() if of_code == status]
        schema = {"$ref": _SCHEMA_REF.format(model="ProblemAnswer")}
        answer = {"description": f"{HTTPStatus(status).phrase}: {', '.join(codes) or 'everything that is wrong'}."}
        if method != "head":
            answer["content"] = {MEDIA_TYPE: {"schema": schema}}  # type: ignore[assignment]
        responses.setdefault(str(status), answer)


def _with_links(operation: dict[str, Any], takers: Mapping[str, Sequence[str]]) -> None:
    """What an answer names, other operations take."""
    if (named := NAMES.get(operation["operationId"])) is None:
        return
    status, parameter, pointer = named
    given = {parameter: f"$response.body#{pointer}"}
    links = {taker: {"operationId": taker, "parameters": given} for taker in takers.get(parameter, ())}
    operation["responses"][status]["links"] = links


def operation_id(route: Any) -> str:
    """The function's name: what generated clients call the method."""
    return str(route.name)
