"""The tick's repairs: leases that ran out, and deadlines that passed."""

from __future__ import annotations

from dataclasses import dataclass

from farm.db.session import Session


@dataclass(frozen=True)
class Swept:
    """What one sweep did. `more` when it stopped at its limit: sweep again."""

    leases_lost: int
    jobs_expired: int
    more: bool


def sweep(session: Session, dice: float = 0.5, limit: int = 200) -> Swept:
    """Fail attempts whose lease ran out (worker_lost), expire jobs past their deadline. Safe anywhere, at any time."""
    raise NotImplementedError
