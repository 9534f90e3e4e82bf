"""Webhook endpoints: made, changed, removed, their secrets rotated, their deliveries repeated. Each is audited."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from farm.db import ledger, outbox, webhooks
from farm.db.outbox import Listener
from farm.db.session import Session
from farm.domain.audit import Action
from farm.domain.ids import new_id
from farm.domain.limits import InputLimits
from farm.domain.tenant import FARM, Actor
from farm.domain.webhook import SECRET_BYTES, DeliveryStatus, EndpointView, Topic, secret_text
from farm.errors import Rejected
from farm.flow import audit, notify
from farm.storage import fetch

MOST_ENDPOINTS: Final = 50
BY_REQUEST: Final = "disabled by request"
REPLAYED: Final = (DeliveryStatus.FAILED, DeliveryStatus.SKIPPED)
"""What a replay since a time sends again; with `delivered`, those too."""


def check_url(url: str, limits: InputLimits) -> None:
    """What the text of a url has against it, at /url; its addresses are looked at when it is called."""
    try:
        target = fetch.check_uri(url, limits)
    except Rejected as error:
        raise Rejected(error.code, error.detail, pointer="/url") from None
    if target.scheme not in ("https", "http"):
        raise Rejected("uri_scheme_refused", "a webhook goes to https", pointer="/url")


def create(
    session: Session,
    tenant_id: str,
    url: str,
    topics: Sequence[Topic],
    description: str | None,
    limits: InputLimits,
    *,
    actor: Actor = FARM,
) -> tuple[EndpointView, str]:
    """An endpoint and its secret, which is shown nowhere else. topics: empty for all.

    Rejected: the codes of farm.storage.guard at /url, too_many_endpoints.
    """
    check_url(url, limits)
    if webhooks.count(session, tenant_id) >= MOST_ENDPOINTS:
        raise Rejected("too_many_endpoints", f"a tenant has at most {MOST_ENDPOINTS} webhook endpoints")
    endpoint_id, secret = new_id("whe"), _new_secret()
    wanted = sorted({Topic(topic).value for topic in topics})
    webhooks.add(
        session,
        id=endpoint_id,
        tenant_id=tenant_id,
        url=url,
        description=description,
        topics=wanted,
        secret=secret,
    )
    detail = {"url": url, "events": wanted}
    audit.record(session, actor, Action.WEBHOOK_CREATED, endpoint_id, detail, tenant_id=tenant_id)
    return _view(session, tenant_id, endpoint_id), secret


def change(
    session: Session,
    tenant_id: str,
    endpoint_id: str,
    limits: InputLimits,
    *,
    actor: Actor = FARM,
    enabled: bool | None = None,
    **values: Any,
) -> EndpointView:
    """Change url, description, topics; disable or enable. What is pending while it is disabled is skipped.
    Rejected("not_found") and the codes of farm.storage.guard."""
    _lock(session, tenant_id, endpoint_id)
    if "url" in values:
        check_url(values["url"], limits)
    if "topics" in values:
        values["topics"] = sorted({Topic(topic).value for topic in values["topics"]})
    if values:
        webhooks.change(session, endpoint_id, **values)
    was = _view(session, tenant_id, endpoint_id).enabled
    if enabled is True and not was:
        webhooks.enable(session, endpoint_id)
    elif enabled is False and was:
        webhooks.disable(session, endpoint_id, BY_REQUEST)
        outbox.skip_pending(session, endpoint_id)
    detail = {("events" if name == "topics" else name): value for name, value in values.items()}
    if enabled is not None:
        detail["enabled"] = enabled
    audit.record(session, actor, Action.WEBHOOK_CHANGED, endpoint_id, detail, tenant_id=tenant_id)
    return _view(session, tenant_id, endpoint_id)


def delete(session: Session, tenant_id: str, endpoint_id: str, *, actor: Actor = FARM) -> None:
    """With its delivery log. Rejected("not_found")."""
    if not webhooks.remove(session, tenant_id, endpoint_id):
        raise _unknown(endpoint_id)
    audit.record(session, actor, Action.WEBHOOK_DELETED, endpoint_id, tenant_id=tenant_id)


def rotate_secret(
    session: Session, tenant_id: str, endpoint_id: str, overlap_s: float, *, actor: Actor = FARM
) -> tuple[EndpointView, str]:
    """A new secret. Messages are signed with the old one too for `overlap_s` more seconds. Rejected("not_found")."""
    _lock(session, tenant_id, endpoint_id)
    secret = _new_secret()
    old = webhooks.current_secret(session, endpoint_id) if overlap_s > 0 else None
    until = ledger.seconds_from_now(overlap_s) if overlap_s > 0 else None
    webhooks.change(session, endpoint_id, secret=secret, old_secret=old, old_secret_until=until)
    audit.record(session, actor, Action.WEBHOOK_ROTATED, endpoint_id, {"overlap_s": overlap_s}, tenant_id=tenant_id)
    return _view(session, tenant_id, endpoint_id), secret


def ping(session: Session, tenant_id: str, endpoint_id: str) -> str:
    """Send a `ping` event to this endpoint alone; the delivery's id. Rejected("not_found", "endpoint_disabled")."""
    _lock(session, tenant_id, endpoint_id)
    _enabled(_view(session, tenant_id, endpoint_id))
    listener = Listener(endpoint_id, tenant_id, enabled=True)
    (delivery_id,) = notify.tell(session, Topic.PING, {"endpoint_id": endpoint_id}, [listener])
    return delivery_id


def replay(session: Session, tenant_id: str, endpoint_id: str, delivery_id: str, *, actor: Actor = FARM) -> None:
    """Send one message again, whatever became of it, under its old id. Rejected("not_found", "endpoint_disabled")."""
    _lock(session, tenant_id, endpoint_id)
    _enabled(_view(session, tenant_id, endpoint_id))
    if not outbox.restart(session, endpoint_id, delivery_id=delivery_id, statuses=tuple(DeliveryStatus)):
        raise Rejected("not_found", f"there is no delivery {delivery_id}")
    audit.record(session, actor, Action.WEBHOOK_REPLAYED, endpoint_id, {"delivery": delivery_id}, tenant_id=tenant_id)


def replay_since(
    session: Session, tenant_id: str, endpoint_id: str, since: datetime, *, delivered: bool, actor: Actor = FARM
) -> int:
    """Send everything since a time again that failed or was skipped (with `delivered`: that arrived, too); how many.
    Rejected("not_found", "endpoint_disabled")."""
    _lock(session, tenant_id, endpoint_id)
    _enabled(_view(session, tenant_id, endpoint_id))
    statuses = (*REPLAYED, DeliveryStatus.DELIVERED) if delivered else REPLAYED
    count = outbox.restart(session, endpoint_id, since=since, statuses=statuses)
    detail = {"since": since.isoformat(), "delivered": delivered, "deliveries": count}
    audit.record(session, actor, Action.WEBHOOK_REPLAYED, endpoint_id, detail, tenant_id=tenant_id)
    return count


def _enabled(endpoint: EndpointView) -> None:
    if not endpoint.enabled:
        raise Rejected("endpoint_disabled", f"this endpoint is disabled ({endpoint.disabled_reason}); enable it first")


def _new_secret() -> str:
    return secret_text(secrets.token_bytes(SECRET_BYTES))


def _lock(session: Session, tenant_id: str, endpoint_id: str) -> None:
    if not webhooks.lock(session, tenant_id, endpoint_id):
        raise _unknown(endpoint_id)


def _view(session: Session, tenant_id: str, endpoint_id: str) -> EndpointView:
    view = webhooks.get(session, tenant_id, endpoint_id)
    if view is None:
        raise _unknown(endpoint_id)
    return view


def _unknown(endpoint_id: str) -> Rejected:
    return Rejected("not_found", f"there is no webhook endpoint {endpoint_id}")
