"""Consent to training on a job's source video is given and withdrawn, audited; without it nothing of a job is trained
on."""

from __future__ import annotations

from farm.db import consents, jobs
from farm.db.session import Session
from farm.domain.audit import Action
from farm.domain.batch import TrainingConsent
from farm.domain.consent import GivenConsent
from farm.domain.document import to_document
from farm.domain.job import Kind
from farm.domain.tenant import FARM, Actor
from farm.errors import Rejected
from farm.flow import audit


def give(
    session: Session, tenant_id: str, job_id: str, consent: TrainingConsent, *, actor: Actor = FARM
) -> GivenConsent:
    """The source video of a dub may be trained on from when it has succeeded. Saying the same again changes nothing.
    Rejected("not_found", "no_source_video")."""
    view = jobs.get(session, tenant_id, job_id)
    if view is None:
        raise Rejected("not_found", f"there is no job {job_id}")
    if view.kind is not Kind.DUB:
        raise Rejected("no_source_video", f"{job_id} is to {view.kind}: only a dub's source is a video to train on")
    found = consents.get(session, tenant_id, job_id)
    if found is None or found.withdrawn_at is not None or found.consent != consent:
        consents.give(session, tenant_id, job_id, consent, actor.key_id)
        detail = to_document(consent)
        audit.record(session, actor, Action.CONSENT_GIVEN, job_id, detail, tenant_id=tenant_id)
    return get(session, tenant_id, job_id)


def withdraw(session: Session, tenant_id: str, job_id: str, *, actor: Actor = FARM) -> GivenConsent:
    """The video is in no later export, also where other jobs have the same bytes. Repeatable. Rejected("not_found")."""
    found = get(session, tenant_id, job_id)
    if consents.withdraw(session, job_id, actor.key_id):
        detail: dict[str, object] = {"statement": found.consent.statement, "given_at": found.given_at.isoformat()}
        audit.record(session, actor, Action.CONSENT_WITHDRAWN, job_id, detail, tenant_id=tenant_id)
    return get(session, tenant_id, job_id)


def get(session: Session, tenant_id: str, job_id: str) -> GivenConsent:
    """Rejected("not_found")."""
    found = consents.get(session, tenant_id, job_id)
    if found is None:
        raise Rejected("not_found", f"nobody has consented to training on {job_id}")
    return found
