"""An alias moves when the workers that will render with its version have the files, or when their time is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from farm.db import versions as rows
from farm.db import workers
from farm.db.session import Session
from farm.domain.alias import STAGED_S, BundleNote, BundleState, WantedBundle
from farm.domain.audit import Action
from farm.domain.document import to_document
from farm.domain.placement import queue_for
from farm.domain.tenant import Actor
from farm.domain.version import GATED, MODEL
from farm.flow import audit, versions


def stage(
    session: Session,
    alias: str,
    version_id: str,
    *,
    actor: Actor,
    model: str = MODEL,
    share: float | None = None,
    force: bool = False,
    revision: int | None = None,
    within_s: float = STAGED_S,
) -> bool:
    """Promote as `farm.flow.versions.promote` does, once every serving worker of the version's queue has its files;
    after `within_s` (0: at once) whoever has them not fetches them with its first chunk. True: the alias has moved.

    Only champion and canary wait: other aliases are for those who name them. Raises what `promote` raises.
    """
    version, move = versions.weigh(
        session, alias, version_id, actor=actor, model=model, share=share, force=force, revision=revision
    )
    current = rows.alias(session, alias, model, lock=True)
    states = rows.bundle_states(session, version.id, queue_for(version.manifest))
    is_same = current is not None and current.version_id == version.id
    if is_same or alias not in GATED or within_s <= 0 or all(state is BundleState.READY for state in states):
        versions.carry_out(session, alias, version, move, current)
        return True
    rows.stage(session, model, alias, version.id, move, within_s)
    detail: dict[str, object] = {"version": version.id, "workers": len(states), "within_s": within_s}
    if move.reasons:
        detail |= {"forced": move.forced, "reasons": list(move.reasons)}
    audit.record(session, actor, Action.ALIAS_STAGED, f"{model}/{alias}", detail)
    return False


def report(
    session: Session, worker_id: str, queues: Sequence[str], notes: Mapping[str, BundleNote]
) -> tuple[WantedBundle, ...]:
    """A worker says how it stands with versions' files, and hears which it should have; moves that waited for it are
    made, or dropped where it found a version unusable."""
    workers.note_bundles(session, worker_id, to_document(notes))
    for version_id, note in notes.items():
        if note.state is BundleState.UNUSABLE:
            versions.condemn(session, version_id, note.detail)
    wanted = rows.wanted_bundles(session, queues)
    if any(one.version_id in notes for one in wanted):
        complete(session)
    return wanted


def complete(session: Session) -> int:
    """Make the moves whose workers are ready or whose time is over; how many. Safe anywhere, at any time."""
    moved = 0
    for staging in rows.stagings(session, lock=True):
        if staging.ready < staging.workers and not staging.is_due:
            continue
        version = rows.get(session, staging.version_id)
        assert version is not None
        current = rows.alias(session, staging.alias, staging.model, lock=True)
        versions.carry_out(session, staging.alias, version, staging.move, current)
        moved += 1
    return moved
