"""What versions' chunks scored, summed over jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import text

from farm.db.session import Session
from farm.domain.canary import FAILED, MOST_JOBS, Sums

_SUMS: Final = text(
    """
    with chosen as (
        select version.id as version_id, job.id
        from unnest(cast(:versions as text[])) as version (id)
        cross join lateral (
            select id from jobs
            where version_id = version.id
                and (not cast(:cohorts as boolean) or cohort is not null)
                and (cast(:since as timestamptz) is null or created_at >= :since)
            order by created_at desc limit :most
        ) as job
    ),
    scored as (
        select chosen.version_id, chosen.id, score.key as score, count(*) as n, sum(cast(score.value as float8)) as s
        from chosen
        join chunks on chunks.job_id = chosen.id and chunks.work = 'render' and chunks.status = 'succeeded'
        cross join lateral jsonb_each_text(coalesce(chunks.segment -> 'scores', '{}')) as score
        group by 1, 2, 3
        union all
        select chosen.version_id, chosen.id, :failed, count(*),
            cast(count(*) filter (where attempts.outcome = 'failed') as float8)
        from chosen
        join chunks on chunks.job_id = chosen.id and chunks.work = 'render'
        join attempts on attempts.chunk_id = chunks.id
        where attempts.outcome = 'succeeded' or attempts.outcome = 'failed' and (
            attempts.reason in ('output_check_failed', 'bug', 'timeout', 'stalled', 'oom', 'bad_bundle')
            or attempts.code in ('bundle_corrupt', 'bundle_missing', 'blob_missing')
        )
        group by 1, 2
    )
    select version_id, score, count(*) as jobs, sum(n) as n, sum(s) as s, sum(n * n) as nn, sum(n * s) as ns,
        sum(s * s) as ss
    from scored group by 1, 2
    """
)


def sums(
    session: Session, versions: Sequence[str], *, since: datetime | None = None, cohorts: bool = False
) -> Mapping[str, Mapping[str, Sums]]:
    """By version, by score, and `failed`. since: of jobs submitted from then on. cohorts: only of jobs that were shared
    out between a champion and a canary, which are alike."""
    values = {"versions": list(versions), "since": since, "cohorts": cohorts, "most": MOST_JOBS, "failed": FAILED}
    found: dict[str, dict[str, Sums]] = {version: {} for version in versions}
    for row in session.execute(_SUMS, values):
        numbers = (float(row.n), float(row.s), float(row.nn), float(row.ns), float(row.ss))
        found[row.version_id][row.score] = Sums(row.jobs, *numbers)
    return found
