"""The one place where statuses change: jobs, and through them their batches, with a reason, counters and events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from farm.db import ledger, standing
from farm.db.ledger import JobRecord
from farm.db.session import Session
from farm.db.standing import BatchRecord
from farm.domain.event import EventKind
from farm.domain.job import BatchStatus, JobStatus
from farm.domain.ripple import BUCKETS, JobFacts, batch_status, working_status
from farm.domain.webhook import Topic
from farm.flow import notify

_BATCH_EVENTS = {
    BatchStatus.COMPLETED: EventKind.BATCH_COMPLETED,
    BatchStatus.CANCELED: EventKind.BATCH_CANCELED,
    BatchStatus.CANCELING: EventKind.BATCH_CANCELING,
    BatchStatus.PAUSED: EventKind.BATCH_PAUSED,
}

_TOLD = {
    JobStatus.SUCCEEDED: Topic.JOB_SUCCEEDED,
    JobStatus.FAILED: Topic.JOB_FAILED,
    JobStatus.EXPIRED: Topic.JOB_FAILED,
}
"""What webhooks tell of a job."""


@dataclass(frozen=True)
class Change:
    """A locked job gets a status, for a reason that people can read."""

    job: JobRecord
    status: JobStatus
    reason: str
    error_code: str | None = None
    error_detail: str | None = None


def settle(
    session: Session,
    changes: Sequence[Change],
    *,
    batch_id: str | None = None,
    paused: bool | None = None,
    cancel_asked: bool | None = None,
) -> None:
    """Write the changes of locked jobs, then their batches' counts, statuses and events. A transaction's last step.

    paused and cancel_asked set the flags of `batch_id`, also where no job changes.
    """
    changes = [change for change in changes if change.status is not change.job.status]
    alike: dict[tuple[object, ...], list[Change]] = defaultdict(list)
    for change in changes:
        alike[change.status, change.reason, change.error_code, change.error_detail].append(change)
    for same in alike.values():
        first = same[0]
        standing.set_status(
            session,
            [change.job.id for change in same],
            first.status,
            first.reason,
            error_code=first.error_code,
            error_detail=first.error_detail,
        )
    by_batch: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        by_batch[change.job.batch_id].append(change)
    if batch_id is not None:
        by_batch.setdefault(batch_id, [])
    for batch in standing.lock_batches(session, by_batch):
        asked = batch.id == batch_id
        _settle_batch(
            session,
            batch,
            by_batch[batch.id],
            paused=paused if asked else None,
            cancel_asked=cancel_asked if asked else None,
        )


def _settle_batch(
    session: Session, batch: BatchRecord, changes: Sequence[Change], *, paused: bool | None, cancel_asked: bool | None
) -> None:
    counts = dict(batch.counts)
    for change in changes:
        counts[BUCKETS[change.job.status]] -= 1
        counts[BUCKETS[change.status]] += 1
    after = replace(
        batch,
        counts=counts,
        paused=batch.paused if paused is None else paused,
        cancel_asked=batch.cancel_asked if cancel_asked is None else cancel_asked,
    )
    after = replace(after, status=batch_status(counts, paused=after.paused, cancel_asked=after.cancel_asked))
    standing.save_batch(session, after)
    events: list[standing.NewEvent] = [
        (EventKind.JOB_STATUS, batch.tenant_id, batch.id, change.job.id, _data(change)) for change in changes
    ]
    if after.status is not batch.status:
        kind = _BATCH_EVENTS.get(after.status)
        if kind is None:
            kind = EventKind.BATCH_RESUMED if batch.status is BatchStatus.PAUSED else EventKind.BATCH_REOPENED
        data = {"status": after.status.value, "counts": {bucket.value: count for bucket, count in counts.items()}}
        events.append((kind, batch.tenant_id, batch.id, None, data))
    standing.add_events(session, events)
    for change in changes:
        if change.status in _TOLD:
            notify.job_ended(session, batch.tenant_id, batch.id, change.job.id, _TOLD[change.status])
    if after.status is BatchStatus.COMPLETED and after.status is not batch.status:
        notify.batch_completed(session, batch.tenant_id, batch.id)


def _data(change: Change) -> dict[str, object]:
    data: dict[str, object] = {"status": change.status.value, "reason": change.reason}
    if change.error_code is not None:
        data["error"] = {"code": change.error_code, "detail": change.error_detail}
    return data


def ended(session: Session, jobs: Sequence[JobRecord], detail: str) -> None:
    """Jobs that have ended leave no chunk open: waiting ones are canceled, leases revoked. Before `settle`."""
    ids = [job.id for job in jobs]
    ledger.cancel_waiting(session, ids)
    ledger.revoke_leases(session, ids, detail)


def working(session: Session, jobs: Sequence[JobRecord]) -> dict[str, JobStatus]:
    """Where locked jobs stand by their rows, by job id; for jobs that go on again (resume, retry)."""
    started = ledger.jobs_with_started_renders(session, [job.id for job in jobs])
    return {
        job.id: working_status(
            JobFacts(
                planned=job.planned,
                started=job.id in started,
                chunks_total=job.chunks_total,
                chunks_done=job.chunks_done,
            )
        )
        for job in jobs
    }
