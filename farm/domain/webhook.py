"""Webhooks: what is told to whom, how a message is signed (Standard Webhooks), and when a failed one is tried again.

The specification: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final


class Topic(StrEnum):
    """The kinds of events, `type` in a message's body."""

    BATCH_COMPLETED = "batch.completed"
    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    RUN_COMPLETED = "training_run.completed"
    RUN_ALERT = "training_run.alert"
    MODEL_PROMOTED = "model.promoted"
    CANARY_STOPPED = "model.canary_stopped"
    PING = "ping"


OFFERED: Final = tuple(topic for topic in Topic if topic is not Topic.PING)
"""What an endpoint can ask for; a ping is sent to one endpoint by request."""


class DeliveryStatus(StrEnum):
    """skipped: the endpoint was disabled when the event happened or before it was delivered; a replay sends it."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class EndpointView:
    """topics: what it asked for, empty for everything. Secrets are not shown."""

    id: str
    tenant_id: str
    url: str
    description: str | None
    topics: tuple[str, ...]
    enabled: bool
    disabled_reason: str | None
    disabled_at: datetime | None
    old_secret_until: datetime | None
    last_success_at: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class DeliveryView:
    """One event for one endpoint; `id` is its webhook-id. due_at: when it is tried next. last_*: of the newest try."""

    id: str
    endpoint_id: str
    event_id: str
    topic: str
    status: DeliveryStatus
    attempts: int
    due_at: datetime | None
    last_status: int | None
    last_error: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class TryView:
    """One request. status None: no answer, and `error` says why. answer: the first bytes of the answer's body."""

    number: int
    at: datetime
    status: int | None
    error: str | None
    seconds: float
    answer: str


@dataclass(frozen=True)
class Message:
    """A due delivery, leased with `token`: send it, then record what came of it."""

    id: str
    endpoint_id: str
    token: str
    number: int
    url: str
    body: str
    at: int = 0
    secrets: Sequence[str] = field(default=(), repr=False)
    traceparent: str | None = None


# --- signing -----------------------------------------------------------------------------------------------------

SECRET_PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32


def secret_text(key: bytes) -> str:
    return SECRET_PREFIX + base64.b64encode(key).decode()


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, keyed by what `secret` (whsec_…) encodes."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def headers(message: Message) -> Mapping[str, str]:
    """Of a message's request; during a rotation it is signed with both secrets."""
    body = message.body.encode()
    return {
        "Content-Type": "application/json",
        "webhook-id": message.id,
        "webhook-timestamp": str(message.at),
        "webhook-signature": " ".join(signature(secret, message.id, message.at, body) for secret in message.secrets),
    }


# --- when to try again ---------------------------------------------------------------------------------------------

PAUSES_S: Final = (5, 30, 300, 1800, 7200, 18_000, 36_000, 50_400, 64_800, 79_200)
"""After the first try, the second, …: eleven tries in three days."""
JITTER: Final = 0.2
LONGEST_WISH_S: Final = 86_400.0
GONE: Final = 410


@dataclass(frozen=True)
class Delivered:
    pass


@dataclass(frozen=True)
class TryAgain:
    after_s: float


@dataclass(frozen=True)
class GiveUp:
    """disables: the endpoint said that it is gone for good."""

    reason: str
    disables: bool


def judge(
    status: int | None, failures: int, dice: float, retry_after_s: float | None = None
) -> Delivered | TryAgain | GiveUp:
    """What follows a try that was answered with `status` (None: not at all), the `failures`th in a row if it failed.

    2xx delivers. 410 ends the endpoint. Everything else, redirects included, is tried again on the schedule, spread by
    `dice` in [0, 1), or later where the receiver asked for it (Retry-After, up to a day).
    """
    if status is not None and 200 <= status < 300:
        return Delivered()
    if status == GONE:
        return GiveUp("the receiver answered 410 Gone", disables=True)
    if failures > len(PAUSES_S):
        return GiveUp(f"{failures} tries over three days failed", disables=False)
    pause = PAUSES_S[failures - 1] * (1 - JITTER + 2 * JITTER * dice)
    return TryAgain(max(pause, min(retry_after_s or 0.0, LONGEST_WISH_S)))
