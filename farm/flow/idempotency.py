"""Idempotency keys: a creating request that is repeated gets the first answer again.

Call `begin` first and `finish` last in the transaction that creates. The answer is stored by the commit that stores
what was created, so neither exists without the other, and a killed request leaves nothing in flight.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from farm.db import idempotency
from farm.db.session import Session
from farm.errors import Rejected

KEPT_S: Final = 48 * 3600.0


@dataclass(frozen=True)
class Answer:
    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)


def request_sha256(method: str, path: str, body: bytes) -> str:
    """Hex digest that tells one request from another under the same key."""
    return hashlib.sha256(b"\0".join([method.upper().encode(), path.encode(), body])).hexdigest()


def begin(session: Session, tenant_id: str, key: str, request: str) -> Answer | None:
    """None: go on. An Answer: the same request was answered before, replay it.

    Raises Rejected("idempotency_in_flight") (409) while another request with this key runs, and
    Rejected("idempotency_mismatch") (422) when the key was used for another request.
    """
    if not idempotency.try_lock(session, tenant_id, key):
        raise Rejected("idempotency_in_flight", "a request with this Idempotency-Key is being answered; try again soon")
    found = idempotency.find(session, tenant_id, key)
    if found is None:
        return None
    stored, status, body, headers = found
    if stored != request:
        raise Rejected("idempotency_mismatch", "this Idempotency-Key was used for another request")
    return Answer(status, body, headers)


def finish(session: Session, tenant_id: str, key: str, request: str, answer: Answer) -> None:
    """Store the answer in the caller's transaction."""
    idempotency.add(session, tenant_id, key, request, answer.status, answer.body, answer.headers)


def forget(session: Session, older_than_s: float = KEPT_S) -> None:
    """Drop answers older than promised (24 h or longer)."""
    idempotency.forget(session, older_than_s)
