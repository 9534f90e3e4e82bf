"""Idempotency keys: a creating request that is repeated gets the first answer again.

Call `begin` first and `finish` last in the transaction that creates. The answer is stored by the commit that stores
what was created, so neither exists without the other, and a killed request leaves nothing in flight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from farm.db.session import Session


@dataclass(frozen=True)
class Answer:
    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)


def request_sha256(method: str, path: str, body: bytes) -> str:
    """Hex digest that tells one request from another under the same key."""
    raise NotImplementedError


def begin(session: Session, tenant_id: str, key: str, request: str) -> Answer | None:
    """None: go on. An Answer: the same request was answered before, replay it.

    Raises Rejected("idempotency_in_flight") (409) while another request with this key runs, and
    Rejected("idempotency_mismatch") (422) when the key was used for another request.
    """
    raise NotImplementedError


def finish(session: Session, tenant_id: str, key: str, request: str, answer: Answer) -> None:
    """Store the answer in the caller's transaction."""
    raise NotImplementedError
