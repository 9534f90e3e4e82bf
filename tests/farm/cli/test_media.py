"""Which strings of an item are files, and where they go."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.cli.batches import file_name
from farm.cli.manifest import read
from farm.cli.media import with_media


def put(text: str) -> dict[str, str]:
    return {"put": text}


def test_media_are_found_wherever_an_item_may_hold_them() -> None:
    item = {
        "custom_id": "a.mp4",
        "video": "v.mp4",
        "audio": {"path": "a.wav"},
        "image": {"uri": "https://example.com/i.png"},
        "factors": {
            "pose": "canonical",
            "lip": {"video": "l.mp4", "gain": 2},
            "expression": {"blend": [{"video": "e.mp4"}]},
        },
        "segments": [{"start_s": 1, "factors": {"gaze": {"video": "g.mp4"}}}, 5],
        "face": {"reference": "r.png"},
        "output": {"destination": "s3://b/k"},
    }
    assert with_media(item, put) == {
        "custom_id": "a.mp4",
        "video": {"put": "v.mp4"},
        "audio": {"put": "a.wav"},
        "image": {"uri": "https://example.com/i.png"},
        "factors": {
            "pose": "canonical",
            "lip": {"video": {"put": "l.mp4"}, "gain": 2},
            "expression": {"blend": [{"video": {"put": "e.mp4"}}]},
        },
        "segments": [{"start_s": 1, "factors": {"gaze": {"video": {"put": "g.mp4"}}}}, 5],
        "face": {"reference": {"put": "r.png"}},
        "output": {"destination": "s3://b/k"},
    }


@pytest.mark.parametrize(
    "item", [{"video": 3}, {"factors": []}, {"factors": {"pose": 1}}, {"face": "auto"}, {"audio": None}]
)
def test_wrong_shapes_are_left_to_the_api(item: dict[str, object]) -> None:
    assert with_media(item, put) == item


def test_a_manifest_gets_ids_and_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"x")
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('\ufeff{"video": "v.mp4"}\n{"custom_id": "b", "video": "https://example.com/v.mp4"}\n', "utf-8")
    items, folder = read(manifest)
    assert [item["custom_id"] for item in items] == ["line-1", "b"]
    assert folder == tmp_path


@pytest.mark.parametrize(
    ("custom_id", "name"),
    [
        ("ep01 shot-3.take_2", "ep01 shot-3.take_2"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a/b", "a_b"),
        ("..", "output"),
    ],
)
def test_a_custom_id_never_leaves_the_folder(custom_id: str, name: str) -> None:
    assert file_name(custom_id) == name
