"""All rows of all tenants, audited."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text

from farm.db.session import Session


def audit(session: Session) -> list[str]:
    """What is wrong with the books, a line each; nothing should be, at any commit. Reads everything: for tests.

    One statement sees one moment, however busy the farm is.
    """
    return [f"{row.kind} {row.id}: {row.what}" for row in session.execute(_AUDIT)]


_AUDIT: Final = text("""
with jobs_of as (
    select batch_id, count(*) total,
        count(*) filter (where status in ('validating', 'queued', 'paused')) queued,
        count(*) filter (where status in ('running', 'finalizing', 'canceling')) running,
        count(*) filter (where status = 'succeeded') succeeded,
        count(*) filter (where status in ('failed', 'expired')) failed,
        count(*) filter (where status = 'canceled') canceled
    from jobs group by batch_id
), chunks_of as (
    select c.job_id,
        count(*) filter (where c.work = 'render') total,
        count(*) filter (where c.work = 'render' and c.status = 'succeeded') done,
        coalesce(sum(c.stop - c.start) filter (where c.work = 'render'), 0) frames,
        coalesce(sum(c.frames_done) filter (where c.work = 'render' and c.status = 'succeeded'), 0) frames_done,
        count(*) filter (where c.status = 'leased') leased,
        count(*) filter (where c.status in ('waiting', 'leased')) open,
        count(*) filter (where c.status = 'waiting' and c.held <> (j.status = 'paused')) wrongly_held,
        count(*) filter (where c.tenant_id <> j.tenant_id or c.job_number <> j.number) strange
    from chunks c join jobs j on j.id = c.job_id group by c.job_id
), attempts_of as (
    select chunk_id, count(*) total, count(*) filter (where outcome = 'running') running,
        count(*) filter (where outcome = 'succeeded') succeeded,
        max(token) filter (where outcome = 'running') token, max(worker_id) filter (where outcome = 'running') worker_id
    from attempts group by chunk_id
)
select 'batch' kind, b.id, 'its counts are not those of its jobs' what
from batches b left join jobs_of j on j.batch_id = b.id
where (b.jobs_total, b.jobs_queued, b.jobs_running, b.jobs_succeeded, b.jobs_failed, b.jobs_canceled)
    is distinct from (j.total, j.queued, j.running, j.succeeded, j.failed, j.canceled)
union all
select 'batch', id, 'it is ' || status || ' with ' || jobs_queued + jobs_running || ' open jobs' from batches
where (status in ('completed', 'canceled')) <> (jobs_queued + jobs_running = 0)
    or (finished_at is null) <> (jobs_queued + jobs_running > 0)
union all
select 'job', j.id, 'its counts are not those of its chunks' from jobs j left join chunks_of c on c.job_id = j.id
where (j.chunks_total, j.chunks_done, j.frames_total, j.frames_done)
    is distinct from (c.total, c.done, c.frames, c.frames_done) or c.strange > 0
union all
select 'job', j.id, 'it is ' || j.status || ' with ' || c.open || ' open chunks, ' || c.leased || ' leased'
from jobs j join chunks_of c on c.job_id = j.id
where (j.finished_at is not null) <> (j.status in ('succeeded', 'failed', 'canceled', 'expired'))
    or (j.finished_at is not null) <> (c.open = 0) or (j.status = 'canceling' and c.leased = 0)
union all
select 'job', j.id, 'it is ' || j.status || ' and ' || c.wrongly_held || ' waiting chunks say otherwise'
from jobs j join chunks_of c on c.job_id = j.id where c.wrongly_held > 0
union all
select 'job', id, 'it is ' || status || ', which its output or error does not show' from jobs
where (status = 'succeeded') <> (output is not null) or (status in ('failed', 'expired')) <> (error_code is not null)
union all
select 'chunk', c.id, 'it is ' || c.status || ' with ' || coalesce(a.running, 0) || ' running attempts of '
    || coalesce(a.total, 0) || ' (it counts ' || c.attempts || '), ' || coalesce(a.succeeded, 0) || ' succeeded'
from chunks c left join attempts_of a on a.chunk_id = c.id
where (c.status = 'leased')::int <> coalesce(a.running, 0) or c.attempts <> coalesce(a.total, 0)
    or c.token is distinct from a.token or c.worker_id is distinct from a.worker_id
    or (c.status = 'succeeded')::int <> coalesce(a.succeeded, 0)
union all
select 'tenant', t.id, 'it has ' || count(*) || ' chunks in flight on ' || c.queue || ', its cap is ' || t.max_in_flight
from tenants t join chunks c on c.tenant_id = t.id where c.status = 'leased' and t.max_in_flight is not null
group by t.id, t.max_in_flight, c.queue having count(*) > t.max_in_flight
""")
