"""The ffmpeg command under our own hand: its errors told, its time limited."""

from __future__ import annotations

from pathlib import Path

import ffmpeg
import pytest

from farm.errors import Transient
from farm.media import run
from tests import media_files


def test_errors_are_told(tmp_path: Path) -> None:
    spec = ffmpeg.input(run.url(tmp_path / "absent.wav"), f="wav").output(run.url(tmp_path / "a.wav"))
    with pytest.raises(run.FfmpegFailed, match=r"absent\.wav"):
        run.ffmpeg(spec, 30, (), tmp_path / "a.wav")


def test_time_is_limited(tmp_path: Path) -> None:
    endless = ffmpeg.input("anullsrc", f="lavfi", re=None).output(run.url(tmp_path / "a.wav"))
    with pytest.raises(Transient, match="media_tool_timeout"):
        run.ffmpeg(endless, 1.0, (), tmp_path / "a.wav")


def test_only_files_are_read(tmp_path: Path) -> None:
    options = {"f": "wav", "protocol_whitelist": "file,pipe"}
    spec = ffmpeg.input("http://127.0.0.1:9/a.wav", **options).output(run.url(tmp_path / "a.wav"))
    with pytest.raises(run.FfmpegFailed, match="whitelist"):
        run.ffmpeg(spec, 30, (), tmp_path / "a.wav")


def test_names_are_not_taken_for_options_or_urls(tmp_path: Path) -> None:
    odd = media_files.audio(tmp_path / "a.wav").rename(tmp_path / "-y concat:x%03d,'#.wav")
    b = tmp_path / "b.wav"
    run.ffmpeg(ffmpeg.input(run.url(odd), f="wav").output(run.url(b)), 30, (odd,), b)
    assert (tmp_path / "b.wav").stat().st_size > 1000
