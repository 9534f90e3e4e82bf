"""Tenants: made and limited by the farm's operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farm.db import keys, tenants
from farm.db.session import Session
from farm.domain import quota
from farm.domain.audit import Action
from farm.domain.ids import new_id
from farm.domain.tenant import FARM, Actor, Tenant
from farm.errors import Rejected
from farm.flow import audit


def create(session: Session, name: str, limits: Mapping[str, Any] | None = None, *, actor: Actor = FARM) -> Tenant:
    """A new tenant. Rejected("tenant_name_taken")."""
    tenant_id = new_id("ten")
    if keys.ensure_tenant(session, tenant_id, name) != tenant_id:
        raise Rejected("tenant_name_taken", f"there is a tenant called {name!r}", pointer="/name")
    audit.record(session, actor, Action.TENANT_CREATED, tenant_id, {"name": name}, tenant_id=tenant_id)
    return change(session, tenant_id, limits, actor=actor) if limits else get(session, tenant_id)


def change(session: Session, tenant_id: str, limits: Mapping[str, Any], *, actor: Actor = FARM) -> Tenant:
    """Set columns of the tenant's limits (farm.db.rows); None is no limit, or the farm's own. Rejected("not_found")."""
    get(session, tenant_id, lock=True)
    tenants.change(session, tenant_id, limits)
    audit.record(session, actor, Action.TENANT_CHANGED, tenant_id, dict(limits), tenant_id=tenant_id)
    return get(session, tenant_id)


def get(session: Session, tenant_id: str, *, lock: bool = False) -> Tenant:
    """Rejected("not_found")."""
    tenant = tenants.get(session, tenant_id, lock=lock)
    if tenant is None:
        raise Rejected("not_found", f"there is no tenant {tenant_id}")
    return tenant


def check_quotas(session: Session, tenant_id: str, *, jobs: int = 0, stored_bytes: int = 0) -> None:
    """Refuse what goes over the tenant's quotas: Rejected("quota_exceeded"). In the transaction that adds it, which
    then takes turns with others of the tenant: what two add at once is counted one after the other."""
    quotas = tenants.quotas(session, tenant_id)
    if quotas == quota.Quotas():
        return
    tenants.take_turns(session, tenant_id)
    quota.check(quotas, tenants.usage(session, tenant_id), jobs=jobs, stored_bytes=stored_bytes)
