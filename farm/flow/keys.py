"""Tenants and their API keys. Only the SHA-256 of a secret is kept."""

from __future__ import annotations

from collections.abc import Iterable

from farm.db.session import Session
from farm.domain.tenant import NewKey, Principal, Scope


def ensure_tenant(session: Session, name: str) -> str:
    """The id of the tenant of this name, made if new."""
    raise NotImplementedError


def create(session: Session, tenant_id: str, name: str, scopes: Iterable[Scope]) -> NewKey:
    """A new key; its text is in the answer and nowhere else."""
    raise NotImplementedError


def verify(session: Session, text: str) -> Principal | None:
    """Whose key this is, None when it is malformed, unknown, wrong or revoked."""
    raise NotImplementedError


def revoke(session: Session, tenant_id: str, key_id_or_prefix: str) -> None:
    """End a key at once. Rejected("not_found")."""
    raise NotImplementedError
