"""Workers and queues as operators read them, and what workers write of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, extract, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import aliased

from farm.db import fleet, leases
from farm.db.ledger import seconds_from_now
from farm.db.rows import AttemptRow, ChunkRow, WorkerRow, has_failed, is_held, is_leased, is_waiting
from farm.db.session import Session, run
from farm.domain.alias import BundleNote
from farm.domain.chunk import ChunkStatus, Reason
from farm.domain.document import from_document
from farm.domain.placement import QUEUES
from farm.domain.retry import BLAMED
from farm.domain.views import QueueView, WorkerView

COUNTED = 100_000


def listed(session: Session) -> tuple[WorkerView, ...]:
    """All workers that have not left, by host and id."""
    return _views(session, WorkerRow.left_at.is_(None))


def get(session: Session, worker_id: str) -> WorkerView | None:
    views = _views(session, WorkerRow.id == worker_id)
    return views[0] if views else None


def put(session: Session, **values: Any) -> None:
    """Insert a worker, or renew the row of one that comes back."""
    statement = insert(WorkerRow).values(**values)
    fresh = {
        "draining": False,
        "left_at": None,
        "started_at": func.now(),
        "heartbeat_at": func.now(),
        "version_id": None,
        "bundles": {},
    }
    renewed = {key: value for key, value in values.items() if key != "id"} | fresh
    session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=renewed))


def change(session: Session, worker_id: str, **values: Any) -> bool:
    """False when there is no such worker."""
    statement = update(WorkerRow).where(WorkerRow.id == worker_id).values(**values).returning(WorkerRow.id)
    return session.scalar(statement, execution_options={"synchronize_session": False}) is not None


def note(
    session: Session,
    worker_id: str,
    *,
    version_id: str | None = None,
    frames_per_s: float | None = None,
    speeds: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """A sign of life, with what is known anew."""
    known = {"version_id": version_id, "frames_per_s": frames_per_s, "speeds": speeds}
    change(session, worker_id, heartbeat_at=func.now(), **{k: v for k, v in known.items() if v is not None})


def note_bundles(session: Session, worker_id: str, notes: Mapping[str, Any]) -> None:
    """What a worker says of versions' files; nothing is written where it says what it said before."""
    fresh = update(WorkerRow).where(WorkerRow.id == worker_id, WorkerRow.bundles != notes).values(bundles=notes)
    session.execute(fresh, execution_options={"synchronize_session": False})


def is_kept_out(session: Session, worker_id: str) -> bool:
    """Draining, or in quarantine now."""
    in_quarantine = func.coalesce(WorkerRow.quarantined_until > func.now(), False)
    return bool(session.scalar(select(WorkerRow.draining | in_quarantine).where(WorkerRow.id == worker_id)))


def leave(session: Session, worker_id: str) -> None:
    change(session, worker_id, left_at=func.now())


def resume(session: Session, worker_id: str) -> bool:
    return change(
        session,
        worker_id,
        draining=False,
        quarantined_until=None,
        quarantine_reason=None,
        quarantines=0,
        forgiven_at=func.now(),
    )


def is_on_trial(session: Session, worker_id: str) -> bool:
    """After its quarantine, before its next chunk has ended."""
    found = "select 1 from workers where id = %(id)s and quarantined_until <= now()"
    return bool(run(session, found, {"id": worker_id}))


def end_trial(session: Session, worker_id: str) -> None:
    if is_on_trial(session, worker_id):
        change(session, worker_id, quarantined_until=None, quarantine_reason=None)


def quarantines(session: Session, worker_id: str) -> int:
    """How many quarantines a worker has had in a row; a day without one ends the row."""
    fresh = WorkerRow.forgiven_at > seconds_from_now(-86_400.0)
    query = select(WorkerRow.quarantines).where(WorkerRow.id == worker_id, fresh)
    return session.scalar(query) or 0


def quarantine(session: Session, worker_id: str, seconds: float, reason: str) -> bool:
    """False where it is in quarantine already, or unknown. Its failures so far are settled with that."""
    before = quarantines(session, worker_id)
    free = WorkerRow.quarantined_until.is_(None) | (WorkerRow.quarantined_until <= func.now())
    statement = (
        update(WorkerRow)
        .where(WorkerRow.id == worker_id, free)
        .values(
            quarantined_until=seconds_from_now(seconds),
            quarantine_reason=reason,
            quarantines=before + 1,
            forgiven_at=func.now(),
        )
        .returning(WorkerRow.id)
    )
    return session.scalar(statement, execution_options={"synchronize_session": False}) is not None


def failures(session: Session, window_s: float) -> Mapping[str, int]:
    """By worker, the chunks that it failed lately, since it was last forgiven, and that others have finished."""
    later = aliased(AttemptRow)
    own = select(later.number).where(
        later.chunk_id == AttemptRow.chunk_id, later.worker_id == AttemptRow.worker_id, later.outcome == "succeeded"
    )
    sooner = aliased(AttemptRow)
    oom_again = select(sooner.number).where(
        sooner.chunk_id == AttemptRow.chunk_id,
        sooner.worker_id == AttemptRow.worker_id,
        sooner.number < AttemptRow.number,
        sooner.reason == Reason.OOM,
        AttemptRow.reason == Reason.OOM,
    )
    query = (
        select(AttemptRow.worker_id, func.count(func.distinct(AttemptRow.chunk_id)))
        .join(WorkerRow, WorkerRow.id == AttemptRow.worker_id)
        .join(ChunkRow, ChunkRow.id == AttemptRow.chunk_id)
        .where(
            has_failed,
            AttemptRow.finished_at > func.greatest(WorkerRow.forgiven_at, seconds_from_now(-window_s)),
            AttemptRow.reason.in_(BLAMED) | oom_again.exists(),
            ChunkRow.status == ChunkStatus.SUCCEEDED,
            ~own.exists(),
            fleet.alive,
        )
        .group_by(AttemptRow.worker_id)
    )
    return dict(session.execute(query).all())


def queues(session: Session) -> tuple[QueueView, ...]:
    """Depths of every queue. `waiting`, `delayed` and `held` are counted up to 100,000."""
    serving = fleet.serving_by_queue(session)
    leased = leases.leased_by_queue(session)
    return tuple(
        _queue(session, name, leased.get(name, 0), serving.get(name, 0))
        for name in leases.queues_in_use(session, QUEUES)
    )


def _queue(session: Session, name: str, leased: int, workers: int) -> QueueView:
    waits = (ChunkRow.queue == name) & (is_waiting)
    first = (
        select(extract("epoch", func.now() - ChunkRow.available_at).label("age"))
        .where(ChunkRow.queue == name, leases.claimable)
        .limit(COUNTED)
        .subquery()
    )
    oldest = session.scalar(select(func.max(first.c.age)))
    return QueueView(
        queue=name,
        waiting=leases.count_claimable(session, name, COUNTED),
        delayed=_count(session, waits & ~is_held & (ChunkRow.available_at > func.now())),
        held=_count(session, waits & is_held),
        leased=leased,
        workers=workers,
        oldest_waiting_s=None if oldest is None else float(oldest),
    )


def _count(session: Session, condition: ColumnElement[bool]) -> int:
    some = select(ChunkRow.id).where(condition).limit(COUNTED).subquery()
    return session.scalars(select(func.count()).select_from(some)).one()


def _views(session: Session, condition: ColumnElement[bool]) -> tuple[WorkerView, ...]:
    query = (
        select(WorkerRow, fleet.alive.label("alive"), ChunkRow.id, ChunkRow.job_id)
        .outerjoin(ChunkRow, (ChunkRow.worker_id == WorkerRow.id) & is_leased)
        .where(condition)
        .order_by(WorkerRow.host, WorkerRow.id)
        .execution_options(populate_existing=True)
    )
    views: dict[str, WorkerView] = {}
    for row, alive, chunk_id, job_id in session.execute(query):
        views.setdefault(
            row.id,
            WorkerView(
                id=row.id,
                host=row.host,
                device=row.device,
                queues=tuple(row.queues),
                version_id=row.version_id,
                chunk_id=chunk_id,
                job_id=job_id,
                frames_per_s=row.frames_per_s,
                alive=bool(alive),
                draining=row.draining,
                quarantined_until=row.quarantined_until,
                quarantine_reason=row.quarantine_reason,
                info=row.info,
                bundles={key: from_document(BundleNote, note) for key, note in row.bundles.items()},
                started_at=row.started_at,
                heartbeat_at=row.heartbeat_at,
            ),
        )
    return tuple(views.values())


WORKER_LOST_S = fleet.WORKER_LOST_S
