"""What metrics read: counters kept up to date by a collector, samples, and gauges that are cheap at any size.

A counter is never counted anew: the collector adds what has ended since it last looked. It looks only at times before
the start of the oldest running transaction: whatever carries such a time is committed and seen, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from farm.db.ledger import seconds_from_now
from farm.db.rows import BatchRow, MetricRow
from farm.db.session import Session
from farm.domain.measure import SECONDS, Histogram, Totals, from_document, to_document

TOTALS: Final = "totals"
STORAGE: Final = "storage"
STORAGE_EVERY_S: Final = 60.0

_BUCKET: Final = f"width_bucket(extract(epoch FROM {{}}), ARRAY[{', '.join(map(str, SECONDS))}]::numeric[])"
_SINCE: Final = "a.finished_at >= :since AND a.finished_at < :until"
_HORIZON: Final = text("""
SELECT least(clock_timestamp() - interval '1 second', min(xact_start)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
""")
_ATTEMPTS: Final = text(f"""
SELECT c.work, a.outcome, coalesce(a.reason, '') AS reason, {_BUCKET.format("a.finished_at - a.started_at")} AS bucket,
    count(*) AS ended, sum(extract(epoch FROM a.finished_at - a.started_at)) AS seconds,
    sum(c.stop - c.start) FILTER (WHERE c.work = 'render' AND a.outcome = 'succeeded') AS frames
FROM attempts a JOIN chunks c ON c.id = a.chunk_id WHERE {_SINCE} GROUP BY 1, 2, 3, 4
""")
_WAITS: Final = text(f"""
SELECT c.work, {_BUCKET.format("a.started_at - c.available_at")} AS bucket, count(*) AS ended,
    sum(extract(epoch FROM a.started_at - c.available_at)) AS seconds
FROM attempts a JOIN chunks c ON c.id = a.chunk_id
WHERE {_SINCE} AND a.number = 1 AND c.attempts = 1 AND c.available_at <= a.started_at GROUP BY 1, 2
""")
_STAGES: Final = text(f"""
SELECT c.work, stage.key AS stage, sum(stage.value::float) AS seconds
FROM attempts a JOIN chunks c ON c.id = a.chunk_id, LATERAL jsonb_each_text(a.seconds) AS stage
WHERE {_SINCE} GROUP BY 1, 2
""")
_READERS: Final = text(f"""
SELECT a.code, count(*) AS ended FROM attempts a
WHERE {_SINCE} AND a.outcome = 'failed' AND a.code = ANY (:codes) GROUP BY 1
""")
READER_CODES: Final = (
    "media_reader_crashed", "media_reader_killed", "media_reader_stalled", "media_memory_exceeded",
    "media_cpu_exceeded",
)  # fmt: skip
"""Of farm.media.sandbox: the process that reads media ended, or was ended, before its answer."""
_JOBS: Final = text(f"""
SELECT a.status, {_BUCKET.format("a.finished_at - a.created_at")} AS bucket, count(*) AS ended,
    sum(extract(epoch FROM a.finished_at - a.created_at)) AS seconds
FROM jobs a WHERE {_SINCE} GROUP BY 1, 2
""")
_STORED: Final = text("""
SELECT (SELECT coalesce(sum(size_bytes), 0) FROM assets WHERE status = 'ready') AS assets,
    (SELECT coalesce(sum(output_bytes), 0) FROM jobs
     WHERE output_bytes IS NOT NULL AND output_erased_at IS NULL) AS outputs
""")


def collect(session: Session) -> bool:
    """Add what has ended to the totals; False where another collector is at it."""
    row = _locked(session, TOTALS)
    if row is None:
        return False
    until = session.scalars(_HORIZON).one()
    since = row.data.get("until", "-infinity")
    if since != "-infinity" and datetime.fromisoformat(since) >= until:
        return True
    times = {"since": since, "until": until}
    totals = from_document({key: value for key, value in row.data.items() if key != "until"})
    _save(session, TOTALS, {**to_document(totals.plus(_ended(session, times))), "until": until.isoformat()})
    return True


def _ended(session: Session, times: Mapping[str, Any]) -> Totals:
    attempts: dict[tuple[str, str, str], int] = {}
    took: dict[str, Histogram] = {}
    frames = 0
    for row in session.execute(_ATTEMPTS, times):
        key = (row.work, row.outcome, row.reason)
        attempts[key] = attempts.get(key, 0) + row.ended
        took[row.work] = took.get(row.work, Histogram()).plus(_bucket(row))
        frames += int(row.frames or 0)
    waits: dict[str, Histogram] = {}
    for row in session.execute(_WAITS, times):
        waits[row.work] = waits.get(row.work, Histogram()).plus(_bucket(row))
    stages = {(row.work, row.stage): float(row.seconds) for row in session.execute(_STAGES, times)}
    jobs: dict[str, int] = {}
    job_seconds = Histogram()
    for row in session.execute(_JOBS, times):
        jobs[row.status] = jobs.get(row.status, 0) + row.ended
        job_seconds = job_seconds.plus(_bucket(row))
    found = session.execute(_READERS, {**times, "codes": list(READER_CODES)})
    readers = {row.code: int(row.ended) for row in found}
    return Totals(attempts, took, waits, stages, frames, jobs, job_seconds, readers)


def _bucket(row: Any) -> Histogram:
    counts = [0] * (len(SECONDS) + 1)
    counts[row.bucket] = row.ended
    return Histogram(tuple(counts), float(row.seconds))


def sample_storage(session: Session) -> bool:
    """Add up stored bytes where the last sample is old; reads one index entry an asset and an output."""
    row = _locked(session, STORAGE)
    if row is None or (row.data and session.scalar(select(row.at > seconds_from_now(-STORAGE_EVERY_S)))):
        return False
    stored = session.execute(_STORED).one()
    _save(session, STORAGE, {"assets": int(stored.assets), "outputs": int(stored.outputs)})
    return True


def totals(session: Session) -> tuple[Totals, float]:
    """The totals, and how many seconds ago everything was in them (0 where nothing was collected yet)."""
    row = session.get(MetricRow, TOTALS, populate_existing=True)
    if row is None or "until" not in row.data:
        return Totals(), 0.0
    document = {key: value for key, value in row.data.items() if key != "until"}
    now = session.scalars(select(func.clock_timestamp())).one()
    return from_document(document), max(0.0, (now - datetime.fromisoformat(row.data["until"])).total_seconds())


def storage(session: Session) -> Mapping[str, int]:
    row = session.get(MetricRow, STORAGE, populate_existing=True)
    return {} if row is None else dict(row.data)


def open_jobs(session: Session) -> Mapping[str, int]:
    """Jobs that have not ended, from the counters of their batches."""
    query = select(
        func.coalesce(func.sum(BatchRow.jobs_queued), 0), func.coalesce(func.sum(BatchRow.jobs_running), 0)
    ).where(BatchRow.finished_at.is_(None))
    queued, running = session.execute(query).one()
    return {"queued": int(queued), "running": int(running)}


def _locked(session: Session, name: str) -> MetricRow | None:
    """The row, made if new; None where another collector has it."""
    if session.scalar(select(MetricRow.name).where(MetricRow.name == name)) is None:
        session.execute(insert(MetricRow).values(name=name, data={}).on_conflict_do_nothing())
    query = select(MetricRow).where(MetricRow.name == name).with_for_update(skip_locked=True)
    return session.scalar(query.execution_options(populate_existing=True))


def _save(session: Session, name: str, data: Mapping[str, Any]) -> None:
    session.execute(
        update(MetricRow)
        .where(MetricRow.name == name)
        .values(data=dict(data), at=func.now())
        .execution_options(synchronize_session=False)
    )
