"""Consents to training, and the source videos that they let go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import func, literal_column, select, text, update
from sqlalchemy.dialects.postgresql import insert

from farm.db import bulk
from farm.db import cursor as cursors
from farm.db.rows import ConsentRow
from farm.db.session import Session
from farm.domain.batch import Rights, TrainingConsent
from farm.domain.consent import ConsentedClip, GivenConsent
from farm.domain.document import from_document
from farm.domain.order import Blob
from farm.domain.views import Page


def add(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Of jobs that are new in this transaction."""
    bulk.copy(session, ConsentRow, rows)


def give(session: Session, tenant_id: str, job_id: str, consent: TrainingConsent, asked_by: str | None) -> None:
    """For a job of the tenant; one that was withdrawn holds again."""
    values = {"statement": consent.statement, "reference": consent.reference, "asked_by": asked_by}
    new = insert(ConsentRow).values(job_id=job_id, tenant_id=tenant_id, **values)
    again = values | {"given_at": func.now(), "withdrawn_at": None, "withdrawn_by": None}
    session.execute(new.on_conflict_do_update(index_elements=["job_id"], set_=again))


def get(session: Session, tenant_id: str, job_id: str) -> GivenConsent | None:
    query = select(ConsentRow).where(ConsentRow.job_id == job_id, ConsentRow.tenant_id == tenant_id)
    row = session.scalar(query.execution_options(populate_existing=True))
    if row is None:
        return None
    consent = TrainingConsent(row.statement, row.reference)
    return GivenConsent(row.job_id, consent, row.asked_by, row.given_at, row.withdrawn_at, row.withdrawn_by)


def withdraw(session: Session, job_id: str, by: str | None) -> bool:
    """False where it was withdrawn before."""
    gone = (
        update(ConsentRow)
        .where(ConsentRow.job_id == job_id, ConsentRow.withdrawn_at.is_(None))
        .values(withdrawn_at=func.now(), withdrawn_by=by)
        .returning(literal_column("1"))
    )
    return session.scalar(gone, execution_options={"synchronize_session": False}) is not None


# A video goes out only where every consent to its very bytes still holds: who appears in it is the same for all jobs.
_CLIPS: Final = """
    select c.job_id, c.tenant_id, c.statement, c.reference, c.asked_by, c.given_at, j.rights,
        j.plan -> 'source' as source
    from training_consents c
    join jobs j on j.id = c.job_id
    join inputs i on i.key = j.plan -> 'source' ->> 'key' and i.swept_at is null and not i.sweeping
    where c.withdrawn_at is null and j.kind = 'dub' and j.status = 'succeeded' and j.deleted_at is null
        and not exists (
            select from training_consents o join jobs k on k.id = o.job_id
            where o.withdrawn_at is not null and k.plan -> 'source' ->> 'sha256' = j.plan -> 'source' ->> 'sha256'
        )
"""


def clips(session: Session, cursor: str | None, page_size: int) -> Page[ConsentedClip]:
    """In the order of the jobs. Rejected("cursor_invalid")."""
    after = "" if cursor is None else str(cursors.decode("consents", cursor))
    query = text(f"{_CLIPS} and c.job_id > :after order by c.job_id limit :limit")
    rows = session.execute(query, {"after": after, "limit": cursors.limit(page_size)}).all()
    return cursors.page([_clip(row) for row in rows], page_size, "consents", lambda clip: clip.job_id)


def clip(session: Session, job_id: str) -> ConsentedClip | None:
    row = session.execute(text(f"{_CLIPS} and c.job_id = :job"), {"job": job_id}).one_or_none()
    return None if row is None else _clip(row)


def _clip(row: Any) -> ConsentedClip:
    rights = None if row.rights is None else from_document(Rights, row.rights)
    consent = TrainingConsent(row.statement, row.reference)
    source = from_document(Blob, row.source)
    return ConsentedClip(row.job_id, row.tenant_id, consent, rights, row.asked_by, row.given_at, source)
