"""What `POST /v1/batches` takes, and its way into the domain. Every mistake of every item is reported at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError, from_json

from api.errors import ApiProblem, problems_of
from farm.domain.batch import BatchSpec, Rights, TrainingConsent
from farm.domain.factor import Drive, Driver, Factors, FactorSegment, FactorSetting, Media
from farm.domain.job import FaceChoice, FaceSetting, JobSpec, Kind, OutputSetting, SyncMode
from farm.domain.submission import MAX_SEGMENTS
from farm.errors import Problem

MOST_ITEMS: Final = 10_000
MOST_BLENDED: Final = 8

# Postgres keeps no NUL in text.
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Gain = Annotated[
    float | None,
    Field(ge=0, le=5, allow_inf_nan=False, description="Strength of the code; left out: the bundle's own gain."),
]


class Strict(BaseModel):
    """Unknown fields are mistakes, and a string is not a number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class MediaBody(Strict):
    """Bytes: a `uri` that the farm fetches once, or the `asset_id` of an upload. Exactly one of the two."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"uri": "https://example.com/interview.mp4"}]}
    )
    uri: Annotated[Text, StringConstraints(min_length=1, max_length=2048)] | None = Field(
        default=None, description="`https://…`, `s3://bucket/key`, or `file:///…` (embedded farm only)."
    )
    asset_id: Annotated[str, StringConstraints(pattern=r"^ast_[0-9a-f]{32}$")] | None = None

    @model_validator(mode="after")
    def _one(self) -> MediaBody:
        if (self.uri is None) == (self.asset_id is None):
            raise PydanticCustomError("media_ambiguous", "give exactly one of uri and asset_id")
        return self

    def media(self) -> Media:
        return Media(self.uri, self.asset_id)


# --- factors -----------------------------------------------------------------------------------------------------


class SourceOrCanonical(Strict):
    """`"source"` or `"canonical"` with a gain."""

    drive: Literal["source", "canonical"]
    gain: Gain = None


class AudioDriven(Strict):
    """`"audio"` with a gain."""

    drive: Literal["audio"]
    gain: Gain = None


class VideoDriven(Strict):
    """The factor is taken from another video, which bounces where it is shorter than the output."""

    video: MediaBody
    gain: Gain = None


class Weighted(Strict):
    video: MediaBody
    weight: float = Field(default=1.0, ge=-2, le=2, allow_inf_nan=False)


class Blended(Strict):
    """A weighted sum of the expressions of several videos."""

    blend: list[Weighted] = Field(min_length=1, max_length=MOST_BLENDED)
    gain: Gain = None


def _shape(value: Any) -> str:
    """Which form of a setting was sent; the names start with # so that they stay out of JSON pointers."""
    if not isinstance(value, dict):
        return "#word"
    return "#video" if "video" in value else "#blend" if "blend" in value else "#drive"


def _shape_unblended(value: Any) -> str:
    shape = _shape(value)
    return "#drive" if shape == "#blend" else shape


_Word = Annotated[Literal["source", "canonical"], Tag("#word")]
Plain = Annotated[
    _Word | Annotated[SourceOrCanonical, Tag("#drive")] | Annotated[VideoDriven, Tag("#video")],
    Discriminator(_shape_unblended),
]
Expression = Annotated[
    _Word
    | Annotated[SourceOrCanonical, Tag("#drive")]
    | Annotated[VideoDriven, Tag("#video")]
    | Annotated[Blended, Tag("#blend")],
    Discriminator(_shape),
]
Lip = Annotated[
    Annotated[Literal["audio"], Tag("#word")]
    | Annotated[AudioDriven, Tag("#drive")]
    | Annotated[VideoDriven, Tag("#video")],
    Discriminator(_shape_unblended),
]


def _setting(value: object) -> FactorSetting:
    if isinstance(value, str):
        return FactorSetting(Drive(value))
    if isinstance(value, VideoDriven):
        return FactorSetting(Drive.VIDEO, (Driver(value.video.media()),), value.gain)
    if isinstance(value, Blended):
        drivers = tuple(Driver(part.video.media(), part.weight) for part in value.blend)
        return FactorSetting(Drive.BLEND, drivers, value.gain)
    assert isinstance(value, SourceOrCanonical | AudioDriven)
    return FactorSetting(Drive(value.drive), gain=value.gain)


class FactorsBody(Strict):
    """What drives each factor of the face. `eye` sets gaze and blink together."""

    lip: Lip = "audio"
    pose: Plain = "source"
    eye: Plain | None = None
    gaze: Plain | None = None
    blink: Plain | None = None
    expression: Expression = "source"

    @model_validator(mode="after")
    def _eye_once(self) -> FactorsBody:
        if self.eye is not None and (self.gaze is not None or self.blink is not None):
            raise PydanticCustomError("eye_ambiguous", "give eye, or gaze and blink, not both")
        return self

    def factors(self) -> Factors:
        return Factors(
            lip=_setting(self.lip),
            pose=_setting(self.pose),
            gaze=_setting(self.gaze or self.eye or "source"),
            blink=_setting(self.blink or self.eye or "source"),
            expression=_setting(self.expression),
        )


class FactorChanges(Strict):
    """What a segment drives otherwise than the item; a factor left out stays as it is there."""

    lip: Lip | None = None
    pose: Plain | None = None
    eye: Plain | None = None
    gaze: Plain | None = None
    blink: Plain | None = None
    expression: Expression | None = None

    @model_validator(mode="after")
    def _eye_once(self) -> FactorChanges:
        if self.eye is not None and (self.gaze is not None or self.blink is not None):
            raise PydanticCustomError("eye_ambiguous", "give eye, or gaze and blink, not both")
        return self

    def changed(self, own: Factors) -> Factors:
        def other(wanted: object, kept: FactorSetting) -> FactorSetting:
            return kept if wanted is None else _setting(wanted)

        return Factors(
            lip=other(self.lip, own.lip),
            pose=other(self.pose, own.pose),
            gaze=other(self.gaze or self.eye, own.gaze),
            blink=other(self.blink or self.eye, own.blink),
            expression=other(self.expression, own.expression),
        )


_Seconds = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class SegmentBody(Strict):
    """A stretch of the output with factors of its own."""

    start_s: _Seconds = Field(description="Seconds of the output.")
    stop_s: _Seconds = Field(description="Seconds of the output; after start_s.")
    ease_s: float = Field(
        default=0.2, ge=0, le=5, allow_inf_nan=False, description="How long the change takes, centred on each end."
    )
    factors: FactorChanges

    def segment(self, own: Factors) -> FactorSegment:
        return FactorSegment(self.start_s, self.stop_s, self.factors.changed(own), self.ease_s)


# --- the face, the output ----------------------------------------------------------------------------------------


class FaceAt(Strict):
    """The face at a point (pixels of the shown picture, from the top left) of a frame."""

    frame: int = Field(default=0, ge=0, le=10_000_000)
    point: list[Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)]] = Field(min_length=2, max_length=2)


class FaceLike(Strict):
    """The face most like the one in a picture."""

    reference: MediaBody


def _face_shape(value: Any) -> str:
    if not isinstance(value, dict):
        return "#auto"
    return "#reference" if "reference" in value else "#point"


Face = Annotated[
    Annotated[Literal["auto"], Tag("#auto")]
    | Annotated[FaceAt, Tag("#point")]
    | Annotated[FaceLike, Tag("#reference")],
    Discriminator(_face_shape),
]


def _face(value: object) -> FaceSetting:
    if isinstance(value, FaceAt):
        return FaceSetting(FaceChoice.POINT, value.frame, (value.point[0], value.point[1]))
    if isinstance(value, FaceLike):
        return FaceSetting(FaceChoice.REFERENCE, reference=value.reference.media())
    return FaceSetting()


class OutputBody(Strict):
    container: Literal["mp4"] = "mp4"
    video_codec: Literal["h264", "hevc", "av1"] = "h264"
    crf: int = Field(default=18, ge=0, le=63, description="Lower is better and larger; at most 51 for h264 and hevc.")
    destination: Annotated[Text, StringConstraints(max_length=2048, pattern=r"^s3://[^/\x00]+/[^\x00]+$")] | None = (
        Field(default=None, description="Where to put the file as well: `s3://bucket/key`.")
    )

    @model_validator(mode="after")
    def _crf_of_codec(self) -> OutputBody:
        if self.video_codec != "av1" and self.crf > 51:
            raise PydanticCustomError("crf_out_of_range", "crf is at most 51 for {codec}", {"codec": self.video_codec})
        return self

    def setting(self) -> OutputSetting:
        return OutputSetting(self.container, self.video_codec, self.crf, self.destination)


# --- items -------------------------------------------------------------------------------------------------------


class RightsBody(Strict):
    """What gives the right to make this face speak. Kept with the job, and returned with its results."""

    basis: Literal["consent", "licence", "own", "other"] = Field(
        description="The person's consent, a licence, the submitter's own face, or something else."
    )
    statement: Annotated[Text, StringConstraints(min_length=1, max_length=2000)] = Field(
        description="Who allowed what, when."
    )
    reference: Annotated[Text, StringConstraints(min_length=1, max_length=500)] | None = Field(
        default=None, description="Where the evidence is: a contract number, a uri."
    )

    def rights(self) -> Rights:
        return Rights(self.basis, self.statement, self.reference)


class ConsentBody(Strict):
    """That the people in the source video agree to models being trained on it; without it, it never is."""

    statement: Annotated[Text, StringConstraints(min_length=1, max_length=2000)] = Field(
        description="Who agreed to what, when."
    )
    reference: Annotated[Text, StringConstraints(min_length=1, max_length=500)] | None = Field(
        default=None, description="Where the evidence is: a form's number, a uri."
    )

    def consent(self) -> TrainingConsent:
        return TrainingConsent(self.statement, self.reference)


class _Item(Strict):
    custom_id: Annotated[Text, StringConstraints(min_length=1, max_length=128)] = Field(
        description="Yours; unique in the batch."
    )
    audio: MediaBody = Field(description="The new voice.")
    sync_mode: Literal["cut_off", "silence", "loop", "bounce", "remap"] = Field(
        default="cut_off", description="What happens where voice and video differ in length."
    )
    factors: FactorsBody = Field(default_factory=lambda: FactorsBody())
    segments: list[SegmentBody] = Field(
        default_factory=list[SegmentBody],
        max_length=MAX_SEGMENTS,
        description="Stretches of the output with factors of their own; none over another.",
    )
    face: Face = "auto"
    output: OutputBody = Field(default_factory=lambda: OutputBody())
    rights: RightsBody | None = Field(default=None, description="Instead of the batch's.")

    def _spec(self, kind: Kind, source: Media) -> JobSpec:
        factors = self.factors.factors()
        return JobSpec(
            custom_id=self.custom_id,
            kind=kind,
            source=source,
            voice=self.audio.media(),
            sync_mode=SyncMode(self.sync_mode),
            factors=factors,
            face=_face(self.face),
            output=self.output.setting(),
            segments=tuple(segment.segment(factors) for segment in self.segments),
        )


class DubItem(_Item):
    """A video gets a new voice; the generated face is pasted back into the source picture."""

    kind: Literal["dub"]
    video: MediaBody
    training_consent: ConsentBody | None = Field(
        default=None, description="The source video may be trained on; may be withdrawn."
    )

    def spec(self) -> JobSpec:
        return self._spec(Kind.DUB, self.video.media())


class AnimateItem(_Item):
    """A still picture speaks: a square video of the face at 25 frames a second."""

    kind: Literal["animate"]
    image: MediaBody

    def spec(self) -> JobSpec:
        return self._spec(Kind.ANIMATE, self.image.media())


class _KindUnknown(_Item):
    """Takes the place of an item whose `kind` is missing or unknown: the rest is still checked."""

    kind: Literal["dub", "animate"]
    video: MediaBody | None = None
    image: MediaBody | None = None


def _kind(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else None
    return {"dub": "#dub", "animate": "#animate"}.get(kind, "#kind") if isinstance(kind, str) else "#kind"


Item = Annotated[
    Annotated[DubItem, Tag("#dub")] | Annotated[AnimateItem, Tag("#animate")] | Annotated[_KindUnknown, Tag("#kind")],
    Discriminator(_kind),
]
_ITEM: Final[TypeAdapter[Any]] = TypeAdapter(Item)

EXAMPLE: Final = {
    "name": "trailer, Spanish",
    "priority": 60,
    "metadata": {"show": "the-garden"},
    "items": [
        {
            "custom_id": "scene-1",
            "kind": "dub",
            "video": {"uri": "s3://studio/garden/scene-1.mp4"},
            "audio": {"asset_id": "ast_0192f3a1b2c37d4e8f00112233445566"},
            "sync_mode": "cut_off",
        },
        {
            "custom_id": "host",
            "kind": "animate",
            "image": {"uri": "https://example.com/host.png"},
            "audio": {"uri": "https://example.com/host-es.wav"},
            "factors": {
                "pose": {"video": {"uri": "https://example.com/nods.mp4"}},
                "expression": {"drive": "canonical", "gain": 0.8},
            },
        },
    ],
}


class _BatchHead(Strict):
    name: Annotated[Text, StringConstraints(max_length=200)] | None = None
    priority: int = Field(default=50, ge=0, le=100, description="Higher goes first among your own batches.")
    model: Annotated[Text, StringConstraints(min_length=1, max_length=100)] = Field(
        default="champion", description="An alias or a version; pinned when the batch is accepted."
    )
    deadline: AwareDatetime | None = Field(default=None, description="Jobs not finished by then expire.")
    metadata: dict[
        Annotated[Text, StringConstraints(min_length=1, max_length=64)],
        Annotated[Text, StringConstraints(max_length=512)],
    ] = Field(default_factory=dict, max_length=50, description="Yours, returned as it came.")
    rights: RightsBody | None = Field(default=None, description="Of every item that has none of its own.")
    dry_run: bool = Field(default=False, description="Check everything and estimate; nothing is stored.")


class BatchBody(_BatchHead):
    """A batch of dubbing jobs."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [EXAMPLE]})
    items: Annotated[list[DubItem | AnimateItem], Field(min_length=1, max_length=MOST_ITEMS)]


class _Envelope(_BatchHead):
    """The body with its items still raw: each is validated by itself, so that one cannot hide another's errors."""

    items: Annotated[list[Any], Field(min_length=1, max_length=MOST_ITEMS)]


@dataclass(frozen=True)
class Read:
    """A body as far as it could be read. `specs` are the items that stand, by their number in `items`; `media` are
    references inside the broken ones, by JSON pointer; spec is None where the head itself is wrong. `problems` is
    everything found so far."""

    spec: BatchSpec | None
    specs: tuple[tuple[int, JobSpec], ...]
    media: tuple[tuple[str, Media], ...]
    dry_run: bool
    problems: tuple[Problem, ...]


def read(raw: bytes) -> Read:
    """Validate a body of POST /v1/batches; raises ApiProblem only where it is not JSON at all."""
    try:
        head: _Envelope | None = _Envelope.model_validate_json(raw)
        assert head is not None
        problems: list[Problem] = []
        items: Sequence[Any] = head.items
    except ValidationError as error:
        head = None
        mistakes = error.errors(include_url=False)
        if mistakes[0]["type"] == "json_invalid":
            raise ApiProblem("malformed_json", str(mistakes[0]["msg"])) from error
        problems = list(problems_of(mistakes))
        body = from_json(raw)
        found = body.get("items") if isinstance(body, dict) else None
        items = found[:MOST_ITEMS] if isinstance(found, list) else ()
    specs: list[tuple[int, JobSpec]] = []
    rights: list[Rights | None] = []
    consents: list[TrainingConsent | None] = []
    of_all = head.rights.rights() if head is not None and head.rights is not None else None
    media: list[tuple[str, Media]] = []
    for number, item in enumerate(items):
        try:
            valid = _ITEM.validate_python(item)
            specs.append((number, valid.spec()))
            rights.append(valid.rights.rights() if valid.rights is not None else of_all)
            agreed = getattr(valid, "training_consent", None)
            consents.append(agreed.consent() if agreed is not None else None)
        except ValidationError as error:
            problems += problems_of(error.errors(include_url=False), f"/items/{number}")
            media += _media_in(item, f"/items/{number}")
    problems += _repeated(items)
    spec = None
    if head is not None:
        jobs = tuple(job for _, job in specs)
        said = (dict(head.metadata), tuple(rights), tuple(consents))
        spec = BatchSpec(jobs, head.name, head.priority, head.model, head.deadline, *said)
    return Read(spec, tuple(specs), tuple(media), head.dry_run if head else False, tuple(problems))


def _media_in(value: Any, pointer: str, depth: int = 7) -> Iterator[tuple[str, Media]]:
    """References to media that stand, wherever they are in a broken item."""
    if not isinstance(value, dict | list) or depth == 0:
        return
    if isinstance(value, dict) and value.keys() & {"uri", "asset_id"}:
        with suppress(ValidationError):
            yield pointer, MediaBody.model_validate(value).media()
        return
    for name, part in value.items() if isinstance(value, dict) else enumerate(value):
        step = str(name).replace("~", "~0").replace("/", "~1")
        yield from _media_in(part, f"{pointer}/{step}", depth - 1)


def _repeated(items: Sequence[Any]) -> list[Problem]:
    """Custom ids used twice, wherever they can be read, whatever else is wrong with their items."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for number, item in enumerate(items):
        if isinstance(item, dict) and isinstance(item.get("custom_id"), str):
            places[item["custom_id"]].append(number)
    return [
        Problem("custom_id_repeated", f"{custom_id!r} is also item {numbers[0]}", f"/items/{number}/custom_id")
        for custom_id, numbers in places.items()
        for number in numbers[1:]
    ]


def to_check(read: Read) -> BatchSpec:
    """All that can be checked of a body with mistakes: its standing items, then each stray reference as an item."""
    strays = (JobSpec(f"\0{n}", Kind.DUB, media, media) for n, (_, media) in enumerate(read.media))
    items = (*(job for _, job in read.specs), *strays)
    return replace(read.spec, items=items) if read.spec is not None else BatchSpec(items)


def as_sent(read: Read, problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Problems of `to_check`'s items, pointing into what the user sent; those of the head only where it was read."""
    return tuple(moved for problem in problems if (moved := _as_sent(read, problem)) is not None)


def _as_sent(read: Read, problem: Problem) -> Problem | None:
    _, *parts = problem.pointer.split("/")
    if len(parts) < 2 or parts[0] != "items":
        return problem if read.spec is not None and parts != ["items"] else None
    number, rest = int(parts[1]), parts[2:]
    if number < len(read.specs):
        return replace(problem, pointer="/".join(("/items", str(read.specs[number][0]), *rest)))
    pointer, _ = read.media[number - len(read.specs)]
    # A stray reference stands as video and as audio of its item.
    return replace(problem, pointer="/".join((pointer, *rest[1:]))) if rest[:1] == ["video"] else None
