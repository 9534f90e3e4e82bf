"""The OpenAPI 3.1 document: FastAPI's own, with our errors and with the batch body that we read ourselves."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
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
    for path, operations in made["paths"].items():
        for operation in operations.values():
            _with_problems(operation, needs_key=path.startswith("/v1/"))
    app.openapi_schema = made
    return made


def _with_problems(operation: dict[str, Any], *, needs_key: bool) -> None:
    problem = {"content": {MEDIA_TYPE: {"schema": {"$ref": _SCHEMA_REF.format(model="ProblemAnswer")}}}}
    responses: dict[str, Any] = operation["responses"]
    responses.pop("422", None)
    if needs_key:
        responses["401"] = {"description": "No key, or not a valid one.", **problem}
        responses["403"] = {"description": "The key lacks the scope.", **problem}
    if "{" in str(operation.get("operationId")) or any(p["in"] == "path" for p in operation.get("parameters", ())):
        responses["404"] = {"description": "Nothing of yours has this id.", **problem}
    if "requestBody" in operation or operation.get("parameters"):
        responses["422"] = {"description": "Everything that is wrong with the request.", **problem}
    codes = ", ".join(f"`{code}` {status}" for code, status in sorted(STATUS_OF_CODE.items(), key=lambda pair: pair[1]))
    responses["default"] = {"description": f"A problem. Codes with their own status: {codes}; others 422.", **problem}


def operation_id(route: Any) -> str:
    """The function's name: what generated clients call the method."""
    return str(route.name)
