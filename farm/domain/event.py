"""Events: what changed, in the order in which it was committed (the SSE log)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class EventKind(StrEnum):
    BATCH_CREATED = "batch.created"
    BATCH_PAUSED = "batch.paused"
    BATCH_RESUMED = "batch.resumed"
    BATCH_CANCELING = "batch.canceling"
    BATCH_REOPENED = "batch.reopened"
    BATCH_COMPLETED = "batch.completed"
    BATCH_CANCELED = "batch.canceled"
    JOB_STATUS = "job.status"


@dataclass(frozen=True)
class Event:
    """Event ids increase in commit order inside one batch. `data` for a job: status, reason, and error where failed."""

    id: int
    kind: EventKind
    batch_id: str
    job_id: str | None
    at: datetime
    data: Mapping[str, object]
