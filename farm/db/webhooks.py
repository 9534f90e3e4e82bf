"""Webhook endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from farm.db import cursor as cursors
from farm.db.rows import WebhookEndpointRow
from farm.db.session import Session
from farm.domain.views import Page
from farm.domain.webhook import EndpointView


def add(session: Session, **values: Any) -> None:
    session.execute(insert(WebhookEndpointRow).values(**values))


def count(session: Session, tenant_id: str) -> int:
    query = select(func.count()).select_from(WebhookEndpointRow).where(WebhookEndpointRow.tenant_id == tenant_id)
    return session.scalars(query).one()


def get(session: Session, tenant_id: str, endpoint_id: str) -> EndpointView | None:
    views = _views(session, tenant_id, WebhookEndpointRow.id == endpoint_id)
    return views[0] if views else None


def page(session: Session, tenant_id: str, *, cursor: str | None = None, page_size: int = 100) -> Page[EndpointView]:
    """Newest first. Rejected("cursor_invalid")."""
    conditions = []
    if cursor is not None:
        conditions.append(WebhookEndpointRow.id < str(cursors.decode("webhooks", cursor)))
    found = _views(session, tenant_id, *conditions, limit=cursors.limit(page_size))
    return cursors.page(found, page_size, "webhooks", lambda view: view.id)


def lock(session: Session, tenant_id: str, endpoint_id: str) -> bool:
    """Lock a tenant's endpoint; its deliveries are locked after it, everywhere. False when there is none."""
    query = (
        select(WebhookEndpointRow.id)
        .where(WebhookEndpointRow.tenant_id == tenant_id, WebhookEndpointRow.id == endpoint_id)
        .with_for_update(key_share=True)
    )
    return session.scalar(query) is not None


def change(session: Session, endpoint_id: str, **values: Any) -> None:
    session.execute(
        update(WebhookEndpointRow)
        .where(WebhookEndpointRow.id == endpoint_id)
        .values(updated_at=func.now(), **values)
        .execution_options(synchronize_session=False)
    )


def note_success(session: Session, endpoint_id: str) -> None:
    session.execute(
        update(WebhookEndpointRow)
        .where(WebhookEndpointRow.id == endpoint_id)
        .values(last_success_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )


def disable(session: Session, endpoint_id: str, reason: str) -> None:
    change(session, endpoint_id, enabled=False, disabled_reason=reason, disabled_at=func.now())


def enable(session: Session, endpoint_id: str) -> None:
    change(session, endpoint_id, enabled=True, disabled_reason=None, disabled_at=None)


def current_secret(session: Session, endpoint_id: str) -> str:
    return session.scalars(select(WebhookEndpointRow.secret).where(WebhookEndpointRow.id == endpoint_id)).one()


def remove(session: Session, tenant_id: str, endpoint_id: str) -> bool:
    """With its deliveries. False when the tenant has no such endpoint."""
    gone = (
        delete(WebhookEndpointRow)
        .where(WebhookEndpointRow.tenant_id == tenant_id, WebhookEndpointRow.id == endpoint_id)
        .returning(WebhookEndpointRow.id)
    )
    return session.scalar(gone, execution_options={"synchronize_session": False}) is not None


def _views(session: Session, tenant_id: str, *conditions: Any, limit: int | None = None) -> Sequence[EndpointView]:
    query = (
        select(WebhookEndpointRow)
        .where(WebhookEndpointRow.tenant_id == tenant_id, *conditions)
        .order_by(WebhookEndpointRow.id.desc())
        .limit(limit)
        .execution_options(populate_existing=True)
    )
    return [
        EndpointView(
            id=row.id,
            tenant_id=row.tenant_id,
            url=row.url,
            description=row.description,
            topics=tuple(row.topics),
            enabled=row.enabled,
            disabled_reason=row.disabled_reason,
            disabled_at=row.disabled_at,
            old_secret_until=row.old_secret_until,
            last_success_at=row.last_success_at,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
        for row in session.scalars(query)
    ]
