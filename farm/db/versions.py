"""Versions, aliases and the aliases' history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from farm.db.session import Session
from farm.domain.version import MODEL, Version


@dataclass(frozen=True)
class Alias:
    model: str
    name: str
    version_id: str
    updated_at: datetime


@dataclass(frozen=True)
class AliasMove:
    """kind: "promote" or "rollback"."""

    alias: str
    kind: str
    version_id: str
    previous_version_id: str | None
    actor: str
    at: datetime


def get(session: Session, version_id: str) -> Version | None: ...


def listed(session: Session, model: str = MODEL) -> tuple[Version, ...]:
    """All versions of a model, newest first."""
    raise NotImplementedError


def models(session: Session) -> tuple[str, ...]:
    raise NotImplementedError


def aliases(session: Session, model: str = MODEL) -> tuple[Alias, ...]:
    raise NotImplementedError


def history(session: Session, alias: str, model: str = MODEL) -> tuple[AliasMove, ...]:
    """Moves of an alias, newest first."""
    raise NotImplementedError
