"""Who asks: tenants, their keys and what a key may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from farm.domain.quota import Quotas, Rate


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
    """A verified key: whose it is and what it may do. `admin` implies every scope.

    is_operator: its tenant runs the farm. tenant_rate: None is the farm's; key_rate: a lower one of the key's own.
    """

    tenant_id: str
    key_id: str
    scopes: frozenset[Scope]
    key_name: str = ""
    is_operator: bool = False
    tenant_rate: Rate | None = None
    key_rate: Rate | None = None

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


@dataclass(frozen=True)
class Tenant:
    """is_operator: its admins run the farm for everybody. weight: its share beside other tenants; max_in_flight: chunks
    that workers may hold of it at once, on each queue (None: no cap). Empty rates are the farm's own. retention: days
    by class of media (farm.domain.retention) where they are other than the farm's; None keeps that class for good."""

    id: str
    name: str
    is_operator: bool
    weight: float
    max_in_flight: int | None
    rate: Rate | None
    quotas: Quotas
    retention: Mapping[str, float | None]
    created_at: datetime
