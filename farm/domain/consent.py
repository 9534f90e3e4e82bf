"""Consent to training: a face is someone's, and a dub says nothing about what else may be done with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from farm.domain.batch import Rights, TrainingConsent
from farm.domain.order import Blob


@dataclass(frozen=True)
class GivenConsent:
    """asked_by, withdrawn_by: keys."""

    job_id: str
    consent: TrainingConsent
    asked_by: str | None
    given_at: datetime
    withdrawn_at: datetime | None
    withdrawn_by: str | None


@dataclass(frozen=True)
class ConsentedClip:
    """The source video of a finished dub that may be trained on. rights: what gave the right to the dub itself."""

    job_id: str
    tenant_id: str
    consent: TrainingConsent
    rights: Rights | None
    asked_by: str | None
    given_at: datetime
    source: Blob
