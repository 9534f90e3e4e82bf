"""Who did what: one entry in the transaction of the change, so that neither is there without the other."""

from __future__ import annotations

from collections.abc import Mapping

from farm.db import audit
from farm.db.session import Session
from farm.domain.audit import SHARED, Action
from farm.domain.tenant import Actor


def record(
    session: Session,
    actor: Actor,
    action: Action,
    subject: str,
    detail: Mapping[str, object] | None = None,
    *,
    tenant_id: str | None = None,
) -> None:
    """Write an entry. subject: the id of what is acted on. detail: JSON values, no secrets.

    tenant_id: whose thing it is where that is not the actor's own tenant (both may then read it). Entries about what
    all tenants share (SHARED) are read by the admins of the tenant that runs the farm.
    """
    owner = None if action in SHARED else tenant_id or actor.tenant_id
    if owner is None and action not in SHARED:
        raise ValueError(f"{action}: say whose {subject} is; everybody would read this entry")
    audit.add(session, actor, action, subject, detail or {}, owner)
