"""A chunk's attempt ends: its output is kept, its failure is judged, or it goes back."""

from __future__ import annotations

from farm.db.session import Session
from farm.domain.chunk import Failure, Lease
from farm.domain.job import JobStatus
from farm.domain.order import Output, Segment
from farm.domain.retry import GiveUp, RetryAfter


def succeed(session: Session, lease: Lease, result: Segment | Output) -> JobStatus:
    """Settle a render chunk with its segment, or the finalize chunk with the job's output; returns the job's status.

    The last segment inserts the finalize chunk. Raises LeaseLost when the token is stale (late or repeated) or the
    job was canceled: discard the object then. ValueError when the result is not one of the lease's work and span.
    """
    raise NotImplementedError


def fail(session: Session, lease: Lease, failure: Failure, dice: float) -> RetryAfter | GiveUp:
    """Report a failed attempt; `farm.domain.retry` decides. `dice` in [0, 1) spreads the back-off. LeaseLost too."""
    raise NotImplementedError


def give_back(session: Session, lease: Lease) -> None:
    """Return the chunk unfinished at a soft shutdown (preempted): claimable at once, no retry spent. LeaseLost too."""
    raise NotImplementedError
