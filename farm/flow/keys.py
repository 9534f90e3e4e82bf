"""Tenants and their API keys. Only the SHA-256 of a secret is kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime

from farm.db import keys
from farm.db.session import Session
from farm.domain.audit import Action
from farm.domain.ids import new_id
from farm.domain.quota import Rate
from farm.domain.tenant import FARM, Actor, NewKey, Principal, Scope
from farm.errors import Rejected
from farm.flow import audit


def ensure_tenant(session: Session, name: str, *, operator: bool = False) -> str:
    """The id of the tenant of this name, made if new. operator: from now on it runs the farm."""
    return keys.ensure_tenant(session, new_id("ten"), name, operator=operator)


def create(
    session: Session,
    tenant_id: str,
    name: str,
    scopes: Iterable[Scope],
    *,
    expires_at: datetime | None = None,
    rate: Rate | None = None,
    actor: Actor = FARM,
) -> NewKey:
    """A new key; its text is in the answer and nowhere else. Rejected("expiry_passed")."""
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise Rejected("expiry_passed", "the key would have expired already", pointer="/expires_at")
    # Hex keeps "_" out of both parts, so that the text splits in one way only.
    prefix, secret = secrets.token_hex(6), secrets.token_hex(32)
    key_id = new_id("key")
    may = sorted({Scope(scope).value for scope in scopes})
    keys.add(
        session,
        key_id,
        tenant_id,
        name=name,
        prefix=prefix,
        secret_sha256=_digest(secret),
        scopes=may,
        expires_at=expires_at,
        rate=rate,
    )
    detail = {"name": name, "prefix": prefix, "scopes": may}
    if expires_at is not None:
        detail["expires_at"] = expires_at.isoformat()
    audit.record(session, actor, Action.KEY_CREATED, key_id, detail, tenant_id=tenant_id)
    return NewKey(key_id, f"dub_{prefix}_{secret}")


def verify(session: Session, text: str) -> Principal | None:
    """Whose key this is, None when it is malformed, unknown, wrong, expired or revoked."""
    parts = text.split("_")
    if len(parts) != 3 or parts[0] != "dub" or not text.isascii() or "\0" in text:
        return None
    holder = keys.holder(session, parts[1])
    # An unknown prefix is compared too, so that it takes as long as a wrong secret.
    expected = holder.key.secret_sha256 if holder is not None else _digest("")
    matches = hmac.compare_digest(_digest(parts[2]), expected)
    if holder is None or not matches or holder.ended:
        return None
    key = holder.key
    return Principal(
        key.tenant_id,
        key.id,
        frozenset(Scope(scope) for scope in key.scopes),
        key.name,
        holder.is_operator,
        holder.tenant_rate,
        key.rate,
    )


def revoke(session: Session, tenant_id: str, key_id_or_prefix: str, *, actor: Actor = FARM) -> None:
    """End a key at once. Rejected("not_found")."""
    key_id = keys.revoke(session, tenant_id, key_id_or_prefix)
    if key_id is None:
        raise Rejected("not_found", f"there is no key {key_id_or_prefix}")
    audit.record(session, actor, Action.KEY_REVOKED, key_id, tenant_id=tenant_id)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
