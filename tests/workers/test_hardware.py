"""Which encoder a job gets, and what is done where the GPU that was asked for is not there."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import pytest

from farm.domain.job import OutputSetting
from farm.domain.span import Span
from farm.errors import Transient
from farm.media import decode, encode, hardware
from tests import media_files
from tests.workers import planned
from workers import plan_file
from workers.studio import Studio
from workers.studio_setup import Setup
from workers.work import BundleFolder

NVENC = frozenset({"h264_nvenc/8", "hevc_nvenc/8", "hevc_nvenc/10"})


@pytest.mark.parametrize(
    ("codec", "bits", "there", "encoder"),
    [
        ("h264", 8, frozenset(), "libx264"),
        ("hevc", 10, frozenset(), "libx265"),
        ("av1", 8, frozenset(), "libsvtav1"),
        ("h264", 8, NVENC, "h264_nvenc"),
        ("h264", 10, NVENC, "libx264"),  # no GPU encodes ten bits of it
        ("hevc", 10, NVENC, "hevc_nvenc"),
        ("av1", 8, NVENC, "libsvtav1"),  # this GPU is too old for it
    ],
)
def test_the_encoder_of_a_job(codec: str, bits: int, there: frozenset[str], encoder: str) -> None:
    assert hardware.choose(codec, bits, there) == encoder


def test_who_can_render_what_was_planned_with_an_encoder() -> None:
    assert hardware.is_there("libx264", frozenset())
    assert hardware.is_there("libx265", NVENC)
    assert hardware.is_there("hevc_nvenc", NVENC)
    assert not hardware.is_there("h264_nvenc", frozenset())
    assert not hardware.is_there("av1_nvenc", NVENC)


@pytest.mark.parametrize(
    ("cores", "networks", "threads"), [(1, 1, 1), (2, 1, 1), (2, 2, 1), (16, 8, 8), (16, 4, 4), (64, 32, 8)]
)
def test_an_encoder_leaves_cores_to_the_stages_before_it(cores: int, networks: int, threads: int) -> None:
    assert hardware.encoder_threads(cores, networks) == threads


def test_the_encoders_threads_are_the_plans(tmp_path: Path) -> None:
    source = media_files.video(tmp_path / "source.mp4", frames=8)
    job = planned.job(tmp_path, source, BundleFolder(tmp_path, ""), loses_face=False)
    path = tmp_path / "other.npz"
    plan_file.write(path, plan_file.PlanFile(**{**vars(job.plan), "encoder_threads": 3}))
    assert plan_file.read(path).encoder_threads == 3


@pytest.mark.parametrize(("encoder", "said"), [("libx264", "threads="), ("libx265", "pools="), ("libsvtav1", "lp=")])
def test_every_encoder_is_told_its_threads(encoder: str, said: str) -> None:
    for threads in (1, 3):
        options, _ = encode.settings(encoder, OutputSetting(), 100, True, threads=threads)
        assert any(f"{said}{threads}" in value.split(":") for value in options.values())


def test_encoders_are_found_by_trying() -> None:
    found = hardware.encoders()
    if not Path("/dev/nvidia0").exists():
        assert found == frozenset()
        assert not hardware.decodes()
    assert found <= {f"{name}/{bits}" for name in hardware.HARDWARE.values() for bits in (8, 10)}


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="this machine has the GPU that must be missing")
def test_a_worker_that_was_promised_a_gpu_does_not_start_without() -> None:
    with pytest.raises(RuntimeError, match="no NVENC encoder works here"):
        Studio(Setup("cpu", threads=1, codecs="hardware"))


def test_a_job_of_another_encoder_is_left_to_others(tmp_path: Path) -> None:
    source = media_files.video(tmp_path / "source.mp4", frames=8)
    job = planned.job(tmp_path, source, BundleFolder(tmp_path, ""), loses_face=False)
    plan_file.write(job.path, plan_file.PlanFile(**{**vars(job.plan), "encoder": "h264_nvenc"}))
    assert plan_file.read(job.path).encoder == "h264_nvenc"
    with pytest.raises(Transient, match="h264_nvenc"):
        Studio(Setup("cpu", threads=1))(job.work(Span(0, 8), tmp_path / "out"), lambda report: None, lambda: None)


def test_where_the_gpu_decodes_otherwise_the_processor_goes_on(tmp_path: Path) -> None:
    """Here there is no GPU at all, which is the furthest that a device can be from decoding the same."""
    path = media_files.video(tmp_path / "source.mp4", frames=12, rate=Fraction(25))
    scan = decode.scan(path)
    seen = [frame.y.tobytes() for frame in scan]
    with decode.open_video(path, scan.index, hardware.DEVICE) as video:
        assert [frame.y.tobytes() for frame in video.frames(Span(0, 12))] == seen
