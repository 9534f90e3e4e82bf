"""What a version must reach to be champion or canary, and when a canary is stopped. Who runs the farm sets both."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field, JsonValue, StringConstraints

from api.deps import AFarm, Operator, Reader
from api.v1.answers import Answer
from api.v1.batch_body import Strict
from api.v1.models import known
from api.v1.paths import Model
from farm.db import versions
from farm.db.session import Session
from farm.domain import gate as gates
from farm.domain.alias import DEFAULT_SHARE
from farm.domain.canary import (
    DEFAULT,
    FEWEST_JOBS,
    LEAST_CONFIDENCE,
    MOST_CONFIDENCE,
    MOST_JOBS,
    SCORES,
    Rules,
    Watched,
)
from farm.domain.document import to_document
from farm.domain.gate import Direction, Gate, Rule
from farm.flow import canary
from farm.flow import versions as verbs

router = APIRouter(prefix="/v1/models", tags=["models"])

Named = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]


def _range(least: float, most: float) -> dict[str, JsonValue]:
    """For the document alone: the domain checks these, so that everything wrong is said at once."""
    return {"minimum": least, "maximum": most}


class RuleBody(Strict):
    """margin: how much worse than the champion it may be (negative: how much better it must be). bound: the worst value
    that passes at all."""

    metric: Named = Field(description="Dotted path into evaluation.json; one of `metrics`.", examples=["psnr"])
    direction: Literal["up", "down"]
    margin: float | None = None
    bound: float | None = None


class GateBody(Strict):
    """All rules must hold. null: the default ones again."""

    rules: list[RuleBody] | None


class GateAnswer(Answer):
    model: str
    is_default: bool
    rules: list[RuleBody]
    metrics: list[str] = Field(description="What rules may name; `name.*`: whatever is below name.")


class WatchedBody(Strict):
    score: Named = Field(description="One of `scores`.", examples=["identity"])
    tolerance: float = Field(
        json_schema_extra={"minimum": 0}, description="How much worse than the champion's it may be."
    )


class CanaryBody(Strict):
    """Worse is a canary one of whose watched scores is beyond doubt more than its tolerance behind the champion's."""

    watched: list[WatchedBody] = Field(max_length=50)
    share: float = Field(
        default=DEFAULT_SHARE, description="Of a new canary that is given none.", json_schema_extra=_range(0, 1)
    )
    fewest_jobs: int = Field(
        default=DEFAULT.fewest_jobs,
        description="Of each version, before it is judged.",
        json_schema_extra=_range(FEWEST_JOBS, MOST_JOBS),
    )
    confidence: float = Field(default=DEFAULT.confidence, json_schema_extra=_range(LEAST_CONFIDENCE, MOST_CONFIDENCE))
    stops: bool = Field(default=True, description="A worse canary's share becomes 0; false: it is only shown.")


class CanaryRulesBody(Strict):
    """The whole of the rules: what is left out goes back to its default. null: the default ones again."""

    rules: CanaryBody | None


class WatchedAnswer(Answer):
    score: str
    direction: str
    tolerance: float


class CanaryAnswer(Answer):
    watched: list[WatchedAnswer]
    share: float
    fewest_jobs: int
    confidence: float
    stops: bool


class CanaryRulesAnswer(Answer):
    model: str
    is_default: bool
    rules: CanaryAnswer
    scores: dict[str, str] = Field(description="What may be watched, and which way each is better.")


@router.get("/{model}/gate", response_model=GateAnswer)
def get_gate(farm: AFarm, who: Reader, model: Model) -> GateAnswer:
    """What a version must reach to be champion or canary."""
    known(model)
    with farm.transaction() as session:
        return _gate(session, model)


@router.put("/{model}/gate", response_model=GateAnswer)
def set_gate(farm: AFarm, who: Operator, model: Model, body: GateBody) -> GateAnswer:
    """Change the gate. Aliases stay where they are."""
    known(model)
    rules = None if body.rules is None else Gate(tuple(_rule(rule) for rule in body.rules))
    with farm.transaction() as session:
        verbs.set_gate(session, model, rules, actor=who.actor)
        return _gate(session, model)


def _rule(body: RuleBody) -> Rule:
    return Rule(body.metric, Direction(body.direction), body.margin, body.bound)


def _gate(session: Session, model: str) -> GateAnswer:
    own = versions.gate(session, model)
    shown = [RuleBody(**to_document(rule)) for rule in (own or gates.DEFAULT).rules]
    metrics = sorted(verbs.metrics(session, model))
    return GateAnswer(model=model, is_default=own is None, rules=shown, metrics=metrics)


@router.get("/{model}/canary-rules", response_model=CanaryRulesAnswer)
def get_canary_rules(farm: AFarm, who: Reader, model: Model) -> CanaryRulesAnswer:
    """When a canary is stopped, and the share of a new one."""
    known(model)
    with farm.transaction() as session:
        return _canary(model, versions.canary_rules(session, model))


@router.put("/{model}/canary-rules", response_model=CanaryRulesAnswer)
def set_canary_rules(farm: AFarm, who: Operator, model: Model, body: CanaryRulesBody) -> CanaryRulesAnswer:
    """Change them; a canary that runs keeps its share and is judged by them from now on."""
    known(model)
    with farm.transaction() as session:
        own = None if body.rules is None else _rules(body.rules)
        canary.set_rules(session, model, own, actor=who.actor)
        return _canary(model, own)


def _rules(body: CanaryBody) -> Rules:
    # Which way a score is better is known; of an unknown one nobody will ask.
    watched = [Watched(one.score, SCORES.get(one.score, Direction.UP), one.tolerance) for one in body.watched]
    return Rules(tuple(watched), body.fewest_jobs, body.confidence, body.share, body.stops)


def _canary(model: str, own: Rules | None) -> CanaryRulesAnswer:
    rules = own or DEFAULT
    shown = CanaryAnswer(
        watched=[WatchedAnswer.model_validate(to_document(one)) for one in rules.watched],
        share=rules.share,
        fewest_jobs=rules.fewest_jobs,
        confidence=rules.confidence,
        stops=rules.stops,
    )
    scores = {name: direction.value for name, direction in SCORES.items()}
    return CanaryRulesAnswer(model=model, is_default=own is None, rules=shown, scores=scores)
