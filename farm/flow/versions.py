"""Versions of models are registered, and aliases move between them with a history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from farm.db import versions
from farm.db.session import Session
from farm.domain import canary as canary_rules
from farm.domain import gate
from farm.domain.alias import Alias, Move
from farm.domain.audit import Action
from farm.domain.document import to_document
from farm.domain.gate import Decision, Gate, Measured
from farm.domain.ids import new_id
from farm.domain.placement import queue_for
from farm.domain.tenant import FARM, Actor
from farm.domain.version import CANARY, CHAMPION, GATED, MODEL, Lineage, ReportFile, Version
from farm.domain.webhook import Topic
from farm.errors import Problem, Rejected
from farm.flow import audit, notify, recipes


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
    with its version again, and its evaluation where there is a newer one. Files that a finished run left behind come in
    through `farm.flow.register`.

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
    if evaluation is None or evaluation == found.evaluation:
        return found
    found = replace(found, evaluation=evaluation, reports=reports or {})
    found = replace(found, gate=decide(session, found))
    versions.set_evaluation(session, found)
    audit.record(session, actor, Action.VERSION_EVALUATED, found.id, {"model": model, "name": name})
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


@dataclass(frozen=True)
class Canary:
    """What a share of the jobs that ask for champion gets instead."""

    version: Version
    share: float


def canary(session: Session, model: str = MODEL) -> Canary | None:
    """The canary that runs now: it has a share, and is not the champion itself."""
    alias = versions.alias(session, CANARY, model)
    if alias is None or not alias.share:
        return None
    champion = versions.alias(session, CHAMPION, model)
    version = versions.get(session, alias.version_id)
    if version is None or champion is None or champion.version_id == version.id:
        return None
    return Canary(version, alias.share)


def promote(
    session: Session,
    alias: str,
    version_id: str,
    *,
    actor: Actor,
    model: str = MODEL,
    share: float | None = None,
    force: bool = False,
    revision: int | None = None,
) -> Version:
    """Move an alias (made if new) to a version now, audited. Jobs that were submitted keep the version that they
    pinned. `farm.flow.staging` waits for the workers first.

    share: of a canary; None keeps what it has, or takes the rules' for a new one. force: past the gate, with its
    reasons in the audit log. revision: the alias's, as the caller saw it. Raises Rejected: "version_not_found",
    "version_unusable", "gate_refused" (with a problem a reason), "share_refused", "alias_moved".
    """
    version, move = weigh(
        session, alias, version_id, actor=actor, model=model, share=share, force=force, revision=revision
    )
    carry_out(session, alias, version, move, versions.alias(session, alias, model, lock=True))
    return version


def weigh(
    session: Session,
    alias: str,
    version_id: str,
    *,
    actor: Actor,
    model: str,
    share: float | None,
    force: bool,
    revision: int | None,
) -> tuple[Version, Move]:
    """What a promotion would do, or why it is refused (see `promote`); the gate's decision is kept with the version."""
    version = versions.get(session, version_id) or versions.named(session, model, version_id)
    if version is None or version.model != model:
        raise Rejected("version_not_found", f"{model} has no version {version_id}", pointer="/version")
    if version.unusable is not None:
        raise Rejected("version_unusable", f"{version.name} cannot be rendered with: {version.unusable}")
    if share is not None and alias != CANARY:
        raise Rejected("share_refused", f"only {CANARY} has a share, not {alias}", pointer="/canary_share")
    current = versions.alias(session, alias, model, lock=True)
    seen = 0 if current is None else current.revision
    if revision is not None and revision != seen:
        raise Rejected("alias_moved", f"{alias} is at revision {seen} by now, not {revision}: look at it again")
    reasons: tuple[str, ...] = ()
    if alias in GATED and (current is None or current.version_id != version.id):
        reasons = judge(session, version).reasons
        if reasons and not force:
            raise Rejected(
                "gate_refused",
                f"the gate refuses {version.name}: {'; '.join(reasons)}",
                problems=tuple(Problem("below_the_gate", reason, "/version") for reason in reasons),
            )
    if alias == CANARY and share is None:
        is_same = current is not None and current.version_id == version.id
        usual = (versions.canary_rules(session, model) or canary_rules.DEFAULT).share
        share = current.share if current is not None and is_same else usual
    return version, Move(actor, share, bool(reasons), reasons, seen)


def judge(session: Session, version: Version) -> Decision:
    """What the gate says now, kept with the version."""
    decision = decide(session, version)
    versions.note_decision(session, version.id, decision)
    return decision


def condemn(session: Session, version_id: str, why: str) -> None:
    """A worker found that no picture comes of a version's weights: no alias comes to it any more, and moves to it that
    wait are dropped. A canary's share ends; a champion stays, for going back is up to people."""
    versions.drop_stagings_of(session, version_id)
    if not versions.note_unusable(session, version_id, why):
        return
    audit.record(session, FARM, Action.VERSION_UNUSABLE, version_id, {"why": why})
    version = versions.get(session, version_id)
    alias = None if version is None else versions.alias(session, CANARY, version.model, lock=True)
    if alias is not None and alias.version_id == version_id and alias.share:
        stop_canary(session, alias, (f"it cannot be rendered with: {why}",))


def carry_out(session: Session, alias: str, version: Version, move: Move, current: Alias | None) -> None:
    """Make a weighed move; current: the alias, locked. What else waited for this alias is superseded."""
    versions.drop_staging(session, version.model, alias)
    previous = None if current is None else current.version_id
    is_same = previous == version.id
    if is_same and current is not None and current.share == move.share:
        return
    kind = "share" if is_same else "promote"
    _move(session, alias, version, kind, previous, move)
    if is_same:
        return
    _announce(session, version.model, alias, version, previous, kind)
    canary = versions.alias(session, CANARY, version.model, lock=True) if alias == CHAMPION else None
    if canary is not None and canary.version_id == version.id and canary.share:
        # Its share is over: a rollback of the champion must not bring it back.
        why = Move(move.actor, 0.0, False, (f"it is the {CHAMPION} now",), canary.revision)
        _move(session, CANARY, version, "share", version.id, why)


def rollback(session: Session, alias: str, *, actor: Actor, model: str = MODEL, revision: int | None = None) -> Version:
    """Undo the alias's last promotion that was not undone yet, at once; a canary comes back without a share.

    Rejected("alias_not_found", "nothing_to_roll_back", "alias_moved").
    """
    current = versions.alias(session, alias, model, lock=True)
    if current is None:
        raise Rejected("alias_not_found", f"{model} has no alias {alias!r}")
    if revision is not None and revision != current.revision:
        raise Rejected("alias_moved", f"{alias} is at revision {current.revision} by now, not {revision}")
    before = versions.undo_last(session, model, alias)
    if before is None:
        raise Rejected("nothing_to_roll_back", f"{alias!r} of {model} has pointed to nothing before this version")
    version = versions.get(session, before)
    assert version is not None
    versions.drop_staging(session, model, alias)
    move = Move(actor, 0.0 if alias == CANARY else None, False, (), current.revision)
    _move(session, alias, version, "rollback", current.version_id, move)
    _announce(session, model, alias, version, current.version_id, "rollback")
    return version


def set_gate(session: Session, model: str, rules: Gate | None, *, actor: Actor) -> Gate:
    """Give a model a gate of its own, or with None the default again. Rejected("invalid") with every problem."""
    if rules is not None and (problems := gate.problems(rules, metrics(session, model))):
        raise Rejected("invalid", f"{len(problems)} problems", problems=problems)
    versions.set_gate(session, model, rules)
    detail = to_document(rules or gate.DEFAULT)
    audit.record(session, actor, Action.GATE_CHANGED, model, detail)
    return rules or gate.DEFAULT


def metrics(session: Session, model: str = MODEL) -> frozenset[str]:
    """What a rule of the gate may name: the numbers that the trainer measures, and whatever else the evaluations of the
    model's versions have."""
    evaluations = versions.evaluations(session, model)
    return recipes.metrics().union(*(gate.numbers(one) for one in evaluations))


_ACTIONS: Final = {
    "promote": Action.ALIAS_PROMOTED,
    "rollback": Action.ALIAS_ROLLED_BACK,
    "share": Action.CANARY_SHARED,
    "stop": Action.CANARY_STOPPED,
}


def _move(session: Session, alias: str, version: Version, kind: str, previous: str | None, move: Move) -> None:
    versions.move(
        session,
        version.model,
        alias,
        version.id,
        kind=kind,
        previous=previous,
        actor=move.actor.key_id or move.actor.name,
        share=move.share,
        forced=move.forced,
        reasons=move.reasons,
    )
    detail: dict[str, object] = {"version": version.id, "previous": previous}
    if move.share is not None:
        detail["share"] = move.share
    if move.reasons:
        detail |= {"forced": move.forced, "reasons": list(move.reasons)}
    audit.record(session, move.actor, _ACTIONS[kind], f"{version.model}/{alias}", detail)


def stop_canary(session: Session, canary: Alias, reasons: Sequence[str], *, actor: Actor = FARM) -> None:
    """Its share becomes 0, with the reasons; recorded, audited and told. canary: locked."""
    version = versions.get(session, canary.version_id)
    assert version is not None
    _move(session, canary.name, version, "stop", version.id, Move(actor, 0.0, False, tuple(reasons), canary.revision))
    data = {"model": canary.model, "version_id": version.id, "version": _shown(version), "reasons": list(reasons)}
    notify.announce(session, Topic.CANARY_STOPPED, data, None)


def _announce(session: Session, model: str, alias: str, version: Version, previous: str | None, kind: str) -> None:
    data = {
        "model": model,
        "alias": alias,
        "kind": kind,
        "version_id": version.id,
        "previous_version_id": previous,
        "version": _shown(version),
    }
    notify.announce(session, Topic.MODEL_PROMOTED, data, None)


def _shown(version: Version) -> dict[str, object]:
    return {"id": version.id, "name": version.name, "trained": version.trained, "licence": version.licence}
