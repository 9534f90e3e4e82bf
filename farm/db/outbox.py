"""The outbox: events that endpoints are to hear of, their deliveries, and the log of every try.

A delivery is taken by moving its due_at to the end of a lease, under a fresh token: whoever records a result shows the
token, and a relay that died is simply followed by another when the lease is over. Endpoints are locked before their
deliveries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from sqlalchemy import CursorResult, delete, extract, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from farm.db import cursor as cursors
from farm.db.ledger import seconds_from_now
from farm.db.rows import WebhookDeliveryRow, WebhookEndpointRow, WebhookEventRow, WebhookTryRow
from farm.db.session import Session, run
from farm.domain.views import Page
from farm.domain.webhook import DeliveryStatus, DeliveryView, Message, Topic, TryView

AT_ONCE: int = 4
"""So many messages are on their way to one endpoint at the same time: a slow one holds up no other."""

_is_pending = WebhookDeliveryRow.status == DeliveryStatus.PENDING.value


@dataclass(frozen=True)
class Listener:
    endpoint_id: str
    tenant_id: str
    enabled: bool


_LISTENERS: Final = """
select id, tenant_id, enabled from webhook_endpoints
where (topics = '{}' or %(topic)s = any(topics)) and (%(tenant)s::text is null or tenant_id = %(tenant)s::text)
order by id for key share
"""


def listeners(session: Session, topic: Topic, tenant_id: str | None) -> list[Listener]:
    """The endpoints that want a topic, of one tenant or of all; they stay until the end of the transaction."""
    return [Listener(*row) for row in run(session, _LISTENERS, {"topic": topic.value, "tenant": tenant_id})]


def add_event(session: Session, event_id: str, topic: Topic, body: str, traceparent: str | None) -> None:
    values = {"id": event_id, "topic": topic, "body": body, "traceparent": traceparent}
    session.execute(insert(WebhookEventRow).values(**values))


def add_deliveries(
    session: Session, event_id: str, topic: Topic, listeners: Sequence[Listener], ids: Sequence[str]
) -> None:
    rows = [
        {
            "id": delivery_id,
            "tenant_id": listener.tenant_id,
            "endpoint_id": listener.endpoint_id,
            "event_id": event_id,
            "topic": topic,
            "status": DeliveryStatus.PENDING if listener.enabled else DeliveryStatus.SKIPPED,
            "due_at": func.now() if listener.enabled else None,
        }
        for delivery_id, listener in zip(ids, listeners, strict=True)
    ]
    session.execute(insert(WebhookDeliveryRow).values(rows))


# --- the relay ---------------------------------------------------------------------------------------------------


def take(session: Session, limit: int, lease_s: float, token: str) -> list[Message]:
    """Lease up to `limit` due deliveries, the longest due first, at most AT_ONCE an endpoint. Those that another relay
    takes just now are passed over."""
    flying = (
        select(func.count())
        .where(WebhookDeliveryRow.endpoint_id == WebhookEndpointRow.id, WebhookDeliveryRow.token.is_not(None))
        .where(WebhookDeliveryRow.due_at > func.now())
        .correlate(WebhookEndpointRow)
        .scalar_subquery()
    )
    due = (
        select(WebhookDeliveryRow.id, WebhookDeliveryRow.due_at)
        .where(
            WebhookDeliveryRow.endpoint_id == WebhookEndpointRow.id,
            _is_pending,
            WebhookDeliveryRow.due_at <= func.now(),
        )
        .order_by(WebhookDeliveryRow.due_at)
        .limit(func.greatest(0, AT_ONCE - flying))
        .correlate(WebhookEndpointRow)
        .lateral("due")
    )
    first = (
        select(due.c.id)
        .select_from(WebhookEndpointRow)
        .join(due, literal(True))
        .where(WebhookEndpointRow.enabled)
        .order_by(due.c.due_at)
        .limit(limit)
    )
    chosen = (
        select(WebhookDeliveryRow.id)
        .where(WebhookDeliveryRow.id.in_(first), _is_pending, WebhookDeliveryRow.due_at <= func.now())
        .with_for_update(skip_locked=True)
        .cte("chosen")
        .prefix_with("MATERIALIZED")
    )
    changed = (
        update(WebhookDeliveryRow)
        .where(WebhookDeliveryRow.id == chosen.c.id)
        .where(WebhookEventRow.id == WebhookDeliveryRow.event_id)
        .where(WebhookEndpointRow.id == WebhookDeliveryRow.endpoint_id)
        .values(token=token, due_at=seconds_from_now(lease_s), attempts=WebhookDeliveryRow.attempts + 1)
        .returning(
            WebhookDeliveryRow.id,
            WebhookDeliveryRow.endpoint_id,
            WebhookDeliveryRow.attempts,
            WebhookEndpointRow.url,
            WebhookEventRow.body,
            extract("epoch", func.now()),
            WebhookEndpointRow.secret,
            WebhookEndpointRow.old_secret,
            WebhookEndpointRow.old_secret_until > func.now(),
            WebhookEventRow.traceparent,
        )
    )
    rows = session.execute(changed, execution_options={"synchronize_session": False})
    return [
        Message(
            id=id,
            endpoint_id=endpoint_id,
            token=token,
            number=number,
            url=url,
            body=body,
            at=int(at),
            secrets=(secret, old) if old_signs and old else (secret,),
            traceparent=traceparent,
        )
        for id, endpoint_id, number, url, body, at, secret, old, old_signs, traceparent in rows
    ]


@dataclass(frozen=True)
class Held:
    """failures: tries that failed since the delivery was last started, before this one. alive: the endpoint has taken
    another message since then."""

    tenant_id: str
    failures: int
    alive: bool


def held(session: Session, message: Message) -> Held | None:
    """The delivery, its endpoint and then itself locked, where the message's token still holds it."""
    locked = select(WebhookEndpointRow.last_success_at).where(WebhookEndpointRow.id == message.endpoint_id)
    endpoint = session.execute(locked.with_for_update(key_share=True)).one_or_none()
    query = select(WebhookDeliveryRow.tenant_id, WebhookDeliveryRow.failures, WebhookDeliveryRow.started_at).where(
        WebhookDeliveryRow.id == message.id, WebhookDeliveryRow.token == message.token
    )
    row = session.execute(query.with_for_update()).one_or_none()
    if endpoint is None or row is None:
        return None
    alive = endpoint.last_success_at is not None and endpoint.last_success_at > row.started_at
    return Held(row.tenant_id, row.failures, alive)


def log_try(
    session: Session, message: Message, *, status: int | None, error: str | None, seconds: float, answer: str
) -> None:
    """Nothing where the delivery is gone with its endpoint."""
    kept = select(
        WebhookDeliveryRow.id,
        literal(message.number),
        literal(status),
        literal(error),
        literal(seconds),
        literal(answer),
    ).where(WebhookDeliveryRow.id == message.id)
    columns = ["delivery_id", "number", "status", "error", "seconds", "answer"]
    session.execute(upsert(WebhookTryRow).from_select(columns, kept).on_conflict_do_nothing())


def put_back(session: Session, message: Message, after_s: float, **last: Any) -> None:
    _change(
        session,
        message.id,
        due_at=seconds_from_now(after_s),
        token=None,
        failures=WebhookDeliveryRow.failures + 1,
        **last,
    )


def finish(session: Session, message: Message, status: DeliveryStatus, **last: Any) -> None:
    _change(session, message.id, status=status, due_at=None, token=None, finished_at=func.now(), **last)


def _change(session: Session, delivery_id: str, **values: Any) -> None:
    session.execute(
        update(WebhookDeliveryRow)
        .where(WebhookDeliveryRow.id == delivery_id)
        .values(**values)
        .execution_options(synchronize_session=False)
    )


def skip_pending(session: Session, endpoint_id: str) -> int:
    """Of a locked endpoint that is disabled."""
    return _count(
        session,
        update(WebhookDeliveryRow)
        .where(WebhookDeliveryRow.endpoint_id == endpoint_id, _is_pending)
        .values(status=DeliveryStatus.SKIPPED, due_at=None, token=None),
    )


def restart(
    session: Session,
    endpoint_id: str,
    *,
    delivery_id: str | None = None,
    since: datetime | None = None,
    statuses: Sequence[DeliveryStatus],
) -> int:
    """Deliveries of a locked endpoint start over, due now, under their old ids."""
    change = update(WebhookDeliveryRow).where(
        WebhookDeliveryRow.endpoint_id == endpoint_id, WebhookDeliveryRow.status.in_(statuses)
    )
    if delivery_id is not None:
        change = change.where(WebhookDeliveryRow.id == delivery_id)
    if since is not None:
        change = change.where(WebhookDeliveryRow.created_at >= since)
    return _count(
        session,
        change.values(
            status=DeliveryStatus.PENDING,
            due_at=func.now(),
            token=None,
            failures=0,
            started_at=func.now(),
            finished_at=None,
        ),
    )


def forget(session: Session, older_than_s: float, limit: int = 1000) -> int:
    """Drop old events with their deliveries and tries, but for those that are still to be delivered."""
    pending = (
        select(literal(1))
        .where(WebhookDeliveryRow.event_id == WebhookEventRow.id, _is_pending)
        .correlate(WebhookEventRow)
    )
    old = (
        select(WebhookEventRow.id)
        .where(WebhookEventRow.at < seconds_from_now(-older_than_s), ~pending.exists())
        .order_by(WebhookEventRow.at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return _count(session, delete(WebhookEventRow).where(WebhookEventRow.id.in_(old)))


# --- reading -----------------------------------------------------------------------------------------------------


def page(
    session: Session,
    endpoint_id: str,
    *,
    status: DeliveryStatus | None = None,
    topic: Topic | None = None,
    cursor: str | None = None,
    page_size: int = 100,
) -> Page[DeliveryView]:
    """Deliveries of an endpoint, newest first. Rejected("cursor_invalid")."""
    query = select(WebhookDeliveryRow).where(WebhookDeliveryRow.endpoint_id == endpoint_id)
    if status is not None:
        query = query.where(WebhookDeliveryRow.status == status)
    if topic is not None:
        query = query.where(WebhookDeliveryRow.topic == topic)
    if cursor is not None:
        query = query.where(WebhookDeliveryRow.id < str(cursors.decode("deliveries", cursor)))
    query = query.order_by(WebhookDeliveryRow.id.desc()).limit(cursors.limit(page_size))
    rows = session.scalars(query.execution_options(populate_existing=True))
    return cursors.page([_view(row) for row in rows], page_size, "deliveries", lambda view: view.id)


def get(session: Session, endpoint_id: str, delivery_id: str) -> tuple[DeliveryView, str] | None:
    """A delivery and the body that it sends."""
    query = (
        select(WebhookDeliveryRow, WebhookEventRow.body)
        .join(WebhookEventRow, WebhookEventRow.id == WebhookDeliveryRow.event_id)
        .where(WebhookDeliveryRow.endpoint_id == endpoint_id, WebhookDeliveryRow.id == delivery_id)
        .execution_options(populate_existing=True)
    )
    row = session.execute(query).one_or_none()
    return None if row is None else (_view(row[0]), row[1])


def tries(session: Session, delivery_id: str) -> tuple[TryView, ...]:
    query = select(WebhookTryRow).where(WebhookTryRow.delivery_id == delivery_id).order_by(WebhookTryRow.number)
    return tuple(
        TryView(row.number, row.at, row.status, row.error, row.seconds, row.answer) for row in session.scalars(query)
    )


def lag(session: Session) -> Mapping[str, float]:
    """pending: deliveries to do, counted up to 100,000; overdue_s: how long the oldest due one waits."""
    due = select(func.min(WebhookDeliveryRow.due_at)).where(_is_pending).scalar_subquery()
    late = func.coalesce(func.greatest(0.0, extract("epoch", func.now() - due)), 0.0)
    some = select(WebhookDeliveryRow.id).where(_is_pending).limit(100_000).subquery()
    pending = select(func.count()).select_from(some).scalar_subquery()
    count, seconds = session.execute(select(pending, late)).one()
    return {"pending": float(count), "overdue_s": float(seconds)}


def _view(row: WebhookDeliveryRow) -> DeliveryView:
    return DeliveryView(
        id=row.id,
        endpoint_id=row.endpoint_id,
        event_id=row.event_id,
        topic=row.topic,
        status=DeliveryStatus(row.status),
        attempts=row.attempts,
        due_at=row.due_at,
        last_status=row.last_status,
        last_error=row.last_error,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


def _count(session: Session, statement: Any) -> int:
    result = cast("CursorResult[Any]", session.execute(statement, execution_options={"synchronize_session": False}))
    return result.rowcount
