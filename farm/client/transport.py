"""HTTP with safe retries: connection errors, 429 and 5xx, only where repeating cannot do a thing twice."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import httpx

from farm.client.answers import FieldError

RETRIED: Final = frozenset({429, 500, 502, 503, 504})
LONGEST_PAUSE_S: Final = 30.0


class ApiError(Exception):
    """The API refused: the fields of its RFC 9457 problem. status 0 never occurs; see Unreachable."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        title: str = "",
        retryable: bool = False,
        request_id: str | None = None,
        errors: tuple[FieldError, ...] = (),
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.title = title
        self.retryable = retryable
        self.request_id = request_id
        self.errors = errors

    @staticmethod
    def of(response: httpx.Response) -> ApiError:
        """From a response whose body has been read."""
        try:
            problem = response.json()
            errors = tuple(FieldError(e["pointer"], e["code"], e["detail"]) for e in problem.get("errors", ()))
            return ApiError(
                response.status_code,
                problem["code"],
                problem.get("detail", ""),
                title=problem.get("title", ""),
                retryable=bool(problem.get("retryable")),
                request_id=problem.get("request_id"),
                errors=errors,
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            # Something between the client and the API answered.
            return ApiError(
                response.status_code,
                "http_error",
                response.text[:200],
                title=response.reason_phrase,
                retryable=response.status_code in RETRIED,
            )


class Unreachable(Exception):
    """No answer from the farm, after all retries."""


class Transport:
    """One httpx client with the key. `retries` is how often a safe request is repeated."""

    def __init__(self, base_url: str, key: str | None, timeout_s: float, retries: int) -> None:
        self.base_url = base_url.rstrip("/")
        self.retries = retries
        headers = {"User-Agent": "dubfarm-client"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self.http = httpx.Client(base_url=self.base_url, headers=headers, timeout=timeout_s)

    def close(self) -> None:
        self.http.close()

    def json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: object = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        safe: bool = True,
    ) -> Any:
        """The decoded answer, None for an empty one. `safe`: the request may be repeated."""
        headers = {**(headers or {}), **({"Idempotency-Key": idempotency_key} if idempotency_key else {})}
        sent = {name: value for name, value in (params or {}).items() if value is not None}
        response = self.request(method, path, params=sent, json=body, headers=headers, safe=safe)
        return response.json() if response.content else None

    def request(self, method: str, path: str, *, safe: bool = True, **arguments: Any) -> httpx.Response:
        if arguments.get("json") is None:
            arguments.pop("json", None)
        for attempt in range(self.retries + 1):
            last = attempt == self.retries or not safe
            try:
                response = self.http.request(method, path, **arguments)
            except httpx.TransportError as error:
                if last:
                    raise Unreachable(f"{self.base_url}: {error or type(error).__name__}") from error
                time.sleep(pause_s(attempt, None))
                continue
            if response.is_success:
                return response
            in_flight = response.status_code == 409 and "retry-after" in response.headers
            if last or not (response.status_code in RETRIED or in_flight):
                raise ApiError.of(response)
            time.sleep(pause_s(attempt, response.headers.get("retry-after")))
        raise AssertionError("unreachable")

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        read_timeout_s: float = 60.0,
        follow_redirects: bool = False,
        accept: tuple[int, ...] = (),
    ) -> Iterator[httpx.Response]:
        """One streamed answer, not retried. Raises ApiError but for success and the statuses in `accept`, and
        httpx.TransportError."""
        timeout = httpx.Timeout(30.0, read=read_timeout_s)
        with self.http.stream(
            method, path, params=params, headers=headers, timeout=timeout, follow_redirects=follow_redirects
        ) as response:
            if not response.is_success and response.status_code not in accept:
                response.read()
                raise ApiError.of(response)
            yield response


def pause_s(attempt: int, retry_after: str | None) -> float:
    """Seconds before the next try: what the server asks for, else doubling from 0.25 s with jitter."""
    if retry_after is not None and retry_after.isdigit():
        return min(LONGEST_PAUSE_S, float(retry_after))
    return min(LONGEST_PAUSE_S, 0.25 * 2**attempt) * (0.5 + 0.5 * random.random())
