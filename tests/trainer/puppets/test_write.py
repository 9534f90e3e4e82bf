"""Puppets as ordinary videos: the farm finds their faces, and the sidecars tell the truth about them."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from farm.domain.job import FaceSetting
from farm.face.nets import FaceNets
from farm.face.track import Track, Tracker
from farm.media import audio, decode
from trainer.__main__ import app
from trainer.puppets.framing import anchors
from trainer.puppets.write import WriteSetting, Written, read_sidecar, write_clips

SETTING = WriteSetting(2, 320, 180, seconds=1.0, seed=3, per_identity=1, layout="voxceleb2")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Written]:
    return write_clips(tmp_path_factory.mktemp("puppets"), SETTING)


def follow(path: Path) -> Track:
    scan = decode.scan(path)
    tracker = Tracker(FaceNets(), scan.picture, FaceSetting())
    for frame in scan:
        tracker.add([frame])
    return tracker.finish()


def test_the_farm_finds_the_faces_where_the_sidecar_says(written: list[Written]) -> None:
    for clip in written:
        track = follow(clip.video)
        assert track.found.mean() > 0.95
        assert track.faces_seen == 1
        rows, place = read_sidecar(clip.sidecar.read_text())
        true = anchors(rows).numpy() @ place[:, :2].T + place[:, 2] - 0.5
        found = track.anchors[track.found]
        eyes = np.linalg.norm(true[:, 1] - true[:, 0], axis=1).mean()
        assert np.abs(found - true[track.found])[:, :2].mean() < 0.2 * eyes


def test_a_clip_is_an_ordinary_video_with_its_voice_and_its_facts(written: list[Written], tmp_path: Path) -> None:
    clip = written[0]
    with av.open(str(clip.video)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate, stream.frames) == (320, 180, 25, 25)
    facts = audio.speech(clip.video, tmp_path / "voice.wav")
    assert abs(float(facts.duration_s) - 1.0) < 0.1
    told = json.loads(clip.sidecar.read_text())
    assert set(told) >= {"seed", "voice", "text", "phonemes", "parameters", "frame_from_picture"}
    assert all(len(values) == 25 for values in told["parameters"].values())
    assert told["phonemes"][0][0] >= 0.2
    others = json.loads(written[1].sidecar.read_text())
    assert told["parameters"]["skin_hue"][0] != others["parameters"]["skin_hue"][0]


def test_boxes_are_in_the_official_form_and_hold_the_face(written: list[Written]) -> None:
    boxes = written[0].boxes
    assert boxes is not None
    assert boxes.parts[-4:-1] == ("txt", *written[0].video.parts[-3:-1])
    lines = boxes.read_text().splitlines()
    assert [line.split(":")[0].strip() for line in lines[:5]] == [
        "Identity",
        "Reference",
        "Offset",
        "FV Conf",
        "ASD Conf",
    ]
    assert lines[6].split() == ["FRAME", "X", "Y", "W", "H"]
    rows = np.array([[float(part) for part in line.split()] for line in lines[7:]])
    assert len(rows) == 25
    assert (np.diff(rows[:, 0]) == 1).all()
    puppet, place = read_sidecar(written[0].sidecar.read_text())
    points = (anchors(puppet).numpy() @ place[:, :2].T + place[:, 2]) / [320, 180]
    low, high = rows[:, None, 1:3], rows[:, None, 1:3] + rows[:, None, 3:5]
    assert ((points > low) & (points < high)).all()


def test_clips_that_are_there_stay_and_a_wrong_wish_is_refused(written: list[Written], tmp_path: Path) -> None:
    before = [clip.video.stat().st_mtime_ns for clip in written]
    folder = written[0].video.parents[3]
    assert write_clips(folder, SETTING) == written
    assert [clip.video.stat().st_mtime_ns for clip in written] == before
    for wish in (["--size", "100x"], ["--size", "33"], ["--layout", "x"], ["--clips", "0"]):
        assert CliRunner().invoke(app, ["puppets", "--out", str(tmp_path), *wish]).exit_code == 2
    with pytest.raises(ValueError, match="no sidecar"):
        read_sidecar("{}")
