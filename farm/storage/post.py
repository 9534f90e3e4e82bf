"""A POST to a url that a user named: one try, to a checked address, bounded in time and in what it reads."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from farm.domain.limits import InputLimits
from farm.errors import Rejected, Transient
from farm.storage import guard
from farm.storage.wire import Connection, Watch

ANSWER_BYTES: Final = 1024
"""So much of an answer's body is kept."""


@dataclass(frozen=True)
class Posted:
    """status None: no answer; `error` says why (a code and words). `answer`: the first bytes of its body."""

    status: int | None
    seconds: float
    answer: str = ""
    error: str | None = None
    retry_after_s: float | None = None


def post(url: str, body: bytes, headers: Mapping[str, str], limits: InputLimits, timeout_s: float) -> Posted:
    """Send `body`; never raises for what the url, the network or the receiver do. Redirects are not followed: their
    status is the answer."""
    started = time.monotonic()
    status: int | None = None
    answer, error, retry_after = "", None, None
    try:
        with Watch(timeout_s) as watch:
            target = guard.check_uri(url, limits)
            if target.scheme not in ("https", "http"):
                raise Rejected("uri_scheme_refused", "a webhook goes to https")
            connection = Connection(target, guard.resolve(target, limits), watch, quiet_s=timeout_s)
            try:
                connection.request("POST", target.path, body, {"User-Agent": "dubfarm", **headers})
                # Its own to close: an answer that ends with the connection has taken the socket over.
                with connection.getresponse() as response:
                    status = response.status
                    retry_after = _seconds(response.headers.get("Retry-After"))
                    answer = _first(response)
            finally:
                connection.close()
    except Rejected as refused:
        error = f"{refused.code}: {refused.detail}"
    except Transient as failed:
        error = str(failed)
    except ssl.SSLError as failed:
        error = f"uri_tls: {getattr(failed, 'verify_message', '') or failed.reason}"
    except (OSError, http.client.HTTPException) as failed:
        late = time.monotonic() - started >= timeout_s
        error = f"timed_out: no answer in {timeout_s:g} s" if late else f"uri_unavailable: {_words(failed)}"
    if status is not None:
        error = None  # it has answered; a body that stalls or breaks off changes nothing
    return Posted(status, time.monotonic() - started, answer, error, retry_after)


def _first(response: http.client.HTTPResponse) -> str:
    taken = b""
    try:
        while len(taken) < ANSWER_BYTES and (part := response.read1(ANSWER_BYTES - len(taken))):
            taken += part
    except (OSError, http.client.HTTPException):
        pass
    return taken.decode("utf-8", "replace").replace("\0", "")


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; its date form is not worth a clock that may differ."""
    return float(header) if header is not None and header.isdecimal() and len(header) < 9 else None


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
