"""A batch comes in: everything wrong with it at once, or its rows."""

from __future__ import annotations

from farm.db.session import Session
from farm.domain.batch import BatchSpec
from farm.domain.limits import InputLimits
from farm.domain.views import BatchView
from farm.errors import Problem


def check(session: Session, tenant_id: str, spec: BatchSpec, limits: InputLimits) -> tuple[Problem, ...]:
    """All problems of a submission, with JSON pointers into API.md's body (`/items/3/audio/uri`); stores nothing."""
    raise NotImplementedError


def submit(session: Session, tenant_id: str, spec: BatchSpec, limits: InputLimits) -> BatchView:
    """Write a batch, its jobs (validating) and their plan chunks (waiting), with the model version pinned.

    Raises Rejected("batch_invalid") holding every problem of `check`.
    """
    raise NotImplementedError
