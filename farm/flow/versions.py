"""Versions of models are registered, and aliases move between them with a history."""

from __future__ import annotations

from collections.abc import Mapping

from farm.db.session import Session
from farm.domain.version import MODEL, Version


def register(
    session: Session,
    *,
    name: str,
    bundle_key: str,
    bundle_sha256: str,
    manifest: Mapping[str, object],
    model: str = MODEL,
) -> Version:
    """Make uploaded weights known. The same bundle under the same name is answered with its version again.

    `trained` and `licence` are read from the manifest. Rejected("version_name_taken") when the name has other weights.
    """
    raise NotImplementedError


def resolve(session: Session, text: str, model: str = MODEL) -> Version | None:
    """The version that an alias, a version id or a version name means now."""
    raise NotImplementedError


def promote(session: Session, alias: str, version_id: str, *, actor: str, model: str = MODEL) -> Version:
    """Move an alias (made if new) to a version, audited. Running jobs keep the version that they pinned.
    Rejected("version_not_found")."""
    raise NotImplementedError


def rollback(session: Session, alias: str, *, actor: str, model: str = MODEL) -> Version:
    """Undo the alias's last promotion that was not undone yet. Rejected("alias_not_found", "nothing_to_roll_back")."""
    raise NotImplementedError
