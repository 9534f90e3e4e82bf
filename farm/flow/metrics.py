"""The metrics' counters, kept up to date: a tick's last step."""

from __future__ import annotations

from farm.db import metrics
from farm.db.session import Session


def collect(session: Session) -> None:
    """Add what has ended since the last time, and sample what is stored where the last sample is old.

    Safe anywhere, at any time: of several collectors one works, and what ended is counted once.
    """
    if metrics.collect(session):
        metrics.sample_storage(session)
