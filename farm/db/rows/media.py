"""Users' files, who needs them, and what may be learned from them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from farm.db.rows.base import Row, now, one_of
from farm.domain.asset import AssetStatus


class AssetRow(Row):
    __tablename__ = "assets"
    __table_args__ = (
        one_of("status", AssetStatus),
        CheckConstraint("(status = 'ready') = (blob_key IS NOT NULL)", name="ready_has_blob"),
        Index("ix_assets_tenant_id_sha256", "tenant_id", "sha256", postgresql_where=text("status = 'ready'")),
        Index("ix_assets_tenant_id_id", "tenant_id", "id"),
        Index("ix_assets_blob_key", "blob_key", postgresql_where=text("status = 'ready'")),
        Index("ix_assets_used_at", "tenant_id", "used_at", postgresql_where=text("status <> 'expired'")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    status: Mapped[str]
    filename: Mapped[str | None]
    content_type: Mapped[str | None]
    blob_key: Mapped[str | None]
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None]
    created_at: Mapped[datetime] = now()
    used_at: Mapped[datetime] = now()
    expired_at: Mapped[datetime | None]


class MediaUseRow(Row):
    """A job needs an asset (its id) or a stored input (its key), until its intermediates are erased: retries need them
    too."""

    __tablename__ = "media_uses"
    __table_args__ = (Index("ix_media_uses_job_id", "job_id"),)

    media: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)


class InputRow(Row):
    """A user's file in the store, by content. sweeping: its object is about to be deleted. swept_at: since when it is
    gone."""

    __tablename__ = "inputs"
    __table_args__ = (Index("ix_inputs_used_at", "used_at", postgresql_where=text("swept_at IS NULL")),)

    key: Mapped[str] = mapped_column(primary_key=True)
    used_at: Mapped[datetime] = now()
    sweeping: Mapped[bool] = mapped_column(server_default=text("false"))
    swept_at: Mapped[datetime | None]


class ConsentRow(Row):
    """That a job's source video may be trained on, until withdrawn_at. asked_by, withdrawn_by: keys."""

    __tablename__ = "training_consents"
    __table_args__ = (
        Index("ix_training_consents_withdrawn", "job_id", postgresql_where=text("withdrawn_at IS NOT NULL")),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    statement: Mapped[str]
    reference: Mapped[str | None]
    asked_by: Mapped[str | None]
    given_at: Mapped[datetime] = now()
    withdrawn_at: Mapped[datetime | None]
    withdrawn_by: Mapped[str | None]
