"""Aliases of models. Who runs the farm moves them."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request
from pydantic import Field, StringConstraints
from starlette.responses import Response

from api import errors
from api.deps import AFarm, APage, Farm, IdempotencyKey, Operator, OperatorsTrainer, Raw, Reader, create_once, slice_of
from api.v1.answers import AliasAnswer, BesideAnswer, ComparisonAnswer, MoveAnswer, PageAnswer, StagedAnswer
from api.v1.batch_body import Strict
from api.v1.models import known
from api.v1.paths import AliasName, Model
from farm.db import versions
from farm.db.session import Session
from farm.domain.alias import STAGED_S, Alias, Staging
from farm.domain.document import to_document
from farm.domain.version import GATED, Version
from farm.errors import Problem, Rejected
from farm.flow import canary, staging
from farm.flow import versions as verbs
from farm.flow.idempotency import Answer as Stored

router = APIRouter(prefix="/v1/models", tags=["models"])

LONGEST_WAIT_S: Final = 3600.0
Named = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]
IfMatch = Annotated[
    str,
    Header(
        alias="If-Match",
        description="The alias's `revision` as you saw it (0: not there yet); 412 `alias_moved` where it has moved on.",
        json_schema_extra={"pattern": r'^("?[0-9]{1,18}"?)?$'},
    ),
]


class AliasBody(Strict):
    version: Named = Field(description="Its id or name.")
    canary_share: float | None = Field(
        default=None, ge=0, le=1, description="Of the jobs that ask for champion; for the alias canary, 0.1 where new."
    )
    force: bool = Field(default=False, description="Go below the gate: audited, with the gate's reasons.")
    within_s: float = Field(
        default=STAGED_S,
        ge=0,
        le=LONGEST_WAIT_S,
        description="champion and canary move when all serving workers have the files, or after so long; 0: at once.",
    )


def _revision(header: str) -> int | None:
    if not header:
        return None
    digits = header.strip().strip('"')
    if not digits.isascii() or not digits.isdigit() or len(digits) > 18:
        raise errors.ApiProblem("if_match_invalid", 'If-Match takes a revision: "3"')
    return int(digits)


def _check_name(alias: str) -> None:
    if not alias.replace("-", "").replace("_", "").isalnum() or not alias.isascii() or len(alias) > 50:
        raise errors.ApiProblem("alias_invalid", "an alias has 1 to 50 letters, digits, - and _")


@router.get("/{model}/aliases", response_model=PageAnswer[AliasAnswer])
def list_aliases(farm: AFarm, who: Reader, model: Model, page: APage) -> PageAnswer[AliasAnswer]:
    """By name; `staged` where one is on its way to another version."""
    known(model)
    with farm.transaction() as session:
        found = {alias.name: alias for alias in versions.aliases(session, model)}
        waiting = {one.alias: one for one in versions.stagings(session, model)}
        names = sorted(found.keys() | waiting.keys())
        start, stop, following = slice_of(names, page)
        data = [_answer(session, model, name, found.get(name), waiting.get(name)) for name in names[start:stop]]
    return PageAnswer(data=data, next_cursor=following)


def _answer(session: Session, model: str, name: str, alias: Alias | None, waiting: Staging | None) -> AliasAnswer:
    moves = versions.history(session, name, model, limit=1)
    staged = None
    if waiting is not None:
        staged = StagedAnswer(
            version=waiting.version_id,
            canary_share=waiting.move.share,
            since=waiting.since,
            until=waiting.until,
            workers=waiting.workers,
            ready=waiting.ready,
        )
    return AliasAnswer(
        model=model,
        alias=name,
        version=None if alias is None else alias.version_id,
        previous=moves[0].previous_version_id if moves else None,
        canary_share=None if alias is None else alias.share,
        revision=0 if alias is None else alias.revision,
        staged=staged,
        since=None if alias is None else alias.since,
        updated_at=None if alias is None else alias.updated_at,
    )


def _named(session: Session, model: str, name: str) -> AliasAnswer:
    alias = versions.alias(session, name, model)
    waiting = next((one for one in versions.stagings(session, model) if one.alias == name), None)
    if alias is None and waiting is None:
        raise errors.not_found("alias", name)
    return _answer(session, model, name, alias, waiting)


@router.get("/{model}/aliases/{alias}", response_model=AliasAnswer)
def get_alias(farm: AFarm, who: Reader, model: Model, alias: AliasName) -> AliasAnswer:
    known(model)
    with farm.transaction() as session:
        return _named(session, model, alias)


@router.get("/{model}/aliases/{alias}/history", response_model=PageAnswer[MoveAnswer])
def list_alias_moves(
    farm: AFarm, who: OperatorsTrainer, model: Model, alias: AliasName, page: APage
) -> PageAnswer[MoveAnswer]:
    """Its moves, newest first: by whom, forced past which reasons, stopped for which."""
    known(model)
    with farm.transaction() as session:
        found = versions.history(session, alias, model)
    start, stop, following = slice_of(found, page)
    data = [
        MoveAnswer(
            kind=move.kind,
            version=move.version_id,
            previous=move.previous_version_id,
            canary_share=move.share,
            forced=move.forced,
            reasons=list(move.reasons),
            actor=move.actor,
            at=move.at,
        )
        for move in found[start:stop]
    ]
    return PageAnswer(data=data, next_cursor=following)


@router.put("/{model}/aliases/{alias}", response_model=AliasAnswer)
def set_alias(
    farm: AFarm, who: Operator, model: Model, alias: AliasName, body: AliasBody, if_match: IfMatch = ""
) -> AliasAnswer:
    """Move an alias: champion and canary through the gate, and once the workers have the files (`staged` until then).
    Jobs that were submitted before keep the version that they pinned."""
    known(model)
    _check_name(alias)
    revision = _revision(if_match)
    version = _weighed(farm, model, alias, body.version)
    with farm.transaction() as session:
        staging.stage(
            session,
            alias,
            version.id,
            actor=who.actor,
            model=model,
            share=body.canary_share,
            force=body.force,
            revision=revision,
            within_s=body.within_s,
        )
        return _named(session, model, alias)


def _weighed(farm: Farm, model: str, alias: str, text: str) -> Version:
    """The version that is meant; what the gate says of it is kept also where the promotion is then refused."""
    with farm.transaction() as session:
        version = verbs.resolve(session, text, model)
        if version is None:
            raise errors.invalid((Problem("version_not_found", f"no version {text}", "/version"),))
        if alias in GATED:
            verbs.judge(session, version)
    return version


@router.post("/{model}/aliases/{alias}/rollback", response_model=AliasAnswer)
def rollback_alias(
    request: Request,
    farm: AFarm,
    who: Operator,
    model: Model,
    alias: AliasName,
    raw: Raw,
    if_match: IfMatch = "",
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Take the alias's newest promotion back, at once; a canary comes back without a share."""
    known(model)
    revision = _revision(if_match)

    def make(session: Session) -> Stored:
        try:
            verbs.rollback(session, alias, actor=who.actor, model=model, revision=revision)
        except Rejected as error:
            if error.code == "alias_not_found":
                raise errors.not_found("alias", alias) from error
            raise
        return Stored(200, _named(session, model, alias).json_dict())

    return create_once(farm, who, request, raw, idempotency_key, make)


@router.get("/{model}/comparison", response_model=ComparisonAnswer)
def compare_versions(
    farm: AFarm,
    who: OperatorsTrainer,
    model: Model,
    version: Annotated[Named | None, Query(description="Default: the canary.")] = None,
    beside: Annotated[Named | None, Query(description="Default: the champion.")] = None,
) -> ComparisonAnswer:
    """Two versions' scores, means over chunks with intervals: of the running canary and the champion over the jobs
    shared out between them, of others over all their newest jobs (2,000 at most)."""
    known(model)
    with farm.transaction() as session:
        named: list[Version | None] = []
        for place, text in (("version", version), ("beside", beside)):
            one = None if text is None else verbs.resolve(session, text, model)
            if text is not None and one is None:
                raise errors.invalid((Problem("version_not_found", f"no version {text}", f"/query/{place}"),))
            named.append(one)
        found = canary.compare(session, named[0], named[1], model)
    return ComparisonAnswer(
        champion=found.champion,
        canary=found.canary,
        since=found.since,
        canary_share=found.share,
        scores=[BesideAnswer.model_validate(to_document(one)) for one in found.scores],
    )
