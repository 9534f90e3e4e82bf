"""What happened is told to webhook endpoints: an outbox row in the transaction of the change, then tries until it is
delivered or given up. Sending itself is between transactions (workers.relay)."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any, Final

from farm import trace
from farm.db import batches, jobs, outbox, tenants, webhooks
from farm.db.ledger import database_time
from farm.db.outbox import Listener
from farm.db.session import Session
from farm.domain import public
from farm.domain.audit import Action
from farm.domain.ids import new_id
from farm.domain.tenant import FARM
from farm.domain.webhook import Delivered, DeliveryStatus, GiveUp, Message, Topic, TryAgain, judge
from farm.flow import audit

KEPT_S: Final = 30 * 86_400.0
"""Delivered and given-up events are kept so long, for the log and for replays."""


def announce(
    session: Session, topic: Topic, data: Mapping[str, Any] | Callable[[], Mapping[str, Any]], tenant_id: str | None
) -> None:
    """Write an event for every endpoint that wants it. data: its fields, or what makes them (asked only where somebody
    listens). tenant_id None: it concerns all tenants. Must be in the transaction of what it tells."""
    found = outbox.listeners(session, topic, tenant_id)
    if found:
        tell(session, topic, data() if callable(data) else data, found)


def tell_operators(session: Session, topic: Topic, data: Callable[[], Mapping[str, Any]]) -> None:
    """The same for what concerns those who run the farm, and nobody else."""
    for tenant_id in tenants.operators(session):
        announce(session, topic, data, tenant_id)


def tell(session: Session, topic: Topic, data: Mapping[str, Any], found: list[Listener]) -> list[str]:
    """Write the event and its deliveries; their ids."""
    body = {"type": topic.value, "timestamp": database_time(session).astimezone(UTC), "data": data}
    event_id, ids = new_id("evt"), [new_id("whd") for _ in found]
    text = json.dumps(public.in_json(body), separators=(",", ":"))
    outbox.add_event(session, event_id, topic, text, trace.traceparent())
    outbox.add_deliveries(session, event_id, topic, found, ids)
    return ids


def job_ended(session: Session, tenant_id: str, batch_id: str, job_id: str, topic: Topic) -> None:
    def data() -> dict[str, Any]:
        view = jobs.get(session, tenant_id, job_id)
        assert view is not None
        return {"batch_id": batch_id, "job_id": job_id, "job": public.job(view)}

    announce(session, topic, data, tenant_id)


def batch_completed(session: Session, tenant_id: str, batch_id: str) -> None:
    def data() -> dict[str, Any]:
        view = batches.get(session, tenant_id, batch_id)
        assert view is not None
        return {"batch_id": batch_id, "batch": public.batch(view)}

    announce(session, Topic.BATCH_COMPLETED, data, tenant_id)


# --- the relay's verbs -------------------------------------------------------------------------------------------


def take(session: Session, limit: int, lease_s: float) -> list[Message]:
    """Lease due messages to send. What is not recorded within `lease_s` falls due again."""
    return outbox.take(session, limit, lease_s, secrets.token_hex(16))


def record(
    session: Session,
    message: Message,
    *,
    status: int | None,
    error: str | None,
    seconds: float,
    answer: str,
    retry_after_s: float | None,
    dice: float,
) -> DeliveryStatus | None:
    """Log a try and decide what follows; None where the lease was over and another relay has the message.

    The end of the schedule disables an endpoint that has taken no other message since this one started.
    """
    outbox.log_try(session, message, status=status, error=error, seconds=seconds, answer=answer)
    held = outbox.held(session, message)
    if held is None:
        return None
    last = {"last_status": status, "last_error": error}
    decision = judge(status, held.failures + 1, dice, retry_after_s)
    if isinstance(decision, Delivered):
        outbox.finish(session, message, DeliveryStatus.DELIVERED, **last)
        webhooks.note_success(session, message.endpoint_id)
        return DeliveryStatus.DELIVERED
    if isinstance(decision, TryAgain):
        outbox.put_back(session, message, decision.after_s, **last)
        return DeliveryStatus.PENDING
    outbox.finish(session, message, DeliveryStatus.FAILED, **last)
    if decision.disables or not held.alive:
        _disable(session, held.tenant_id, message, decision, error or f"HTTP {status}")
    return DeliveryStatus.FAILED


def _disable(session: Session, tenant_id: str, message: Message, why: GiveUp, last: str) -> None:
    reason = why.reason if why.disables else f"{why.reason}; last: {last}"
    webhooks.disable(session, message.endpoint_id, reason)
    skipped = outbox.skip_pending(session, message.endpoint_id)
    detail = {"reason": reason, "delivery": message.id, "skipped": skipped}
    audit.record(session, FARM, Action.WEBHOOK_DISABLED, message.endpoint_id, detail, tenant_id=tenant_id)


def forget(session: Session) -> int:
    """Drop old events; how many (call again while it is many)."""
    return outbox.forget(session, KEPT_S)
