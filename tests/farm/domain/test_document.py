"""Nouns go into their columns and come out the same."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import pytest

from farm.domain.document import from_document, to_document
from farm.domain.factor import Drive, Driver, Factors, FactorSegment, FactorSetting, Media
from farm.domain.job import FaceChoice, FaceSetting, JobSpec, Kind, SyncMode
from farm.domain.media import MediaFacts, VideoFacts
from farm.domain.order import Blob, Segment, mean_scores
from farm.domain.span import Span

SPEC = JobSpec(
    "äöü",
    Kind.ANIMATE,
    Media(asset_id="ast_1"),
    Media(uri="https://example.com/a.wav"),
    SyncMode.BOUNCE,
    Factors(expression=FactorSetting(Drive.BLEND, (Driver(Media(uri="x"), 0.25), Driver(Media(uri="y"), 0.75)), 1.5)),
    FaceSetting(FaceChoice.POINT, 12, (3.5, 4.0)),
    segments=(FactorSegment(1.5, 2.0, Factors(pose=FactorSetting(Drive.CANONICAL)), 0.0),),
)
VIDEO = VideoFacts(
    "h264", 1920, 1080, 90, Fraction(4, 3), Fraction(30000, 1001), Fraction(1, 90000), 240, Fraction(8008, 1000),
    True, "yuv420p10le", 10, False, "bt709", "bt709", "bt709",
)  # fmt: skip
SEGMENT = Segment(Blob("k", 5, "aa"), Span(3, 7), 4, {"decode": 0.5}, {"sync": 1.0})


@pytest.mark.parametrize("value", [SPEC, VIDEO, MediaFacts("mp4", 10, VIDEO), SEGMENT])
def test_round_trip_through_json(value: object) -> None:
    assert from_document(type(value), json.loads(json.dumps(to_document(value)))) == value


def test_a_later_field_is_left_out_where_it_is_not_used() -> None:
    """A farm of the release before reads strictly, and still runs during an upgrade."""
    assert "segments" in to_document(SPEC)
    assert "segments" not in to_document(replace(SPEC, segments=()))


def test_fractions_stay_exact() -> None:
    assert to_document(VIDEO)["frame_rate"] == "30000/1001"


@pytest.mark.parametrize(
    "document",
    [{"key": "k", "size_bytes": 5}, {"key": "k", "size_bytes": 5, "sha256": "x", "colour": "red"}, [], "text", None],
)
def test_other_documents_are_noticed(document: object) -> None:
    with pytest.raises(ValueError, match="Blob"):
        from_document(Blob, document)


def test_what_has_no_document_is_a_bug() -> None:
    with pytest.raises(TypeError, match="no document for bytes"):
        to_document({"a": b"x"})


def test_mean_scores_weigh_by_frames() -> None:
    one = Segment(Blob("k", 5, "aa"), Span(0, 30), 30, {}, {"sync": 1.0, "lips": 2.0})
    two = Segment(Blob("k", 5, "aa"), Span(30, 40), 10, {}, {"sync": 5.0})
    assert mean_scores([one, two]) == {"sync": 2.0, "lips": 2.0}
    assert mean_scores([]) == {}
