"""A batch comes in: everything wrong with it at once, or its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC

from farm import trace
from farm.db import assets as asset_rows
from farm.db import batches, consents, jobs, leases, ledger, shares, standing
from farm.db.session import Session
from farm.domain.alias import Cohort, cohort_of
from farm.domain.asset import AssetStatus
from farm.domain.audit import Action
from farm.domain.batch import BatchSpec
from farm.domain.chunk import ChunkStatus, Work
from farm.domain.document import to_document
from farm.domain.event import EventKind
from farm.domain.ids import new_id
from farm.domain.job import BatchStatus, JobStatus
from farm.domain.limits import InputLimits
from farm.domain.placement import queue_for
from farm.domain.submission import media_of, problems
from farm.domain.tenant import FARM, Actor
from farm.domain.version import CHAMPION, Version
from farm.domain.views import BatchView
from farm.errors import Problem, Rejected
from farm.flow import audit, tenants, versions
from farm.storage import fetch


def check(session: Session, tenant_id: str, spec: BatchSpec, limits: InputLimits) -> tuple[Problem, ...]:
    """All problems of a submission, with JSON pointers into API.md's body (`/items/3/audio/uri`); stores nothing."""
    return _check(session, tenant_id, spec, limits)[0]


def submit(session: Session, tenant_id: str, spec: BatchSpec, limits: InputLimits, *, actor: Actor = FARM) -> BatchView:
    """Write a batch, its jobs (validating) and their plan chunks (waiting), with the model version pinned: of a batch
    that asks for champion, a running canary's share of the jobs gets the canary.

    Raises Rejected("batch_invalid") holding every problem of `check`, and Rejected("quota_exceeded").
    """
    found, version = _check(session, tenant_id, spec, limits, hold=True)
    if found or version is None:
        raise Rejected("batch_invalid", f"{len(found)} problems; nothing was stored", problems=found)
    tenants.check_quotas(session, tenant_id, jobs=len(spec.items))
    with trace.span("submit", jobs=len(spec.items)):
        batch_id = _write(session, tenant_id, spec, version, actor)
    view = batches.get(session, tenant_id, batch_id)
    assert view is not None
    return view


def _check(
    session: Session, tenant_id: str, spec: BatchSpec, limits: InputLimits, *, hold: bool = False
) -> tuple[tuple[Problem, ...], Version | None]:
    found = problems(spec)
    version = versions.resolve(session, spec.model)
    if version is None:
        found.append(Problem("model_not_found", f"no alias or version is called {spec.model!r}", "/model"))
    elif version.unusable is not None:
        found.append(
            Problem("version_unusable", f"{version.name} cannot be rendered with: {version.unusable}", "/model")
        )
    if spec.deadline is not None:
        deadline = spec.deadline if spec.deadline.tzinfo is not None else spec.deadline.replace(tzinfo=UTC)
        if deadline <= ledger.database_time(session):
            found.append(Problem("deadline_passed", "the deadline is in the past", "/deadline"))
    found += _media_problems(session, tenant_id, spec, limits, hold)
    return tuple(found), version


def _media_problems(
    session: Session, tenant_id: str, spec: BatchSpec, limits: InputLimits, hold: bool
) -> Iterator[Problem]:
    named = {asset_id for item in spec.items for asset_id in leases.asset_ids(item)}
    status = asset_rows.statuses(session, tenant_id, named, hold=hold) if named else {}
    checked: dict[str, Rejected | None] = {}
    for k, item in enumerate(spec.items):
        for pointer, media in media_of(item):
            where = f"/items/{k}{pointer}"
            if media.asset_id is not None:
                yield from _asset_problems(media.asset_id, status, f"{where}/asset_id")
            if media.uri is not None and (refused := _refused(media.uri, limits, checked)):
                yield Problem(refused.code, refused.detail, f"{where}/uri")
        destination = item.output.destination
        if destination is not None and (refused := _refused_destination(destination, limits)):
            yield Problem(refused.code, refused.detail, f"/items/{k}/output/destination")


def _asset_problems(asset_id: str, status: Mapping[str, AssetStatus], pointer: str) -> Iterator[Problem]:
    if asset_id not in status:
        yield Problem("asset_not_found", f"there is no asset {asset_id}", pointer)
    elif status[asset_id] is AssetStatus.EXPIRED:
        yield Problem("asset_expired", f"the bytes of asset {asset_id} have been erased; upload them again", pointer)
    elif status[asset_id] is not AssetStatus.READY:
        yield Problem("asset_not_ready", f"asset {asset_id} has not been completed", pointer)


def _refused(uri: str, limits: InputLimits, checked: dict[str, Rejected | None]) -> Rejected | None:
    """What the text of a uri alone has against it; a source shared by thousands of items is looked at once."""
    if uri not in checked:
        try:
            fetch.check_uri(uri, limits)
            checked[uri] = None
        except Rejected as error:
            checked[uri] = error
    return checked[uri]


def _refused_destination(uri: str, limits: InputLimits) -> Rejected | None:
    try:
        fetch.check_destination(uri, limits)
    except Rejected as error:
        return error
    return None


def _write(session: Session, tenant_id: str, spec: BatchSpec, version: Version, actor: Actor) -> str:
    batch_id, queues = new_id("bat"), {version.id: queue_for(version.manifest)}
    canary = versions.canary(session) if spec.model == CHAMPION else None
    share = None
    if canary is not None:
        share = canary.share
        queues[canary.version.id] = queue_for(canary.version.manifest)
    batches.add(
        session,
        id=batch_id,
        tenant_id=tenant_id,
        name=spec.name,
        status=BatchStatus.RUNNING,
        priority=spec.priority,
        model=spec.model,
        version_id=version.id,
        deadline=spec.deadline,
        user_metadata=dict(spec.metadata),
        asked_by=actor.key_id,
        jobs_total=len(spec.items),
        jobs_queued=len(spec.items),
        traceparent=trace.traceparent(),
    )
    job_rows: list[dict[str, object]] = []
    chunk_rows: list[dict[str, object]] = []
    use_rows: list[dict[str, object]] = []
    consent_rows: list[dict[str, object]] = []
    rights = spec.rights or (None,) * len(spec.items)
    agreed = spec.consents or (None,) * len(spec.items)
    for k, (item, number) in enumerate(zip(spec.items, jobs.numbers(session, len(spec.items)), strict=True)):
        job_id = new_id("job")
        cohort = cohort_of(job_id, share)
        its = canary.version.id if canary is not None and cohort is Cohort.CANARY else version.id
        shared = {"tenant_id": tenant_id, "priority": spec.priority, "version_id": its}
        job_rows.append(
            {
                "id": job_id,
                "number": number,
                "batch_id": batch_id,
                "ordinal": k,
                "custom_id": item.custom_id,
                "kind": item.kind,
                "status": JobStatus.VALIDATING,
                "status_reason": "submitted",
                "cohort": cohort,
                "deadline": spec.deadline,
                "spec": to_document(item),
                "rights": to_document(rights[k]),
                **shared,
            }
        )
        chunk_rows.append(
            {
                "id": new_id("chk"),
                "job_id": job_id,
                "job_number": number,
                "ordinal": 0,
                "work": Work.PLAN,
                "status": ChunkStatus.WAITING,
                "queue": queues[its],
                **shared,
            }
        )
        if (consent := agreed[k]) is not None:
            of = {"job_id": job_id, "tenant_id": tenant_id, "asked_by": actor.key_id}
            consent_rows.append(of | {"statement": consent.statement, "reference": consent.reference})
        for asset_id in leases.asset_ids(item):
            use_rows.append({"media": asset_id, "job_id": job_id})
    jobs.add(session, job_rows, chunk_rows, use_rows)
    consents.add(session, consent_rows)
    shares.wake(session, tenant_id, {queues[str(row["version_id"])] for row in job_rows})
    told = {"jobs": len(spec.items)} | ({"training_consents": len(consent_rows)} if consent_rows else {})
    audit.record(session, actor, Action.BATCH_SUBMITTED, batch_id, told, tenant_id=tenant_id)
    standing.add_events(session, [(EventKind.BATCH_CREATED, tenant_id, batch_id, None, {"jobs": len(spec.items)})])
    return batch_id
