"""A batch: many jobs submitted as one."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from farm.domain.job import JobSpec


@dataclass(frozen=True)
class Rights:
    """What the submitter says gives the right to make a face speak. basis: consent, licence, own or other."""

    basis: str
    statement: str
    reference: str | None = None


@dataclass(frozen=True)
class TrainingConsent:
    """What the submitter says of the people in a job's source video: that they agree to models being trained on it.
    statement: who agreed to what, when. reference: where the evidence is."""

    statement: str
    reference: str | None = None


@dataclass(frozen=True)
class BatchSpec:
    """A validated submission. `model` is an alias or a version id; `metadata` is the user's, returned as it came.
    `rights`, `consents` (to training): one for each item, or none at all."""

    items: tuple[JobSpec, ...]
    name: str | None = None
    priority: int = 50
    model: str = "champion"
    deadline: datetime | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    rights: tuple[Rights | None, ...] = ()
    consents: tuple[TrainingConsent | None, ...] = ()
