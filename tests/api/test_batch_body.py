"""What POST /v1/batches takes: a table of bodies and what is said about them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from api.errors import ApiProblem
from api.v1.batch_body import EXAMPLE, MOST_ITEMS, as_sent, read, to_check
from farm.domain.factor import Drive, Driver, FactorSetting, Media
from farm.domain.job import FaceChoice, FaceSetting, Kind, OutputSetting, SyncMode
from farm.domain.submission import media_of, problems
from farm.errors import Problem

AUDIO = {"uri": "https://example.com/v.wav"}
VIDEO = {"uri": "s3://b/v.mp4"}
ASSET = "ast_0192f3a1b2c37d4e8f00112233445566"


def dub(**fields: Any) -> dict[str, Any]:
    return {"custom_id": "a", "kind": "dub", "video": VIDEO, "audio": AUDIO} | fields


def body(*items: Any, **head: Any) -> bytes:
    return json.dumps({"items": list(items)} | head).encode()


def only(**fields: Any):
    found = read(body(dub(**fields)))
    assert found.problems == ()
    assert found.spec is not None
    return found.spec.items[0]


def test_the_example_of_the_docs_is_valid():
    found = read(json.dumps(EXAMPLE).encode())
    assert found.problems == ()
    assert found.spec is not None
    assert [job.kind for job in found.spec.items] == [Kind.DUB, Kind.ANIMATE]
    assert found.spec.priority == 60
    assert found.spec.metadata == {"show": "the-garden"}


def test_defaults():
    job = only()
    assert job.sync_mode is SyncMode.CUT_OFF
    assert job.factors.lip == FactorSetting(Drive.AUDIO)
    for setting in (job.factors.pose, job.factors.gaze, job.factors.blink, job.factors.expression):
        assert setting == FactorSetting(Drive.SOURCE)
    assert job.face == FaceSetting()
    assert job.output == OutputSetting()
    spec = read(body(dub())).spec
    assert spec is not None
    assert (spec.name, spec.priority, spec.model, spec.deadline, spec.metadata) == (None, 50, "champion", None, {})


MEDIA = Media(uri="s3://b/v.mp4")


@pytest.mark.parametrize(
    ("factors", "name", "setting"),
    [
        ({"pose": "canonical"}, "pose", FactorSetting(Drive.CANONICAL)),
        ({"pose": {"drive": "source", "gain": 0.5}}, "pose", FactorSetting(Drive.SOURCE, gain=0.5)),
        ({"pose": {"video": VIDEO}}, "pose", FactorSetting(Drive.VIDEO, (Driver(MEDIA),))),
        ({"lip": {"video": VIDEO, "gain": 2}}, "lip", FactorSetting(Drive.VIDEO, (Driver(MEDIA),), 2.0)),
        ({"lip": {"drive": "audio", "gain": 0}}, "lip", FactorSetting(Drive.AUDIO, gain=0.0)),
        ({"eye": "canonical"}, "gaze", FactorSetting(Drive.CANONICAL)),
        ({"eye": "canonical"}, "blink", FactorSetting(Drive.CANONICAL)),
        ({"gaze": "canonical"}, "blink", FactorSetting(Drive.SOURCE)),
        ({"blink": {"video": {"asset_id": ASSET}}}, "blink", FactorSetting(Drive.VIDEO, (Driver(Media(None, ASSET)),))),
        (
            {"expression": {"blend": [{"video": VIDEO, "weight": 0.25}, {"video": VIDEO}], "gain": 1.2}},
            "expression",
            FactorSetting(Drive.BLEND, (Driver(MEDIA, 0.25), Driver(MEDIA)), 1.2),
        ),
    ],
)
def test_factors(factors: dict[str, Any], name: str, setting: FactorSetting):
    assert getattr(only(factors=factors).factors, name) == setting


def test_segments_keep_what_they_do_not_name():
    segments = [
        {"start_s": 1, "stop_s": 2.5, "factors": {"eye": "canonical"}, "ease_s": 0.5},
        {"start_s": 2.5, "stop_s": 3, "factors": {"expression": {"blend": [{"video": VIDEO}]}}},
    ]
    job = only(factors={"pose": "canonical", "gaze": {"drive": "source", "gain": 2}}, segments=segments)
    first, second = job.segments
    assert (first.start_s, first.stop_s, first.ease_s, second.ease_s) == (1, 2.5, 0.5, 0.2)
    assert first.factors.gaze == first.factors.blink == FactorSetting(Drive.CANONICAL)
    assert first.factors.pose == second.factors.pose == FactorSetting(Drive.CANONICAL)
    assert second.factors.gaze == FactorSetting(Drive.SOURCE, gain=2.0)
    assert second.factors.expression.drivers == (Driver(MEDIA),)
    assert [pointer for pointer, _ in media_of(job)][2:] == ["/segments/1/factors/expression/blend/0/video"]


def test_segments_that_cannot_be():
    def segment(start_s: float, stop_s: float) -> dict[str, Any]:
        return {"start_s": start_s, "stop_s": stop_s, "factors": {}}

    spec = read(body(dub(segments=[segment(4, 6), segment(1, 1), segment(2, 5), segment(6, 7)]))).spec
    assert spec is not None
    found = [(problem.pointer, problem.code) for problem in problems(spec)]
    assert found == [("/items/0/segments/1", "segment_empty"), ("/items/0/segments/0", "segments_overlap")]


def test_faces_and_output():
    assert only(face={"frame": 3, "point": [10, 20.5]}).face == FaceSetting(FaceChoice.POINT, 3, (10.0, 20.5))
    assert only(face={"reference": VIDEO}).face == FaceSetting(FaceChoice.REFERENCE, reference=MEDIA)
    asked = {"video_codec": "av1", "crf": 60, "destination": "s3://out/a/b.mp4"}
    assert only(output=asked).output == OutputSetting("mp4", "av1", 60, "s3://out/a/b.mp4")


def test_a_deadline_has_a_time_zone():
    spec = read(body(dub(), deadline="2027-01-01T00:00:00+02:00")).spec
    assert spec is not None
    assert spec.deadline == datetime(2026, 12, 31, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (body(), [("/items", "length_wrong")]),
        (b"{}", [("/items", "field_missing")]),
        (b"[]", [("", "type_wrong")]),
        (b'"x"', [("", "type_wrong")]),
        (body(dub(), colour="red"), [("/colour", "field_unknown")]),
        (body(dub(), priority=101), [("/priority", "out_of_range")]),
        (body(dub(), priority="50"), [("/priority", "type_wrong")]),
        (body(dub(), priority=True), [("/priority", "type_wrong")]),
        (body(dub(), deadline="2027-01-01T00:00:00"), [("/deadline", "format_wrong")]),
        (body(dub(), deadline="soon"), [("/deadline", "format_wrong")]),
        (body(dub(), metadata={"a": 1}), [("/metadata/a", "type_wrong")]),
        (body(dub(), name="a\0b"), [("/name", "format_wrong")]),
        (body(dub(), model=""), [("/model", "length_wrong")]),
        (body(5), [("/items/0", "type_wrong")]),
        (body(dub(kind="zoo")), [("/items/0/kind", "value_not_offered")]),
        (body({}), [("/items/0/custom_id", ""), ("/items/0/audio", ""), ("/items/0/kind", "field_missing")]),
        (body(dub(custom_id="")), [("/items/0/custom_id", "length_wrong")]),
        (body(dub(custom_id="x" * 129)), [("/items/0/custom_id", "length_wrong")]),
        (body(dub(image=VIDEO)), [("/items/0/image", "field_unknown")]),
        (body(dub(kind="animate")), [("/items/0/image", "field_missing"), ("/items/0/video", "field_unknown")]),
        (body(dub(video={})), [("/items/0/video", "media_ambiguous")]),
        (body(dub(video="x")), [("/items/0/video", "type_wrong")]),
        (body(dub(video={"uri": "s3://a/b", "asset_id": ASSET})), [("/items/0/video", "media_ambiguous")]),
        (body(dub(audio={"asset_id": "ast_1"})), [("/items/0/audio/asset_id", "format_wrong")]),
        (body(dub(sync_mode="stretch")), [("/items/0/sync_mode", "value_not_offered")]),
        (body(dub(factors={"pose": "audio"})), [("/items/0/factors/pose", "value_not_offered")]),
        (body(dub(factors={"lip": "source"})), [("/items/0/factors/lip", "value_not_offered")]),
        (
            body(dub(segments=[{"start_s": -1, "stop_s": 2}])),
            [
                ("/items/0/segments/0/start_s", "out_of_range"),
                ("/items/0/segments/0/factors", "field_missing"),
            ],
        ),
        (
            body(dub(segments=[{"start_s": 0, "stop_s": 2, "factors": {"eye": "source", "blink": "source"}}])),
            [("/items/0/segments/0/factors", "eye_ambiguous")],
        ),
        (body(dub(factors={"smile": 1})), [("/items/0/factors/smile", "field_unknown")]),
        (body(dub(factors={"eye": "source", "gaze": "source"})), [("/items/0/factors", "eye_ambiguous")]),
        (
            body(dub(factors={"pose": {"drive": "source", "gain": -1}})),
            [("/items/0/factors/pose/gain", "out_of_range")],
        ),
        (
            body(dub(factors={"pose": {"blend": []}})),
            [("/items/0/factors/pose/drive", "field_missing"), ("/items/0/factors/pose/blend", "field_unknown")],
        ),
        (
            body(dub(factors={"expression": {"blend": []}})),
            [("/items/0/factors/expression/blend", "length_wrong")],
        ),
        (
            body(dub(factors={"expression": {"blend": [{"video": {"uri": 1}, "weight": 3}]}})),
            [
                ("/items/0/factors/expression/blend/0/video/uri", "type_wrong"),
                ("/items/0/factors/expression/blend/0/weight", "out_of_range"),
            ],
        ),
        (body(dub(face="left")), [("/items/0/face", "value_not_offered")]),
        (body(dub(face={"frame": 0})), [("/items/0/face/point", "field_missing")]),
        (body(dub(face={"point": [1]})), [("/items/0/face/point", "length_wrong")]),
        (body(dub(face={"point": [1, -1]})), [("/items/0/face/point/1", "out_of_range")]),
        (body(dub(output={"container": "mov"})), [("/items/0/output/container", "value_not_offered")]),
        (body(dub(output={"crf": 52})), [("/items/0/output", "crf_out_of_range")]),
        (body(dub(output={"destination": "https://x/y"})), [("/items/0/output/destination", "format_wrong")]),
        (body(dub(), dub()), [("/items/1/custom_id", "custom_id_repeated")]),
        (body(dub(**{"a/b~c": 1})), [("/items/0/a~1b~0c", "field_unknown")]),
        # Nothing hides anything else: the head, a broken item, a repeated id of another broken item.
        (
            body(dub(video={}), 5, dub(audio={}), priority=-1),
            [
                ("/priority", "out_of_range"),
                ("/items/0/video", "media_ambiguous"),
                ("/items/1", "type_wrong"),
                ("/items/2/audio", "media_ambiguous"),
                ("/items/2/custom_id", "custom_id_repeated"),
            ],
        ),
    ],
)
def test_mistakes(raw: bytes, expected: list[tuple[str, str]]):
    found = read(raw)
    assert [p.pointer for p in found.problems] == [pointer for pointer, _ in expected]
    for problem, (_, code) in zip(found.problems, expected, strict=True):
        assert not code or problem.code == code
        assert problem.detail


@pytest.mark.parametrize("raw", [b"", b"{", b'{"items": [1,}', b"\xff\xfe", b'{"items": ["\xff"]}'])
def test_what_is_not_json(raw: bytes):
    with pytest.raises(ApiProblem) as caught:
        read(raw)
    assert caught.value.status_code == 400
    assert caught.value.code == "malformed_json"


def test_too_many_items():
    found = read(body(*[dub(custom_id=str(n)) for n in range(MOST_ITEMS + 1)]))
    assert [(p.pointer, p.code) for p in found.problems] == [("/items", "length_wrong")]


def test_problems_come_back_to_where_they_were_sent():
    broken = dub(custom_id="x", video={"uri": "s3://b/x"}, audio={}, factors={"pose": {"video": {"uri": "s3://b/y"}}})
    found = read(body(dub(video={}, audio=5), dub(custom_id="b"), broken, dub(custom_id="c")))
    assert [number for number, _ in found.specs] == [1, 3]
    strays = [("/items/2/video", "s3://b/x"), ("/items/2/factors/pose/video", "s3://b/y")]
    assert [(pointer, media.uri) for pointer, media in found.media] == strays
    checked = to_check(found)
    assert [item.source.uri for item in checked.items] == ["s3://b/v.mp4", "s3://b/v.mp4", "s3://b/x", "s3://b/y"]
    assert len({item.custom_id for item in checked.items}) == 4
    problems = [
        Problem("a", "", "/items/1/audio/uri"),
        Problem("b", "", "/items/3/video/uri"),
        Problem("b", "", "/items/3/audio/uri"),
        Problem("c", "", "/model"),
        Problem("d", "", "/items"),
    ]
    back = [p.pointer for p in as_sent(found, problems)]
    assert back == ["/items/3/audio/uri", "/items/2/factors/pose/video/uri", "/model"]
    headless = read(body(dub(), priority="x"))
    assert [p.pointer for p in as_sent(headless, problems[3:])] == []
