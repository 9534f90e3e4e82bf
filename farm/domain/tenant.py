"""Who asks: tenants, their keys and what a key may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    SUBMIT = "submit"
    READ = "read"
    TRAIN = "train"
    ADMIN = "admin"


@dataclass(frozen=True)
class Principal:
    """A verified key: whose it is and what it may do. `admin` implies every scope."""

    tenant_id: str
    key_id: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes


@dataclass(frozen=True)
class NewKey:
    """A key just made. `text` (`dub_<prefix>_<secret>`) is shown once and kept nowhere."""

    id: str
    text: str
