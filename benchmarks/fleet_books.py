"""What the rows say after a fleet was at work: who got how much, whether caps held, whether the books are in order."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

import sqlalchemy as sa

from farm.db.census import audit
from farm.db.session import Database


def now(database: Database) -> datetime:
    with database.transaction() as session:
        return session.execute(sa.text("select clock_timestamp()")).scalar_one()


def handed_out(database: Database) -> dict[str, int]:
    """Claims so far, by tenant."""
    with database.transaction() as session:
        return dict(session.execute(sa.text("select tenant_id, count(*) from attempts group by tenant_id")).all())


def fair_error(
    database: Database, weights: Mapping[str, float], capped: Collection[str], since: datetime, until: datetime
) -> float:
    """The largest distance of a tenant's part of what was handed out between two moments from its weight's, as a part
    of the latter. In frames, of all attempts of the time; tenants with a cap apart."""
    with database.transaction() as session:
        found = dict(session.execute(sa.text(_FRAMES), {"since": since, "until": until}).all())
    frames = {tenant: found.get(tenant, 0) for tenant in weights if tenant not in capped}
    had, weight = sum(frames.values()), sum(weights[tenant] for tenant in frames)
    return max(abs(frames[tenant] / had / (weights[tenant] / weight) - 1) for tenant in frames)


# A chunk counts for no less than farm_claim charges for one.
_FRAMES = """
select a.tenant_id, sum(greatest(c.stop - c.start, 25)) from attempts a join chunks c on c.id = a.chunk_id
where a.started_at between :since and :until group by a.tenant_id
"""


def most_over_cap(database: Database) -> int:
    """Of all tenants with a cap, the most leases at once beyond it, by the times of all attempts; 0 or less is well."""
    with database.transaction() as session:
        return int(session.scalar(sa.text(_OVER_CAP)) or 0)


_OVER_CAP = """
select max(held - max_in_flight) from (
    select t.max_in_flight, sum(step) over (partition by e.tenant_id order by e.at, e.step) held from (
        select tenant_id, started_at at, 1 step from attempts union all
        select tenant_id, finished_at, -1 from attempts where finished_at is not null) e
    join tenants t on t.id = e.tenant_id where t.max_in_flight is not null) s
"""


def audited(database: Database) -> list[str]:
    """What is wrong, a line each."""
    with database.transaction() as session:
        residue = session.scalar(sa.text("select count(*) from chunks where status = 'leased'"))
        return audit(session) + ([f"{residue} leases are left"] if residue else [])
