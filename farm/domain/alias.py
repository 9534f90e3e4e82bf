"""Aliases: names of versions that move, at once or when workers have the files; and where a canary's share falls."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from farm.domain.tenant import Actor

DEFAULT_SHARE: Final = 0.1
"""A canary's share of the jobs that ask for champion, where nobody says another."""
STAGED_S: Final = 60.0
"""How long a move waits for workers that do not have the files yet, where nobody says otherwise."""


class Cohort(StrEnum):
    """Which of the two a job got while a canary had a share."""

    CHAMPION = "champion"
    CANARY = "canary"


class BundleState(StrEnum):
    """How a worker stands with a version's files. ready: they are here, and a picture was made with them. failed: it
    tries again. unusable: the files are what was registered, and no picture comes of them."""

    FETCHING = "fetching"
    READY = "ready"
    FAILED = "failed"
    UNUSABLE = "unusable"


@dataclass(frozen=True)
class BundleNote:
    """What a worker says of a version's files."""

    state: BundleState
    detail: str = ""


@dataclass(frozen=True)
class WantedBundle:
    """Files that a worker should have, because an alias is about to name them."""

    version_id: str
    key: str
    sha256: str


@dataclass(frozen=True)
class Alias:
    """share: of new jobs that ask for champion (of the canary only). revision grows with every change. since: when it
    came to its version."""

    model: str
    name: str
    version_id: str
    share: float | None
    revision: int
    since: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Move:
    """A move that waits: who asked for it, and what the gate said that was forced. revision: the alias's then (0: it
    was not there)."""

    actor: Actor
    share: float | None
    forced: bool
    reasons: tuple[str, ...]
    revision: int


@dataclass(frozen=True)
class Staging:
    """An alias on its way to a version: it moves when every serving worker of the version's queue has the files, or at
    `until`. workers, ready: how many there are and how many have them."""

    model: str
    alias: str
    version_id: str
    move: Move
    since: datetime
    until: datetime
    is_due: bool
    workers: int
    ready: int


def takes_canary(job_id: str, share: float) -> bool:
    """Whether a job is among the canary's share: the same answer for the same job, however often it is asked."""
    drawn = int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:8], "big")
    return drawn < share * 2**64


def cohort_of(job_id: str, share: float | None) -> Cohort | None:
    """None where no canary has a share."""
    if not share:
        return None
    return Cohort.CANARY if takes_canary(job_id, share) else Cohort.CHAMPION
