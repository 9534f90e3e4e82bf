"""A running canary's scores beside the champion's, and its end where they are worse."""

from __future__ import annotations

from typing import Final

from farm.db import scores
from farm.db import versions as rows
from farm.db.session import Session
from farm.domain import canary
from farm.domain.audit import Action
from farm.domain.canary import Comparison, Rules
from farm.domain.document import to_document
from farm.domain.tenant import Actor
from farm.domain.version import CANARY, CHAMPION, MODEL, Version
from farm.errors import Rejected
from farm.flow import audit, versions

WATCH_S: Final = 30.0
"""A canary is looked at so often."""


def compare(session: Session, version: Version | None, beside: Version | None, model: str = MODEL) -> Comparison:
    """Two versions' scores. None: the canary, the champion. Where they are the running canary and the champion it is
    over the jobs shared out between them, since the canary came; else over all their jobs.

    Rejected("nothing_to_compare") where there is no such alias.
    """
    running = rows.alias(session, CANARY, model)
    champion = rows.alias(session, CHAMPION, model)
    theirs = version.id if version else running.version_id if running else None
    ours = beside.id if beside else champion.version_id if champion else None
    if theirs is None or ours is None:
        missing = CANARY if theirs is None else CHAMPION
        raise Rejected("nothing_to_compare", f"{model} has no alias {missing!r}: name two versions")
    is_canary = (
        running is not None
        and champion is not None
        and (theirs, ours)
        == (
            running.version_id,
            champion.version_id,
        )
    )
    since = running.since if is_canary and running is not None else None
    share = running.share if is_canary and running is not None else None
    sums = scores.sums(session, [ours, theirs], since=since, cohorts=is_canary)
    found = canary.compare(rules(session, model), sums[ours], sums[theirs])
    return Comparison(ours, theirs, since, share, found)


def rules(session: Session, model: str = MODEL) -> Rules:
    return rows.canary_rules(session, model) or canary.DEFAULT


def set_rules(session: Session, model: str, given: Rules | None, *, actor: Actor) -> Rules:
    """When the model's canaries are stopped; None: as by default. A canary that runs is judged by them from now on.
    Rejected("invalid") with every problem."""
    if given is not None and (problems := canary.problems(given)):
        raise Rejected("invalid", f"{len(problems)} problems", problems=problems)
    rows.set_canary_rules(session, model, given)
    audit.record(session, actor, Action.CANARY_RULES_CHANGED, model, to_document(given or canary.DEFAULT))
    return given or canary.DEFAULT


def watch(session: Session, every_s: float = WATCH_S) -> list[Comparison]:
    """Stop the canaries that are worse than their champions, for good reasons; those. Safe anywhere, at any time: each
    is looked at once in `every_s`, by one process."""
    stopped = []
    for alias in rows.due_canaries(session, every_s):
        if versions.canary(session, alias.model) is None:
            continue
        found = compare(session, None, None, alias.model)
        if found.reasons and rules(session, alias.model).stops:
            versions.stop_canary(session, alias, found.reasons)
            stopped.append(found)
    return stopped
