"""The audit log's rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import insert, or_, select

from farm.db import cursor as cursors
from farm.db.rows import AuditRow
from farm.db.session import Session
from farm.domain.audit import Action, AuditEntry
from farm.domain.tenant import Actor
from farm.domain.views import Page

ANOTHER = "another tenant"


def add(
    session: Session, actor: Actor, action: Action, subject: str, detail: Mapping[str, object], tenant_id: str | None
) -> None:
    session.execute(
        insert(AuditRow).values(
            tenant_id=tenant_id,
            actor_tenant_id=actor.tenant_id,
            actor_key_id=actor.key_id,
            actor_name=actor.name,
            action=action,
            subject=subject,
            detail=dict(detail),
        )
    )


def page(
    session: Session,
    tenant_id: str,
    *,
    shared: bool = False,
    action: str | None = None,
    subject: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    cursor: str | None = None,
    page_size: int = 100,
) -> Page[AuditEntry]:
    """What a tenant's admins may read, newest first; shared: also of what all tenants share.

    action: one (`batch.paused`) or a family (`batch`). since is inclusive, until is not. Rejected("cursor_invalid").
    """
    visible = or_(AuditRow.tenant_id == tenant_id, AuditRow.actor_tenant_id == tenant_id)
    if shared:
        visible = or_(visible, AuditRow.tenant_id.is_(None))
    query = select(AuditRow).where(visible).order_by(AuditRow.id.desc())
    if action is not None:
        query = query.where(or_(AuditRow.action == action, AuditRow.action.startswith(f"{action}.", autoescape=True)))
    if subject is not None:
        query = query.where(AuditRow.subject == subject)
    if since is not None:
        query = query.where(AuditRow.at >= since)
    if until is not None:
        query = query.where(AuditRow.at < until)
    if cursor is not None:
        query = query.where(AuditRow.id < cursors.decode_number("audit", cursor))
    rows = session.scalars(query.limit(cursors.limit(page_size))).all()
    return cursors.page([_entry(row, tenant_id) for row in rows], page_size, "audit", lambda entry: entry.id)


def _entry(row: AuditRow, reader: str) -> AuditEntry:
    is_others = row.actor_tenant_id is not None and row.actor_tenant_id != reader
    actor = Actor(ANOTHER) if is_others else Actor(row.actor_name, row.actor_tenant_id, row.actor_key_id)
    return AuditEntry(row.id, row.at, actor, row.action, row.subject, row.detail)
