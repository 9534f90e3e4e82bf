"""Tenants' shares of the queues: who may be handed work at all. What each has had is counted by farm_claim itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import func, select, text

from farm.db.rows import ChunkRow, ShareRow, TenantRow, is_leased
from farm.db.session import Session, run

_CLAIMABLE: Final = """exists (select from chunks c where c.queue = s.queue and c.tenant_id = s.tenant_id
    and c.status = 'waiting' and not c.held and c.available_at <= now())"""
# Where nobody is active, all are level with whoever has had the most.
_LEVEL: Final = """coalesce((select min(x.virtual_time) from shares x where x.queue = s.queue and x.active),
    (select max(x.virtual_time) from shares x where x.queue = s.queue), 0)"""

_IS_ACTIVE: Final = "select 1 from shares where tenant_id = %(tenant)s and queue = %(queue)s and active"
_WAKE: Final = text(
    f"""insert into shares (tenant_id, queue, virtual_time, active)
    select s.tenant_id, s.queue, {_LEVEL}, true
    from (select cast(:tenant as text) as tenant_id, cast(:queue as text) as queue) s
    on conflict (tenant_id, queue) do update
    set active = true, virtual_time = greatest(shares.virtual_time, excluded.virtual_time) where not shares.active"""
)
# Chunks that an older release of the farm has written may have no row at all.
_MEET: Final = text(
    f"""insert into shares (tenant_id, queue, virtual_time)
    select s.tenant_id, s.queue, {_LEVEL}
    from (select t.id as tenant_id, q as queue from tenants t, unnest(cast(:queues as text[])) q) s
    where not exists (select from shares x where x.tenant_id = s.tenant_id and x.queue = s.queue) and {_CLAIMABLE}
    on conflict do nothing"""
)
_PUT_ASIDE: Final = text(
    f"""update shares set active = false from (
        select s.tenant_id, s.queue from shares s where s.active and not {_CLAIMABLE}
        order by s.tenant_id, s.queue for no key update skip locked
    ) s where shares.tenant_id = s.tenant_id and shares.queue = s.queue"""
)
_TAKE_UP: Final = text(
    f"""update shares set active = true, virtual_time = greatest(shares.virtual_time, {_LEVEL}) from (
        select s.tenant_id, s.queue from shares s where not s.active and {_CLAIMABLE}
        order by s.tenant_id, s.queue for no key update skip locked
    ) s where shares.tenant_id = s.tenant_id and shares.queue = s.queue"""
)


def wake(session: Session, tenant_id: str, queues: Iterable[str]) -> None:
    """A tenant has claimable chunks again. Who was idle starts level with the others: idle time is no credit."""
    for queue in sorted(set(queues)):
        values = {"tenant": tenant_id, "queue": queue}
        # Looked at first: nobody waits for the lock of a share that is active already.
        if not run(session, _IS_ACTIVE, values):
            session.execute(_WAKE, values)


def tend(session: Session, queues: Sequence[str]) -> None:
    """Make `active` true again: off for tenants with nothing to claim, on for those whose chunks became claimable.

    A chunk that was added at the very moment when its tenant was put aside is seen the next time.
    """
    session.execute(_MEET, {"queues": list(queues)})
    session.execute(_PUT_ASIDE)
    session.execute(_TAKE_UP)


def reached_cap(session: Session, tenant_id: str, queue: str) -> int | None:
    """The tenant's cap of chunks in flight on a queue, where it is reached; None where there is room."""
    cap = session.scalar(select(TenantRow.max_in_flight).where(TenantRow.id == tenant_id))
    if cap is None:
        return None
    held = select(ChunkRow.id).where(ChunkRow.tenant_id == tenant_id, ChunkRow.queue == queue, is_leased).limit(cap)
    return cap if session.scalars(select(func.count()).select_from(held.subquery())).one() >= cap else None


def part(session: Session, tenant_id: str, queue: str) -> float:
    """The part of a queue's workers that falls to a tenant while all that are active have work; 1 when it is alone."""
    mine = TenantRow.id == tenant_id
    query = (
        select(func.sum(TenantRow.weight).filter(mine), func.sum(TenantRow.weight))
        .join(ShareRow, ShareRow.tenant_id == TenantRow.id)
        .where(ShareRow.queue == queue, ShareRow.active | mine)
    )
    own, total = session.execute(query).one()
    return own / total if own else 1.0
