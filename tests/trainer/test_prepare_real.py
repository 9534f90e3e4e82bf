"""Preparation tried on real people (tests.material pulls them), in VoxCeleb2's layout, with a real voice."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest
import torch

from tests import material
from trainer.corpus import FACTORS, factor_slice
from trainer.dataset import open_dataset
from trainer.prepare.run import prepare
from trainer.prepare.setting import PrepareSetting

pytestmark = pytest.mark.real

SETTING = PrepareSetting(size=128, frames=40, loose=8, most=1, held_out=0.3, min_face=60)


def film(video: Path, dest: Path, seconds: float, voice: Path | None) -> None:
    dest.parent.mkdir(parents=True)
    sound = ["-i", str(voice), "-map", "0:v:0", "-map", "1:a:0", "-c:a", "aac"] if voice else ["-an"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(video), *sound]
    subprocess.run([*command, "-c:v", "libx264", "-crf", "16", "-t", str(seconds), str(dest)], check=True)


def test_real_people_are_kept_and_what_is_no_talking_face_is_not(tmp_path: Path) -> None:
    voice = material.statement().parents[1] / "audio" / "obama_speech.wav"
    people = {
        "franck": (material.franck(), 3.5, voice),
        "cap": (material.cap13(), 3.5, voice),
        "phone": (material.carphone(), 3.5, voice),
        "leaving": (material.face_then_none(), 5.0, voice),
        "nobody": (material.no_people(), 2.0, voice),
        "mute": (material.franck(), 2.0, None),
    }
    for name, (video, seconds, sound) in people.items():
        film(video, tmp_path / "vox" / name / "video" / "00001.mp4", seconds, sound)
    two = tmp_path / "vox" / "two" / "video" / "00001.mp4"
    two.parent.mkdir(parents=True)
    two.write_bytes(material.statement().read_bytes())

    report = prepare(str(tmp_path / "vox"), str(tmp_path / "set"), SETTING)
    print((tmp_path / "set" / "report.md").read_text())
    assert report["factors"] == "read"
    dropped = {file["key"].split("/")[0]: file["reason"] for file in report["dropped_files"]}
    assert dropped.pop("nobody") == "no_face"
    assert dropped.pop("mute") == "no_audio"
    assert dropped.pop("two") in ("several_faces", "slow_frames")
    assert not dropped
    corpus = open_dataset(str(tmp_path / "set"), 128)
    for clips in (corpus.train, corpus.held_out):
        factors = clips.factors.flatten(0, 1)
        # In the units of puppets: real heads and lids move about as much.
        assert (factors[:, factor_slice("pose")].abs() < 8).all()
        assert 0.02 < factors[:, FACTORS.index("jaw")].std() < 1
        picture = clips.picture(torch.tensor([0]), torch.tensor([20]))
        assert picture.std() > 0.15
