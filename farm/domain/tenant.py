"""Who asks: tenants, their keys and what a key may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Scope(StrEnum):
    SUBMIT = "submit"
    READ = "read"
    TRAIN = "train"
    ADMIN = "admin"


@dataclass(frozen=True)
class Actor:
    """Who does something, for the audit log: a tenant's key, or the farm itself (no tenant, no key)."""

    name: str
    tenant_id: str | None = None
    key_id: str | None = None


FARM: Final = Actor("farm")


@dataclass(frozen=True)
class Principal:
    """A verified key: whose it is and what it may do. `admin` implies every scope."""

    tenant_id: str
    key_id: str
    scopes: frozenset[Scope]
    key_name: str = ""

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    @property
    def actor(self) -> Actor:
        return Actor(self.key_name, self.tenant_id, self.key_id)


@dataclass(frozen=True)
class NewKey:
    """A key just made. `text` (`dub_<prefix>_<secret>`) is shown once and kept nowhere."""

    id: str
    text: str
