"""What training runs and schedules take, and its way into the domain."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag, WithJsonSchema
from pydantic_core import PydanticCustomError

from api.v1.batch_body import Strict, Text
from farm.domain.cron import Cron
from farm.domain.line import PRIORITY
from farm.domain.override import Value
from farm.domain.run import Dataset, OnSuccess, RunSpec, Scaling
from farm.domain.schedule import CatchUp, Overlap, Schedule

MOST_WORKERS: Final = 512
MOST_OVERRIDES: Final = 200
LARGEST: Final = 2**53


class SetBody(Strict):
    """A prepared set (`python -m trainer prepare`)."""

    uri: Annotated[Text, StringConstraints(min_length=1, max_length=2048)] = Field(
        description="`s3://bucket/prefix`, or `file:///folder` (embedded farm only)."
    )
    manifest_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        default=None, description="Of its manifest.json: exactly this version of the set."
    )


def _branch(value: Any) -> str:
    return "#set" if isinstance(value, dict | SetBody) else "#puppets"


DatasetBody = Annotated[
    Annotated[SetBody, Tag("#set")] | Annotated[Literal["puppets"], Tag("#puppets")], Discriminator(_branch)
]


def _scalar(value: Any) -> Value:
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, int | float):
        raise PydanticCustomError("type_wrong", "a number, true, false or null is expected here")
    if not abs(value) <= LARGEST:
        raise PydanticCustomError("out_of_range", "this number is too large")
    return value


OverrideName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]+$", max_length=200)]
OverrideValue = Annotated[Any, AfterValidator(_scalar), WithJsonSchema({"type": ["number", "boolean", "null"]})]


class ScalingBody(Strict):
    workers: int = Field(default=0, ge=0, le=MOST_WORKERS, description="Ray Train workers; 0: one plain process.")
    use_gpu: bool = False


class RunBody(Strict):
    recipe: Annotated[Text, StringConstraints(min_length=1, max_length=100)] = Field(examples=["tiny"])
    dataset: DatasetBody = "puppets"
    overrides: dict[OverrideName, OverrideValue] = Field(
        default_factory=dict,
        max_length=MOST_OVERRIDES,
        description="Declared keys of the recipe (`GET /v1/training-recipes`).",
    )
    scaling: ScalingBody = Field(default_factory=ScalingBody)
    on_success: Literal["register", "promote"] = Field(
        default="register", description="promote: and make it champion where the gate lets it."
    )
    resume_from: Annotated[Text, StringConstraints(max_length=200)] | None = Field(
        default=None, description="`run_…` (its newest checkpoint) or `run_…/<stage>-<step>`."
    )

    priority: int = Field(default=PRIORITY, ge=0, le=100, description="Higher ones start first.")
    preempt: bool = Field(
        default=False, description="Where no room is left, a run of lower priority stops at a checkpoint and waits."
    )

    def spec(self) -> RunSpec:
        data = self.dataset
        return RunSpec(
            self.recipe,
            Dataset(data.uri, data.manifest_sha256) if isinstance(data, SetBody) else Dataset(),
            self.overrides,
            Scaling(self.scaling.workers, self.scaling.use_gpu),
            OnSuccess(self.on_success),
            self.resume_from,
            self.priority,
            self.preempt,
        )


class ScheduleBody(RunBody):
    """The whole schedule: what is left out goes back to its default."""

    cron: Annotated[Text, StringConstraints(min_length=1, max_length=200)] = Field(
        examples=["0 3 * * 0"], description="minute hour day-of-month month day-of-week"
    )
    timezone: Annotated[Text, StringConstraints(max_length=100)] = Field(default="UTC", examples=["Europe/Berlin"])
    overlap: Literal["forbid", "queue", "replace"] = "forbid"
    catch_up: Literal["none", "latest", "all"] = "none"
    catch_up_most: int = Field(default=5, ge=1, le=100, description="Of `all`: so many at most, the newest.")
    min_new_clips: int = Field(
        default=0, ge=0, le=10**9, description="Start only when the data has so many clips that the last run had not."
    )
    paused: bool = False

    def schedule(self, name: str) -> Schedule:
        return Schedule(
            name,
            Cron(self.cron, self.timezone),
            self.spec(),
            Overlap(self.overlap),
            CatchUp(self.catch_up),
            self.catch_up_most,
            self.min_new_clips,
            self.paused,
        )
