"""Versions, aliases and the aliases' history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert

from farm.db.rows import AliasMoveRow, AliasRow, ModelRow, VersionRow
from farm.db.session import Session
from farm.domain.document import from_document, to_document
from farm.domain.gate import Decision, Gate
from farm.domain.version import MODEL, Lineage, ReportFile, Version


@dataclass(frozen=True)
class Alias:
    model: str
    name: str
    version_id: str
    updated_at: datetime


@dataclass(frozen=True)
class AliasMove:
    """kind: "promote" or "rollback"."""

    alias: str
    kind: str
    version_id: str
    previous_version_id: str | None
    actor: str
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
    query = (
        select(AliasRow.model, AliasRow.name, AliasRow.version_id, AliasRow.updated_at)
        .where(AliasRow.model == model)
        .order_by(AliasRow.name)
    )
    return tuple(Alias(*row) for row in session.execute(query))


def history(session: Session, alias: str, model: str = MODEL) -> tuple[AliasMove, ...]:
    """Moves of an alias, newest first."""
    query = (
        select(AliasMoveRow)
        .where(AliasMoveRow.model == model, AliasMoveRow.alias == alias)
        .order_by(AliasMoveRow.id.desc())
    )
    return tuple(
        AliasMove(row.alias, row.kind, row.version_id, row.previous_version_id, row.actor, row.at)
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


def gate(session: Session, model: str = MODEL) -> Gate | None:
    """The model's own gate; None where nobody set one."""
    document = session.scalar(select(ModelRow.gate).where(ModelRow.name == model))
    return None if document is None else from_document(Gate, document)


def set_gate(session: Session, model: str, gate: Gate | None) -> None:
    document = None if gate is None else to_document(gate)
    statement = insert(ModelRow).values(name=model, gate=document)
    session.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"gate": document}))


def note_decision(session: Session, version_id: str, decision: Decision) -> None:
    session.execute(update(VersionRow).where(VersionRow.id == version_id).values(gate=to_document(decision)))


def lock_alias(session: Session, model: str, alias: str) -> str | None:
    """The version that an alias points to, its row locked; None when there is no such alias."""
    query = select(AliasRow.version_id).where(AliasRow.model == model, AliasRow.name == alias).with_for_update()
    return session.scalar(query)


def move(
    session: Session, model: str, alias: str, version_id: str, *, kind: str, previous: str | None, actor: str
) -> None:
    """Point an alias (made if new) to a version and write its history."""
    pointed = insert(AliasRow).values(model=model, name=alias, version_id=version_id)
    session.execute(
        pointed.on_conflict_do_update(
            index_elements=["model", "name"], set_={"version_id": version_id, "updated_at": func.now()}
        )
    )
    values: dict[str, Any] = {"model": model, "alias": alias, "kind": kind, "version_id": version_id, "actor": actor}
    session.execute(insert(AliasMoveRow).values(previous_version_id=previous, **values))


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
    )
