"""Versions of models are registered, and aliases move between them with a history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from farm.db import versions
from farm.db.session import Session
from farm.domain import gate
from farm.domain.audit import Action
from farm.domain.gate import Decision, Measured
from farm.domain.ids import new_id
from farm.domain.placement import queue_for
from farm.domain.tenant import FARM, Actor
from farm.domain.version import CHAMPION, MODEL, Lineage, ReportFile, Version
from farm.domain.webhook import Topic
from farm.errors import Rejected
from farm.flow import audit, notify


def register(
    session: Session,
    *,
    name: str,
    bundle_key: str,
    bundle_sha256: str,
    manifest: Mapping[str, object],
    model: str = MODEL,
    lineage: Lineage | None = None,
    evaluation: Mapping[str, object] | None = None,
    reports: Mapping[str, ReportFile] | None = None,
    actor: Actor = FARM,
) -> Version:
    """Make uploaded weights known, with what the gate says of them now. The same bundle under the same name is answered
    with its version again. Files that a finished run left behind come in through `farm.flow.register`.

    `trained` and `licence` are read from the manifest. Rejected("version_name_taken") when the name has other weights,
    "manifest_queue" when the manifest's queue is no name of one.
    """
    try:
        queue_for(manifest)
    except ValueError as error:
        raise Rejected("manifest_queue", str(error), pointer="/manifest/queue") from None
    version = Version(
        id=new_id("ver"),
        model=model,
        name=name,
        bundle_key=bundle_key,
        bundle_sha256=bundle_sha256,
        manifest=manifest,
        trained=manifest.get("trained") is True,
        licence=str(manifest.get("licence", "")),
        lineage=lineage or Lineage(),
        evaluation=evaluation,
        reports=reports or {},
    )
    version = replace(version, gate=decide(session, version))
    if versions.add(session, version):
        detail = {"model": model, "name": name, "bundle_sha256": bundle_sha256}
        audit.record(session, actor, Action.VERSION_REGISTERED, version.id, detail)
        return version
    found = versions.named(session, model, name)
    if found is None or found.bundle_sha256 != bundle_sha256:
        raise Rejected("version_name_taken", f"{model} has a version {name!r} with other weights", pointer="/name")
    return found


def decide(session: Session, version: Version) -> Decision:
    """What the model's gate says of a version now, beside the champion."""
    champion = versions.aliased(session, version.model, CHAMPION)
    rules = versions.gate(session, version.model) or gate.DEFAULT
    return gate.decide(rules, _measured(version), None if champion is None else _measured(champion))


def _measured(version: Version) -> Measured:
    return Measured(version.id, version.name, version.trained, version.evaluation)


def resolve(session: Session, text: str, model: str = MODEL) -> Version | None:
    """The version that an alias, a version id or a version name means now, in this order."""
    found = versions.aliased(session, model, text)
    if found is None and text.startswith("ver_"):
        found = versions.get(session, text)
        if found is not None and found.model != model:
            return None
    return found or versions.named(session, model, text)


def promote(session: Session, alias: str, version_id: str, *, actor: Actor, model: str = MODEL) -> Version:
    """Move an alias (made if new) to a version, audited. Running jobs keep the version that they pinned.
    Rejected("version_not_found")."""
    version = versions.get(session, version_id) or versions.named(session, model, version_id)
    if version is None or version.model != model:
        raise Rejected("version_not_found", f"{model} has no version {version_id}", pointer="/version")
    previous = versions.lock_alias(session, model, alias)
    if previous != version.id:
        versions.move(session, model, alias, version.id, kind="promote", previous=previous, actor=_name(actor))
        detail = {"version": version.id, "previous": previous}
        audit.record(session, actor, Action.ALIAS_PROMOTED, f"{model}/{alias}", detail)
        _announce(session, model, alias, version, previous, "promote")
    return version


def rollback(session: Session, alias: str, *, actor: Actor, model: str = MODEL) -> Version:
    """Undo the alias's last promotion that was not undone yet. Rejected("alias_not_found", "nothing_to_roll_back")."""
    current = versions.lock_alias(session, model, alias)
    if current is None:
        raise Rejected("alias_not_found", f"{model} has no alias {alias!r}")
    before = versions.undo_last(session, model, alias)
    if before is None:
        raise Rejected("nothing_to_roll_back", f"{alias!r} of {model} has pointed to nothing before this version")
    versions.move(session, model, alias, before, kind="rollback", previous=current, actor=_name(actor))
    detail = {"version": before, "previous": current}
    audit.record(session, actor, Action.ALIAS_ROLLED_BACK, f"{model}/{alias}", detail)
    version = versions.get(session, before)
    assert version is not None
    _announce(session, model, alias, version, current, "rollback")
    return version


def _announce(session: Session, model: str, alias: str, version: Version, previous: str | None, kind: str) -> None:
    shown = {"id": version.id, "name": version.name, "trained": version.trained, "licence": version.licence}
    data = {
        "model": model,
        "alias": alias,
        "kind": kind,
        "version_id": version.id,
        "previous_version_id": previous,
        "version": shown,
    }
    notify.announce(session, Topic.MODEL_PROMOTED, data, None)


def _name(actor: Actor) -> str:
    return actor.key_id or actor.name
