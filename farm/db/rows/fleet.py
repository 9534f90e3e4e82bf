"""Workers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from farm.db.rows.base import Row, now


class WorkerRow(Row):
    """quarantined_until: set and past, the worker is on trial: its next chunk ends the quarantine or renews it.
    quarantines: in a row, which makes each longer than the one before. forgiven_at: failures before it no longer count.
    speeds: {version id: {size class: frames a second}} as measured by itself (farm.domain.speed). bundles: {version id:
    what it says of the files that it has or fetches} (farm.domain.alias)."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    device: Mapped[str]
    queues: Mapped[list[str]]
    info: Mapped[dict[str, Any]]
    version_id: Mapped[str | None]
    frames_per_s: Mapped[float] = mapped_column(server_default="0")
    draining: Mapped[bool] = mapped_column(server_default=text("false"))
    quarantined_until: Mapped[datetime | None]
    quarantine_reason: Mapped[str | None]
    quarantines: Mapped[int] = mapped_column(server_default="0")
    forgiven_at: Mapped[datetime | None]
    speeds: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    bundles: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    started_at: Mapped[datetime] = now()
    heartbeat_at: Mapped[datetime] = now()
    left_at: Mapped[datetime | None]
