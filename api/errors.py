"""RFC 9457 problems: every answer that is not a success has this one shape."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from farm.errors import Problem, Rejected, Transient

log = structlog.get_logger("api")

MEDIA_TYPE: Final = "application/problem+json"
TYPE_URN: Final = "urn:dubfarm:error:"
MOST_ERRORS: Final = 1000
"""Of a batch with more mistakes than this the first ones are listed; `detail` says how many there are."""

# The status that a code stands for; any other code of a Rejected is a 422.
STATUS_OF_CODE: Final[Mapping[str, int]] = {
    "malformed_json": 400,
    "idempotency_key_invalid": 400,
    "last_event_id_invalid": 400,
    "if_match_invalid": 400,
    "key_missing": 401,
    "key_invalid": 401,
    "scope_missing": 403,
    "operator_only": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "idempotency_in_flight": 409,
    "output_not_ready": 409,
    "preview_not_ready": 409,
    "asset_already_complete": 409,
    "batch_ended": 409,
    "job_not_retryable": 409,
    "nothing_to_retry": 409,
    "nothing_to_roll_back": 409,
    "nothing_to_compare": 409,
    "gate_refused": 409,
    "version_unusable": 409,
    "alias_moved": 412,
    "version_name_taken": 409,
    "key_shown_once": 409,
    "secret_shown_once": 409,
    "endpoint_disabled": 409,
    "too_many_endpoints": 409,
    "tenant_name_taken": 409,
    "quota_exceeded": 409,
    "batch_canceling": 409,
    "batch_not_ended": 409,
    "run_ended": 409,
    "run_canceling": 409,
    "run_open": 409,
    "job_not_ended": 409,
    "no_source_video": 409,
    "asset_in_use": 409,
    "output_expired": 410,
    "output_deleted": 410,
    "preview_expired": 410,
    "asset_too_large": 413,
    "body_too_large": 413,
    "content_type_unsupported": 415,
    "range_not_satisfiable": 416,
    "rate_limited": 429,
    "internal": 500,
    "unavailable": 503,
}
RETRYABLE: Final = frozenset(
    {"idempotency_in_flight", "output_not_ready", "preview_not_ready", "rate_limited", "unavailable"}
)
CODE_OF_STATUS: Final[Mapping[int, str]] = {
    401: "key_invalid",
    403: "scope_missing",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "content_type_unsupported",
    416: "range_not_satisfiable",
    503: "unavailable",
}


class ApiProblem(HTTPException):
    """Raised anywhere below a route, or by the middleware while a body is read, to answer with this problem."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        problems: Sequence[Problem] = (),
    ) -> None:
        super().__init__(status or STATUS_OF_CODE.get(code, 422), detail, dict(headers or {}))
        self.code = code
        self.problems = tuple(problems)


def not_found(what: str, id: str) -> ApiProblem:
    """Also the answer for what belongs to another tenant: ids of others are not confirmed."""
    return ApiProblem("not_found", f"no {what} {id}")


def problem_body(
    code: str, detail: str, status: int, instance: str, request_id: str, problems: Sequence[Problem] = ()
) -> dict[str, Any]:
    return {
        "type": TYPE_URN + code,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": instance,
        "code": code,
        "retryable": code in RETRYABLE or status >= 500,
        "request_id": request_id,
        "errors": [{"pointer": p.pointer, "code": p.code, "detail": p.detail} for p in problems],
    }


def response(
    request: Request,
    code: str,
    detail: str,
    status: int,
    problems: Sequence[Problem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    request_id = request.scope.get("request_id", "")
    body = problem_body(code, detail, status, request.url.path, request_id, problems)
    return Response(json.dumps(body), status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def pointer(loc: Sequence[int | str]) -> str:
    """The JSON pointer (RFC 6901) of a pydantic location. Parts that start with # name the branch of a union."""
    parts = [str(part) for part in loc if not (isinstance(part, str) and part.startswith("#"))]
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


def problems_of(errors: Sequence[Mapping[str, Any]], prefix: str = "") -> tuple[Problem, ...]:
    """pydantic's error dicts as problems; `prefix` is the pointer of the validated value."""
    return tuple(Problem(_code(error), _detail(error), prefix + pointer(error["loc"])) for error in errors)


_CODE_OF_TYPE: Final[Mapping[str, str]] = {
    "extra_forbidden": "field_unknown",
    "missing": "field_missing",
    "literal_error": "value_not_offered",
    "enum": "value_not_offered",
    "string_pattern_mismatch": "format_wrong",
    "greater_than": "out_of_range",
    "greater_than_equal": "out_of_range",
    "less_than": "out_of_range",
    "less_than_equal": "out_of_range",
    "finite_number": "out_of_range",
    "string_too_short": "length_wrong",
    "string_too_long": "length_wrong",
    "too_short": "length_wrong",
    "too_long": "length_wrong",
    "timezone_aware": "format_wrong",
}


def _code(error: Mapping[str, Any]) -> str:
    """The documented code of a pydantic error type. Our own types (PydanticCustomError) already are codes."""
    kind = error["type"]
    if kind in _CODE_OF_TYPE:
        return _CODE_OF_TYPE[kind]
    if kind.startswith(("datetime_", "timezone_")) or kind.endswith("_parsing"):
        return "format_wrong"
    return "type_wrong" if kind.endswith("_type") else kind


def _detail(error: Mapping[str, Any]) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        return f"no field of this name: {error['loc'][-1]}"
    if kind == "missing":
        return "this field is required"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return "an object is expected here"
    return str(error["msg"]).replace("Input should be", "this should be")


def invalid(problems: Sequence[Problem]) -> ApiProblem:
    """422 with everything that is wrong."""
    count = len(problems)
    shown = tuple(problems[:MOST_ERRORS])
    detail = f"{count} thing{'s' if count != 1 else ''} wrong"
    if count > len(shown):
        detail += f"; the first {len(shown)} are listed"
    return ApiProblem("invalid", detail, problems=shown)


def of_rejected(error: Rejected) -> ApiProblem:
    """A verb's refusal as an answer: one refusal speaks for itself, several become `invalid`."""
    located = [p for p in error.problems if p.pointer or p.code != error.code]
    if error.code not in STATUS_OF_CODE and (len(error.problems) > 1 or error.code == "invalid"):
        return invalid(error.problems)
    headers = {"Retry-After": "1"} if error.code in RETRYABLE else None
    return ApiProblem(error.code, error.detail, problems=located, headers=headers)


def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error, ApiProblem):
        return response(request, error.code, str(error.detail), error.status_code, error.problems, error.headers)
    code = CODE_OF_STATUS.get(error.status_code, "malformed_json" if error.status_code == 400 else "internal")
    detail = {
        404: f"nothing at {request.url.path}",
        405: f"{request.method} is not offered at {request.url.path}",
    }.get(error.status_code, str(error.detail))
    headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
    return response(request, code, detail, error.status_code, (), headers)


def _allowed(request: Request) -> str:
    """Every method of this path: each is a route of its own, and the framework names the first one's."""
    asked = request.url.path.split("/")
    found: set[str] = set()
    for path, operations in request.app.openapi()["paths"].items():
        parts = path.split("/")
        if len(parts) == len(asked) and all(p == a or p.startswith("{") for p, a in zip(parts, asked, strict=True)):
            found |= {method.upper() for method in operations}
    return ", ".join(sorted(found))


def _on_validation(request: Request, error: Exception) -> Response:
    """FastAPI's own validation of path, query, header and small bodies. Body pointers start at the body's root."""
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    if any(e["type"] == "json_invalid" for e in errors):
        first = errors[0]
        detail = f"the body is not JSON: {first.get('ctx', {}).get('error', first['msg'])} at byte {first['loc'][-1]}"
        return response(request, "malformed_json", detail, 400)
    problems: list[Problem] = []
    for e in errors:
        where, rest = e["loc"][0], e["loc"][1:]
        problems += problems_of([{**e, "loc": rest}], "" if where == "body" else f"/{where}")
    answer = invalid(problems)
    return response(request, answer.code, str(answer.detail), answer.status_code, answer.problems)


def _on_rejected(request: Request, error: Exception) -> Response:
    assert isinstance(error, Rejected)
    return _on_http(request, of_rejected(error))


def _on_transient(request: Request, error: Exception) -> Response:
    assert isinstance(error, Transient)
    log.warning("unavailable", code=error.code, detail=error.detail)
    request.scope["database_away"] = error.code == "database_unavailable"  # api.again
    return response(request, "unavailable", error.detail, 503, headers={"Retry-After": "2"})


def install(app: FastAPI) -> None:
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(Rejected, _on_rejected)
    app.add_exception_handler(Transient, _on_transient)
