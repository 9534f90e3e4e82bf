"""What people ask of running work. Every verb sees one tenant's own rows; anything else is Rejected("not_found")."""

from __future__ import annotations

from farm.db.session import Session
from farm.domain.views import BatchView, JobView


def cancel_batch(session: Session, tenant_id: str, batch_id: str) -> BatchView:
    """Cancel every job that has not ended: waiting chunks at once, leased ones at their next heartbeat. Repeatable."""
    raise NotImplementedError


def cancel_job(session: Session, tenant_id: str, job_id: str) -> JobView:
    """Cancel one job. An ended job stays as it is; repeatable."""
    raise NotImplementedError


def pause_batch(session: Session, tenant_id: str, batch_id: str) -> BatchView:
    """Hold every job that has not ended; leased chunks go back at their next heartbeat.
    Rejected("batch_ended") when there is nothing left to hold."""
    raise NotImplementedError


def resume_batch(session: Session, tenant_id: str, batch_id: str) -> BatchView:
    """Let a paused batch go on. Harmless when it is not paused."""
    raise NotImplementedError


def retry_job(session: Session, tenant_id: str, job_id: str) -> JobView:
    """Take up a failed or canceled job again from the chunk that failed, keeping finished segments, with fresh retries.
    Rejected("job_not_retryable") otherwise."""
    raise NotImplementedError


def retry_failed(session: Session, tenant_id: str, batch_id: str) -> BatchView:
    """retry_job for every failed job of a batch. Rejected("nothing_to_retry") when there is none."""
    raise NotImplementedError


def set_batch_priority(session: Session, tenant_id: str, batch_id: str, priority: int) -> BatchView:
    """0..100, for all its jobs that have not ended; acts on the next claim. Rejected("priority_out_of_range")."""
    raise NotImplementedError


def set_job_priority(session: Session, tenant_id: str, job_id: str, priority: int) -> JobView:
    """As set_batch_priority, for one job."""
    raise NotImplementedError
