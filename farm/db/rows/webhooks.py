"""Endpoints, and what is on its way to them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from farm.db.rows.base import Row, now, one_of
from farm.domain.webhook import DeliveryStatus


class WebhookEndpointRow(Row):
    """topics: empty for all. Secrets are kept as they are: a signature needs them. old_secret signs until
    old_secret_until, so that receivers can change over."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        CheckConstraint("enabled = (disabled_reason IS NULL)", name="disabled_has_reason"),
        Index("ix_webhook_endpoints_tenant_id_id", "tenant_id", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    url: Mapped[str]
    description: Mapped[str | None]
    topics: Mapped[list[str]]
    secret: Mapped[str]
    old_secret: Mapped[str | None]
    old_secret_until: Mapped[datetime | None]
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    disabled_reason: Mapped[str | None]
    disabled_at: Mapped[datetime | None]
    last_success_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = now()
    updated_at: Mapped[datetime] = now()


class WebhookEventRow(Row):
    """The outbox: written in the transaction of what it tells, where somebody listens. body: the exact text sent."""

    __tablename__ = "webhook_events"

    id: Mapped[str] = mapped_column(primary_key=True)
    topic: Mapped[str]
    body: Mapped[str]
    traceparent: Mapped[str | None]
    at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class WebhookDeliveryRow(Row):
    """An event for an endpoint. due_at: of the next try; a relay that takes it moves due_at to the end of its lease, so
    that a relay's death needs no repair. failures: tries since it was last (re)started, attempts: all of them."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        one_of("status", DeliveryStatus),
        CheckConstraint("(status = 'pending') = (due_at IS NOT NULL)", name="pending_is_due"),
        CheckConstraint("token IS NULL OR status = 'pending'", name="leased_is_pending"),
        UniqueConstraint("endpoint_id", "event_id"),
        Index("ix_webhook_deliveries_endpoint_id_id", "endpoint_id", "id"),
        Index(
            "ix_webhook_deliveries_endpoint_id_due_at",
            "endpoint_id",
            "due_at",
            postgresql_where=text("status = 'pending'"),
        ),
        Index("ix_webhook_deliveries_due_at", "due_at", postgresql_where=text("status = 'pending'")),
        Index("ix_webhook_deliveries_leased", "endpoint_id", postgresql_where=text("token IS NOT NULL")),
        Index("ix_webhook_deliveries_event_id", "event_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    event_id: Mapped[str] = mapped_column(ForeignKey("webhook_events.id", ondelete="CASCADE"))
    topic: Mapped[str]
    status: Mapped[str]
    attempts: Mapped[int] = mapped_column(server_default="0")
    failures: Mapped[int] = mapped_column(server_default="0")
    due_at: Mapped[datetime | None]
    token: Mapped[str | None]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    started_at: Mapped[datetime] = now()
    created_at: Mapped[datetime] = now()
    finished_at: Mapped[datetime | None]


class WebhookTryRow(Row):
    __tablename__ = "webhook_tries"

    delivery_id: Mapped[str] = mapped_column(ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[int | None]
    error: Mapped[str | None]
    seconds: Mapped[float]
    answer: Mapped[str]
    at: Mapped[datetime] = now()
