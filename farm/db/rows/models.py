"""Versions of models and the aliases that name them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from farm.db.rows.base import Row, now, one_of


class VersionRow(Row):
    """lineage, reports, gate: documents of farm.domain.version. evaluation: the JSON that the gate reads.
    unusable: why no worker can render with it."""

    __tablename__ = "versions"
    __table_args__ = (UniqueConstraint("model", "name"), UniqueConstraint("model", "id"))

    id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"))
    name: Mapped[str]
    bundle_key: Mapped[str]
    bundle_sha256: Mapped[str]
    manifest: Mapped[dict[str, Any]]
    trained: Mapped[bool]
    licence: Mapped[str]
    lineage: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    evaluation: Mapped[dict[str, Any] | None]
    reports: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    gate: Mapped[dict[str, Any] | None]
    unusable: Mapped[str | None]
    created_at: Mapped[datetime] = now()


class ModelRow(Row):
    """gate, canary: documents of farm.domain.gate and farm.domain.canary; empty for the defaults."""

    __tablename__ = "models"

    name: Mapped[str] = mapped_column(primary_key=True)
    gate: Mapped[dict[str, Any] | None]
    canary: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = now()


class AliasRow(Row):
    """revision: how often it was changed. share: of new jobs that ask for champion, where this is the canary. since:
    when it came to its version. watched_at: when its scores were last looked at (farm.flow.canary)."""

    __tablename__ = "aliases"
    __table_args__ = (
        ForeignKeyConstraint(["model", "version_id"], ["versions.model", "versions.id"]),
        CheckConstraint("share BETWEEN 0 AND 1", name="share"),
    )

    model: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[str]
    share: Mapped[float | None]
    revision: Mapped[int] = mapped_column(BigInteger, server_default="1")
    since: Mapped[datetime] = now()
    watched_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = now()


class StagingRow(Row):
    """An alias that moves once workers have the version, or at `until`. move: a document of farm.domain.alias."""

    __tablename__ = "stagings"
    __table_args__ = (ForeignKeyConstraint(["model", "version_id"], ["versions.model", "versions.id"]),)

    model: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[str]
    move: Mapped[dict[str, Any]]
    since: Mapped[datetime] = now()
    until: Mapped[datetime]


class AliasMoveRow(Row):
    """undone: a promotion that a rollback took back; the next rollback goes further back. share: the canary's from then
    on. reasons: why a promotion was below the gate (forced), or why a canary was stopped."""

    __tablename__ = "alias_moves"
    __table_args__ = (
        one_of("kind", ("promote", "rollback", "share", "stop")),
        ForeignKeyConstraint(["model", "alias"], ["aliases.model", "aliases.name"]),
        Index("ix_alias_moves_model_alias_id", "model", "alias", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    model: Mapped[str]
    alias: Mapped[str]
    kind: Mapped[str]
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id"))
    previous_version_id: Mapped[str | None] = mapped_column(ForeignKey("versions.id"))
    actor: Mapped[str]
    share: Mapped[float | None]
    forced: Mapped[bool] = mapped_column(server_default=text("false"))
    reasons: Mapped[list[str]] = mapped_column(server_default=text("'{}'::text[]"))
    undone: Mapped[bool] = mapped_column(server_default=text("false"))
    at: Mapped[datetime] = now()
