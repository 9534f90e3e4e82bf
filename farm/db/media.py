"""Which stored inputs there are, who needs them, and what of jobs and assets is due to be erased.

An input is stored once for all who hand in the same bytes, so that putting it there and taking it away meet: whoever
relies on one locks its row (`rely`, `use`) or says so before storing it (`reserve`), and whoever takes it away looks
again under the row's lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, literal_column, select, text, update
from sqlalchemy.dialects.postgresql import insert

from farm.db.rows import AttemptRow, ChunkRow, InputRow, JobRow, MediaUseRow
from farm.db.session import Session
from farm.domain.document import from_document
from farm.domain.order import Blob, Output

_DAY: Final = "* interval '1 day'"
_AT_ONCE: Final = "timestamptz '1970-01-01'"
"""A last use so long ago that it is over whatever the policy says."""


# --- inputs -----------------------------------------------------------------------------------------------------------


def reserve(session: Session, key: str) -> None:
    """Before storing an input: from the commit on nobody takes it away until it is old again."""
    new = insert(InputRow).values(key=key)
    fresh = {"used_at": func.now(), "sweeping": False, "swept_at": None}
    session.execute(new.on_conflict_do_update(index_elements=["key"], set_=fresh))


def rely(session: Session, key: str) -> bool:
    """Hold an input that should be there until the transaction ends; False: it is gone, or about to be."""
    return _used(session, [key])[key] == (False, None)


def use(session: Session, job_id: str, chunk_id: str, blobs: Sequence[Blob]) -> bool:
    """The job needs these inputs, which the holder of `chunk_id` found or stored under its lease. False: one of them
    was taken away meanwhile; then nothing may rely on what it found."""
    keys = sorted({blob.key for blob in blobs})
    found = _used(session, keys)
    leased_at = session.scalars(select(ChunkRow.leased_at).where(ChunkRow.id == chunk_id)).one()
    for sweeping, swept_at in found.values():
        if sweeping or (swept_at is not None and (leased_at is None or swept_at >= leased_at)):
            return False
    session.execute(update(InputRow).where(InputRow.key.in_(keys)).values(swept_at=None))
    rows = [{"media": key, "job_id": job_id} for key in keys]
    session.execute(insert(MediaUseRow).on_conflict_do_nothing(), rows)
    return True


def _used(session: Session, keys: Sequence[str]) -> Mapping[str, tuple[bool, datetime | None]]:
    """Note a use now, in the order of the keys; (sweeping, swept_at) of each, whose rows stay locked."""
    found: dict[str, tuple[bool, datetime | None]] = {}
    for key in keys:
        new = insert(InputRow).values(key=key)
        new = new.on_conflict_do_update(index_elements=["key"], set_={"used_at": func.now()})
        row = session.execute(new.returning(InputRow.sweeping, InputRow.swept_at)).one()
        found[key] = (row.sweeping, row.swept_at)
    return found


def adopt(session: Session, keys: Sequence[str]) -> int:
    """Stored inputs that no row knows: their time begins now."""
    new = text("INSERT INTO inputs (key) SELECT unnest(cast(:keys AS text[])) ON CONFLICT DO NOTHING")
    return _count(session, new, keys=list(keys))


_NEEDED: Final = (
    "(EXISTS (SELECT FROM media_uses u WHERE u.media = i.key)"
    " OR EXISTS (SELECT FROM assets a WHERE a.blob_key = i.key AND a.status = 'ready'))"
)


def inputs_due(session: Session, days: float | None, limit: int) -> list[str]:
    """Inputs that nobody needs any more, now marked as about to go (`sweeping`); those still needed are looked at again
    when they are old once more."""
    query = text(
        "WITH old AS MATERIALIZED (SELECT i.key FROM inputs i WHERE i.swept_at IS NULL"
        f" AND i.used_at <= coalesce(now() - cast(:days AS float8) {_DAY}, {_AT_ONCE})"
        " ORDER BY i.used_at LIMIT :limit FOR UPDATE SKIP LOCKED)"
        f" UPDATE inputs i SET sweeping = NOT {_NEEDED},"
        f"  used_at = CASE WHEN {_NEEDED} THEN now() ELSE i.used_at END"
        " FROM old WHERE i.key = old.key RETURNING i.key, i.sweeping"
    )
    rows = session.execute(query, {"days": days, "limit": limit})
    return sorted(key for key, sweeping in rows if sweeping)


def hold_unneeded(session: Session, key: str) -> bool:
    """Lock an input that is about to go; False where somebody has come to need it, or is about to."""
    locked = text("SELECT i.key FROM inputs i WHERE i.key = :key AND i.sweeping FOR UPDATE SKIP LOCKED")
    if session.execute(locked, {"key": key}).one_or_none() is None:
        return False
    # A statement of its own: it sees what was committed before the lock was had.
    needed = session.execute(text(f"SELECT {_NEEDED} FROM inputs i WHERE i.key = :key"), {"key": key}).scalar_one()
    if needed:
        session.execute(update(InputRow).where(InputRow.key == key).values(sweeping=False, used_at=func.now()))
    return not needed


def set_swept(session: Session, key: str) -> None:
    values = {"sweeping": False, "swept_at": func.clock_timestamp()}
    session.execute(update(InputRow).where(InputRow.key == key).values(**values))


# --- jobs -------------------------------------------------------------------------------------------------------------

_ERASABLE: Final = {
    "chunks": ("chunks_erased_at", "true"),
    # A job that can be retried keeps its pictures with the rest.
    "previews": ("previews_erased_at", "(status = 'succeeded' OR chunks_erased_at IS NOT NULL)"),
    "outputs": ("output_erased_at", "output IS NOT NULL"),
}


def erase_due(session: Session, media: str, days: float | None, limit: int) -> list[str]:
    """Ended jobs whose chunks, previews or outputs are past their time count as without them from the commit on.

    days: the farm's own, where a tenant has no other. Jobs that anybody has locked are passed over.
    """
    column, condition = _ERASABLE[media]
    stamp = "" if media == "chunks" else ", updated_at = now()"
    query = text(
        "WITH due AS MATERIALIZED (SELECT j.id FROM tenants t CROSS JOIN LATERAL ("
        f"  SELECT id FROM jobs WHERE tenant_id = t.id AND finished_at IS NOT NULL AND {column} IS NULL AND {condition}"
        "   AND finished_at <= now() - CASE WHEN t.retention ? :media THEN (t.retention ->> :media)::float8"
        f"   ELSE cast(:days AS float8) END {_DAY}"
        "   ORDER BY finished_at LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED) AS j LIMIT :limit)"
        f" UPDATE jobs SET {column} = now(), sweep_at = now(){stamp} FROM due WHERE jobs.id = due.id RETURNING jobs.id"
    )
    erased = list(session.scalars(query, {"media": media, "days": days, "limit": limit}))
    if media == "chunks":
        free(session, erased, at_once=False)
    return erased


def erase_all(session: Session, job_ids: Sequence[str]) -> None:
    """All media of locked, ended jobs count as gone from the commit on; inputs that nobody else needs go too."""
    values = {
        name: func.coalesce(getattr(JobRow, name), func.now())
        for name in ("chunks_erased_at", "previews_erased_at", "output_erased_at", "deleted_at")
    }
    change = update(JobRow).where(JobRow.id.in_(job_ids)).values(sweep_at=func.now(), updated_at=func.now(), **values)
    session.execute(change, execution_options={"synchronize_session": False})
    free(session, job_ids, at_once=True)


def free(session: Session, job_ids: Sequence[str], *, at_once: bool) -> None:
    """Jobs need their assets and inputs no more: their time runs from the end of the last of them, or is over now
    (for inputs; an asset is its tenant's own)."""
    gone = text("DELETE FROM media_uses WHERE job_id = ANY(:jobs) RETURNING media, job_id")
    freed = sorted({media for media, _ in session.execute(gone, {"jobs": list(job_ids)})})
    if not freed:
        return
    ended = "(SELECT max(finished_at) FROM jobs WHERE id = ANY(:jobs))"
    sent = {"media": freed, "jobs": list(job_ids)}
    # Assets before inputs, as everywhere, and each in its order: nobody waits in a circle.
    session.execute(text("SELECT FROM assets WHERE id = ANY(:media) ORDER BY id FOR NO KEY UPDATE"), {"media": freed})
    session.execute(text(f"UPDATE assets SET used_at = greatest(used_at, {ended}) WHERE id = ANY(:media)"), sent)
    session.execute(text("SELECT FROM inputs WHERE key = ANY(:media) ORDER BY key FOR UPDATE"), {"media": freed})
    then = _AT_ONCE if at_once else f"greatest(used_at, {ended})"
    session.execute(text(f"UPDATE inputs SET used_at = {then} WHERE key = ANY(:media)"), sent)


@dataclass(frozen=True)
class Remains:
    """What of an ended job's objects is still kept; `chunks` are all those that the others do not name."""

    job_id: str
    chunks: bool
    preview_key: str | None
    output_key: str | None
    erased_output_key: str | None


def to_sweep(session: Session, limit: int) -> list[Remains]:
    """Jobs whose objects are to be gone through, the longest due first."""
    query = (
        select(
            JobRow.id,
            JobRow.chunks_erased_at,
            JobRow.previews_erased_at,
            JobRow.output_erased_at,
            JobRow.preview_key,
            JobRow.output,
        )
        .where(JobRow.sweep_at.is_not(None), JobRow.sweep_at <= func.now(), JobRow.finished_at.is_not(None))
        .order_by(JobRow.sweep_at)
        .limit(limit)
    )
    return [_remains(row) for row in session.execute(query)]


def _remains(row: Any) -> Remains:
    output = None if row.output is None else from_document(Output, row.output).blob.key
    return Remains(
        row.id,
        row.chunks_erased_at is None,
        row.preview_key if row.previews_erased_at is None else None,
        output if row.output_erased_at is None else None,
        output if row.output_erased_at is not None else None,
    )


def swept(session: Session, job_id: str, again_s: float) -> None:
    """The job's objects were gone through. Until `again_s` after the last erasure they will be once more: who wrote
    late is found then."""
    query = text(
        "UPDATE jobs SET sweep_at = CASE WHEN e.at + make_interval(secs => :again) <= now() THEN NULL"
        "  ELSE e.at + make_interval(secs => :again) END"
        " FROM (SELECT greatest(chunks_erased_at, previews_erased_at, output_erased_at) AS at FROM jobs WHERE id = :id)"
        " AS e WHERE id = :id"
    )
    session.execute(query, {"id": job_id, "again": again_s})


@dataclass(frozen=True)
class Stray:
    """An attempt that ended without a commit. kept: the pictures of it that are still shown."""

    job_id: str
    chunk_id: str
    token: str
    kept: frozenset[str]


def strays(session: Session, grace_s: float, limit: int) -> list[Stray]:
    """Attempts that ended so long ago without being committed, and whose objects were not gone through since; the
    longest ended first."""
    query = (
        select(ChunkRow.job_id, ChunkRow.id, AttemptRow.token, ChunkRow.preview_key, JobRow.preview_key)
        .join(ChunkRow, ChunkRow.id == AttemptRow.chunk_id)
        .join(JobRow, JobRow.id == ChunkRow.job_id)
        .where(
            literal_column("attempts.outcome IN ('failed', 'returned')"),  # as the index says it
            AttemptRow.swept_at.is_(None),
            AttemptRow.finished_at <= func.now() - func.make_interval(0, 0, 0, 0, 0, 0, grace_s),
        )
        .order_by(AttemptRow.finished_at)
        .limit(limit)
    )
    return [
        Stray(job_id, chunk_id, token, frozenset(key for key in (own, shown) if key is not None))
        for job_id, chunk_id, token, own, shown in session.execute(query)
    ]


def stray_swept(session: Session, token: str) -> None:
    session.execute(update(AttemptRow).where(AttemptRow.token == token).values(swept_at=func.now()))


# --- assets, events ---------------------------------------------------------------------------------------------------


def expire_assets(session: Session, days: float | None, limit: int) -> int:
    """Ready assets past their time that no job needs: their bytes are nobody's. Those still needed are postponed."""
    query = text(
        "WITH due AS MATERIALIZED (SELECT a.id FROM tenants t CROSS JOIN LATERAL ("
        "  SELECT id FROM assets WHERE tenant_id = t.id AND status = 'ready' AND status <> 'expired'"
        "   AND used_at <= now() - CASE WHEN t.retention ? 'assets' THEN (t.retention ->> 'assets')::float8"
        f"   ELSE cast(:days AS float8) END {_DAY} ORDER BY used_at LIMIT :limit FOR UPDATE SKIP LOCKED) AS a"
        "  LIMIT :limit)"
        " UPDATE assets SET used_at = now() FROM due WHERE assets.id = due.id"
        " RETURNING assets.id, EXISTS (SELECT FROM media_uses u WHERE u.media = assets.id) AS needed"
    )
    unneeded = [row.id for row in session.execute(query, {"days": days, "limit": limit}) if not row.needed]
    expire(session, unneeded)
    return len(unneeded)


def is_asset_needed(session: Session, asset_id: str) -> bool:
    """Whether a job that has not ended needs it. Lock the asset first."""
    query = select(MediaUseRow.job_id).join(JobRow, JobRow.id == MediaUseRow.job_id)
    query = query.where(MediaUseRow.media == asset_id, JobRow.finished_at.is_(None)).limit(1)
    return session.scalar(query) is not None


def expire(session: Session, asset_ids: Sequence[str]) -> None:
    """Locked assets lose their bytes; these go at once where no other asset or job needs them."""
    if not asset_ids:
        return
    gone = text(
        "WITH old AS (SELECT id, blob_key FROM assets WHERE id = ANY(:ids))"
        " UPDATE assets SET status = 'expired', expired_at = now(), blob_key = NULL FROM old"
        " WHERE assets.id = old.id RETURNING old.blob_key"
    )
    freed = sorted({key for key in session.scalars(gone, {"ids": list(asset_ids)}) if key is not None})
    session.execute(text("SELECT FROM inputs WHERE key = ANY(:keys) ORDER BY key FOR UPDATE"), {"keys": freed})
    session.execute(text(f"UPDATE inputs SET used_at = {_AT_ONCE} WHERE key = ANY(:keys)"), {"keys": freed})


def uploads_due(session: Session, days: float | None, limit: int) -> list[str]:
    """Assets that were announced long ago and never completed."""
    query = text(
        "SELECT a.id FROM tenants t CROSS JOIN LATERAL ("
        "  SELECT id FROM assets WHERE tenant_id = t.id AND status = 'pending' AND status <> 'expired'"
        "   AND used_at <= now() - CASE WHEN t.retention ? 'uploads' THEN (t.retention ->> 'uploads')::float8"
        f"   ELSE cast(:days AS float8) END {_DAY} ORDER BY used_at LIMIT :limit) AS a LIMIT :limit"
    )
    return list(session.scalars(query, {"days": days, "limit": limit}))


def expire_pending(session: Session, asset_id: str) -> bool:
    """False where it was completed meanwhile."""
    locked = text("SELECT FROM assets WHERE id = :id AND status = 'pending' FOR UPDATE SKIP LOCKED")
    if session.execute(locked, {"id": asset_id}).first() is None:
        return False
    expire(session, [asset_id])
    return True


def forget_events(session: Session, days: float | None, limit: int) -> int:
    """Events of batches that ended long ago."""
    query = text(
        "DELETE FROM events WHERE id IN (SELECT e.id FROM events e JOIN batches b ON b.id = e.batch_id"
        f" WHERE b.finished_at <= now() - cast(:days AS float8) {_DAY}"
        f" AND e.at <= now() - cast(:days AS float8) {_DAY} ORDER BY e.id LIMIT :limit)"
    )
    return _count(session, query, days=days, limit=limit)


def _count(session: Session, statement: Any, **values: Any) -> int:
    result: Any = session.execute(statement, values)
    return int(result.rowcount)
