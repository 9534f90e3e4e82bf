"""Versions, aliases and the aliases' history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from farm.db import fleet
from farm.db.ledger import seconds_from_now
from farm.db.rows import AliasMoveRow, AliasRow, ModelRow, StagingRow, VersionRow, WorkerRow
from farm.db.session import Session
from farm.domain.alias import Alias, BundleState, Move, Staging, WantedBundle
from farm.domain.canary import Rules
from farm.domain.document import from_document, to_document
from farm.domain.gate import Decision, Gate
from farm.domain.placement import queue_for
from farm.domain.version import CANARY, MODEL, Lineage, ReportFile, Version


@dataclass(frozen=True)
class AliasMove:
    """kind: "promote", "rollback", "share" (only that changed) or "stop" (of a canary that was worse)."""

    alias: str
    kind: str
    version_id: str
    previous_version_id: str | None
    actor: str
    share: float | None
    forced: bool
    reasons: tuple[str, ...]
    at: datetime


def get(session: Session, version_id: str) -> Version | None:
    return _version(session.get(VersionRow, version_id))


def named(session: Session, model: str, name: str) -> Version | None:
    return _version(session.scalar(select(VersionRow).where(VersionRow.model == model, VersionRow.name == name)))


def aliased(session: Session, model: str, alias: str) -> Version | None:
    query = (
        select(VersionRow)
        .join(AliasRow, AliasRow.version_id == VersionRow.id)
        .where(AliasRow.model == model, AliasRow.name == alias)
    )
    return _version(session.scalar(query))


def listed(session: Session, model: str = MODEL) -> tuple[Version, ...]:
    """All versions of a model, newest first."""
    query = select(VersionRow).where(VersionRow.model == model).order_by(VersionRow.id.desc())
    return tuple(_some(row) for row in session.scalars(query))


def models(session: Session) -> tuple[str, ...]:
    return tuple(session.scalars(select(ModelRow.name).order_by(ModelRow.name)))


def aliases(session: Session, model: str = MODEL) -> tuple[Alias, ...]:
    query = select(AliasRow).where(AliasRow.model == model).order_by(AliasRow.name)
    return tuple(_alias(row) for row in session.scalars(query.execution_options(populate_existing=True)))


def alias(session: Session, name: str, model: str = MODEL, *, lock: bool = False) -> Alias | None:
    """lock: nobody else moves it before this transaction ends."""
    query = select(AliasRow).where(AliasRow.model == model, AliasRow.name == name)
    query = query.execution_options(populate_existing=True)
    row = session.scalar(query.with_for_update() if lock else query)
    return None if row is None else _alias(row)


def _alias(row: AliasRow) -> Alias:
    return Alias(row.model, row.name, row.version_id, row.share, row.revision, row.since, row.updated_at)


def history(session: Session, alias: str, model: str = MODEL, limit: int | None = None) -> tuple[AliasMove, ...]:
    """Moves of an alias, newest first."""
    query = (
        select(AliasMoveRow)
        .where(AliasMoveRow.model == model, AliasMoveRow.alias == alias)
        .order_by(AliasMoveRow.id.desc())
        .limit(limit)
    )
    return tuple(
        AliasMove(
            row.alias,
            row.kind,
            row.version_id,
            row.previous_version_id,
            row.actor,
            row.share,
            row.forced,
            tuple(row.reasons),
            row.at,
        )
        for row in session.scalars(query)
    )


def add(session: Session, version: Version) -> bool:
    """False when the model has a version of this name already (also one that another request adds just now)."""
    session.execute(insert(ModelRow).values(name=version.model).on_conflict_do_nothing())
    added = (
        insert(VersionRow)
        .values(
            id=version.id,
            model=version.model,
            name=version.name,
            bundle_key=version.bundle_key,
            bundle_sha256=version.bundle_sha256,
            manifest=dict(version.manifest),
            trained=version.trained,
            licence=version.licence,
            lineage=to_document(version.lineage),
            evaluation=None if version.evaluation is None else dict(version.evaluation),
            reports=to_document(version.reports),
            gate=to_document(version.gate),
        )
        .on_conflict_do_nothing(index_elements=["model", "name"])
        .returning(VersionRow.id)
    )
    return session.scalar(added) is not None


def evaluations(session: Session, model: str = MODEL) -> tuple[Mapping[str, Any], ...]:
    query = select(VersionRow.evaluation).where(VersionRow.model == model, VersionRow.evaluation.is_not(None))
    return tuple(found for found in session.scalars(query) if found is not None)


def gate(session: Session, model: str = MODEL) -> Gate | None:
    """The model's own gate; None where nobody set one."""
    document = session.scalar(select(ModelRow.gate).where(ModelRow.name == model))
    return None if document is None else from_document(Gate, document)


def set_gate(session: Session, model: str, gate: Gate | None) -> None:
    document = None if gate is None else to_document(gate)
    statement = insert(ModelRow).values(name=model, gate=document)
    session.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"gate": document}))


def canary_rules(session: Session, model: str = MODEL) -> Rules | None:
    """When the model's canary is stopped; None where nobody said."""
    document = session.scalar(select(ModelRow.canary).where(ModelRow.name == model))
    return None if document is None else from_document(Rules, document)


def set_canary_rules(session: Session, model: str, rules: Rules | None) -> None:
    document = None if rules is None else to_document(rules)
    statement = insert(ModelRow).values(name=model, canary=document)
    session.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"canary": document}))


def due_canaries(session: Session, every_s: float) -> tuple[Alias, ...]:
    """Canaries with a share that nobody has looked at for so long, locked and noted as looked at."""
    query = (
        select(AliasRow)
        .where(
            AliasRow.name == CANARY,
            AliasRow.share > 0,
            AliasRow.watched_at.is_(None) | (AliasRow.watched_at <= seconds_from_now(-every_s)),
        )
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    found = tuple(_alias(row) for row in session.scalars(query))
    if found:
        due = tuple_(AliasRow.model, AliasRow.name).in_([(alias.model, alias.name) for alias in found])
        seen = update(AliasRow).where(due).values(watched_at=func.now())
        session.execute(seen, execution_options={"synchronize_session": False})
    return found


def set_evaluation(session: Session, version: Version) -> None:
    """Replace a version's evaluation, report and decision."""
    values = {
        "evaluation": None if version.evaluation is None else dict(version.evaluation),
        "reports": to_document(version.reports),
        "gate": to_document(version.gate),
    }
    session.execute(update(VersionRow).where(VersionRow.id == version.id).values(**values))


def note_decision(session: Session, version_id: str, decision: Decision) -> None:
    session.execute(update(VersionRow).where(VersionRow.id == version_id).values(gate=to_document(decision)))


def move(
    session: Session,
    model: str,
    alias: str,
    version_id: str,
    *,
    kind: str,
    previous: str | None,
    actor: str,
    share: float | None = None,
    forced: bool = False,
    reasons: Sequence[str] = (),
) -> None:
    """Point an alias (made if new) to a version with a share, and write its history."""
    pointed = insert(AliasRow).values(model=model, name=alias, version_id=version_id, share=share)
    changed = {"version_id": version_id, "share": share, "revision": AliasRow.revision + 1, "updated_at": func.now()}
    if previous != version_id:
        changed |= {"since": func.now(), "watched_at": None}
    session.execute(pointed.on_conflict_do_update(index_elements=["model", "name"], set_=changed))
    values: dict[str, Any] = {"model": model, "alias": alias, "kind": kind, "version_id": version_id, "actor": actor}
    values |= {"share": share, "forced": forced, "reasons": list(reasons)}
    session.execute(insert(AliasMoveRow).values(previous_version_id=previous, **values))


def stage(session: Session, model: str, alias: str, version_id: str, move: Move, within_s: float) -> None:
    """The alias moves once its workers are ready, or after `within_s`; what it waited for before is superseded."""
    values = {"version_id": version_id, "move": to_document(move), "until": seconds_from_now(within_s)}
    staged = insert(StagingRow).values(model=model, alias=alias, **values)
    values["since"] = func.now()
    session.execute(staged.on_conflict_do_update(index_elements=["model", "alias"], set_=values))


def stagings(session: Session, model: str | None = None, *, lock: bool = False) -> tuple[Staging, ...]:
    """Moves that wait. lock: leaves out those that somebody else is looking at just now."""
    query = select(StagingRow, (StagingRow.until <= func.now()).label("due"), VersionRow.manifest)
    query = query.join(VersionRow, VersionRow.id == StagingRow.version_id).order_by(StagingRow.model, StagingRow.alias)
    if model is not None:
        query = query.where(StagingRow.model == model)
    if lock:
        query = query.with_for_update(of=StagingRow, skip_locked=True)
    found = []
    for row, due, manifest in session.execute(query.execution_options(populate_existing=True)):
        states = bundle_states(session, row.version_id, queue_for(manifest))
        ready = sum(state is BundleState.READY for state in states)
        found.append(
            Staging(
                row.model,
                row.alias,
                row.version_id,
                from_document(Move, row.move),
                row.since,
                row.until,
                bool(due),
                len(states),
                ready,
            )
        )
    return tuple(found)


def bundle_states(session: Session, version_id: str, queue: str) -> tuple[BundleState | None, ...]:
    """Of each serving worker of a queue, how it stands with a version's files; None where it has said nothing."""
    query = select(WorkerRow.bundles).where(fleet.serving, WorkerRow.queues.contains([queue]))
    notes = (bundles.get(version_id) for bundles in session.scalars(query))
    return tuple(None if note is None else BundleState(note["state"]) for note in notes)


def wanted_bundles(session: Session, queues: Sequence[str]) -> tuple[WantedBundle, ...]:
    """The files of versions that an alias is about to name, as far as workers of these queues will render them."""
    query = select(VersionRow).join(StagingRow, StagingRow.version_id == VersionRow.id).distinct()
    return tuple(
        WantedBundle(row.id, row.bundle_key, row.bundle_sha256)
        for row in session.scalars(query.order_by(VersionRow.id))
        if queue_for(row.manifest) in queues
    )


def note_unusable(session: Session, version_id: str, why: str) -> bool:
    """False where that is known already, or there is no such version."""
    found = update(VersionRow).where(VersionRow.id == version_id, VersionRow.unusable.is_(None)).values(unusable=why)
    return session.execute(found.returning(VersionRow.id)).first() is not None


def drop_stagings_of(session: Session, version_id: str) -> None:
    session.execute(delete(StagingRow).where(StagingRow.version_id == version_id))


def drop_staging(session: Session, model: str, alias: str) -> None:
    session.execute(delete(StagingRow).where(StagingRow.model == model, StagingRow.alias == alias))


def undo_last(session: Session, model: str, alias: str) -> str | None:
    """Mark the last promotion that still stands as undone: the version before it; None when there was none."""
    query = (
        select(AliasMoveRow.id, AliasMoveRow.previous_version_id)
        .where(
            AliasMoveRow.model == model,
            AliasMoveRow.alias == alias,
            AliasMoveRow.kind == "promote",
            AliasMoveRow.undone.is_(False),
        )
        .order_by(AliasMoveRow.id.desc())
        .limit(1)
    )
    last = session.execute(query).one_or_none()
    if last is None or last.previous_version_id is None:
        return None
    session.execute(update(AliasMoveRow).where(AliasMoveRow.id == last.id).values(undone=True))
    return last.previous_version_id


def _version(row: VersionRow | None) -> Version | None:
    return None if row is None else _some(row)


def _some(row: VersionRow) -> Version:
    return Version(
        id=row.id,
        model=row.model,
        name=row.name,
        bundle_key=row.bundle_key,
        bundle_sha256=row.bundle_sha256,
        manifest=row.manifest,
        trained=row.trained,
        licence=row.licence,
        lineage=from_document(Lineage, row.lineage),
        evaluation=row.evaluation,
        reports={name: from_document(ReportFile, file) for name, file in row.reports.items()},
        gate=None if row.gate is None else from_document(Decision, row.gate),
        unusable=row.unusable,
    )
