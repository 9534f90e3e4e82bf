"""Where jobs and batches stand: the statements behind farm.flow.ripple, in psycopg's words (farm.db.session.run)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from farm.db.session import Session, run
from farm.domain.event import EventKind
from farm.domain.job import BatchStatus, JobStatus
from farm.domain.ripple import Bucket


@dataclass(frozen=True)
class BatchRecord:
    id: str
    tenant_id: str
    status: BatchStatus
    paused: bool
    cancel_asked: bool
    counts: Mapping[Bucket, int]


_SET_STATUS: Final = """
update jobs set status = %(status)s, status_reason = %(reason)s, error_code = %(code)s, error_detail = %(detail)s,
    started_at = case when %(running)s then coalesce(started_at, now()) else started_at end,
    finished_at = case when %(ended)s then now() end, updated_at = now()
where id = any(%(ids)s)
"""


def set_status(
    session: Session,
    job_ids: Sequence[str],
    status: JobStatus,
    reason: str,
    *,
    error_code: str | None = None,
    error_detail: str | None = None,
) -> None:
    """started_at is when the job first ran, finished_at when it ended (empty again after a retry)."""
    values = {
        "ids": list(job_ids),
        "status": status.value,
        "reason": reason,
        "code": error_code,
        "detail": error_detail,
        "running": status in (JobStatus.RUNNING, JobStatus.FINALIZING),
        "ended": status.is_terminal,
    }
    run(session, _SET_STATUS, values)


_LOCK_BATCHES: Final = """
select id, tenant_id, status, paused, cancel_asked, jobs_queued, jobs_running, jobs_succeeded, jobs_failed,
    jobs_canceled
from batches where id = any(%(ids)s) order by id for no key update
"""


def lock_batches(session: Session, batch_ids: Iterable[str]) -> list[BatchRecord]:
    """In id order."""
    ids = sorted(set(batch_ids))
    return [
        BatchRecord(
            id=row.id,
            tenant_id=row.tenant_id,
            status=BatchStatus(row.status),
            paused=row.paused,
            cancel_asked=row.cancel_asked,
            counts={bucket: getattr(row, f"jobs_{bucket}") for bucket in Bucket},
        )
        for row in (run(session, _LOCK_BATCHES, {"ids": ids}) if ids else ())
    ]


_SAVE_BATCH: Final = """
update batches set status = %(status)s, paused = %(paused)s, cancel_asked = %(cancel_asked)s, updated_at = now(),
    started_at = case when %(begun)s then coalesce(started_at, now()) else started_at end,
    finished_at = case when %(over)s then coalesce(finished_at, now()) end,
    jobs_queued = %(queued)s, jobs_running = %(running)s, jobs_succeeded = %(succeeded)s, jobs_failed = %(failed)s,
    jobs_canceled = %(canceled)s
where id = %(id)s
"""


def save_batch(session: Session, batch: BatchRecord) -> None:
    values = {
        "id": batch.id,
        "status": batch.status.value,
        "paused": batch.paused,
        "cancel_asked": batch.cancel_asked,
        "begun": any(count for bucket, count in batch.counts.items() if bucket is not Bucket.QUEUED),
        "over": batch.status in (BatchStatus.COMPLETED, BatchStatus.CANCELED),
        **{bucket.value: count for bucket, count in batch.counts.items()},
    }
    run(session, _SAVE_BATCH, values)


NewEvent = tuple[EventKind, str, str, str | None, Mapping[str, Any]]
"""kind, tenant_id, batch_id, job_id, data."""

_ADD_EVENTS: Final = """
insert into events (kind, tenant_id, batch_id, job_id, data)
select kind, tenant_id, batch_id, job_id, data::jsonb
from unnest(%(kinds)s::text[], %(tenants)s::text[], %(batches)s::text[], %(jobs)s::text[], %(data)s::text[])
    as e (kind, tenant_id, batch_id, job_id, data)
"""


def add_events(session: Session, events: Sequence[NewEvent]) -> None:
    """Their batches must be locked, or made in this transaction."""
    if not events:
        return
    kinds, tenants, batches, jobs, data = zip(*events, strict=True)
    values = {
        "kinds": [kind.value for kind in kinds],
        "tenants": list(tenants),
        "batches": list(batches),
        "jobs": list(jobs),
        "data": [json.dumps(dict(each)) for each in data],
    }
    run(session, _ADD_EVENTS, values)
