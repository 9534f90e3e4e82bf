"""A batch: many jobs submitted as one."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from farm.domain.job import JobSpec


@dataclass(frozen=True)
class BatchSpec:
    """A validated submission. `model` is an alias or a version id; `metadata` is the user's, returned as it came."""

    items: tuple[JobSpec, ...]
    name: str | None = None
    priority: int = 50
    model: str = "champion"
    deadline: datetime | None = None
    metadata: dict[str, str] = field(default_factory=dict)
