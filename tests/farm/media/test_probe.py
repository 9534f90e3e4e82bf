"""What users send: described exactly, or refused with a code of its own."""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from farm.domain.limits import MediaLimits
from farm.domain.media import AudioFacts, VideoFacts
from farm.errors import Rejected
from farm.media import decode, probe, sniff, structure
from tests import media_files

LIMITS = MediaLimits(max_bytes=50_000_000, max_duration_s=60, max_pixels=1920 * 1080)


def refusal(path: Path, limits: MediaLimits = LIMITS) -> Rejected:
    with pytest.raises(Rejected) as caught:
        probe.probe(path, limits)
    return caught.value


def test_facts_of_a_common_video(tmp_path: Path) -> None:
    path = media_files.video(tmp_path / "a.mp4", rate=Fraction(30000, 1001), frames=45, audio_s=1.0, colors=(1, 1, 1))
    facts = probe.probe(path, LIMITS)
    assert facts.container == "mp4"
    assert facts.size_bytes == path.stat().st_size
    assert facts.video == VideoFacts(
        codec="h264",
        width=128,
        height=96,
        rotation=0,
        sample_aspect=Fraction(1),
        frame_rate=Fraction(30000, 1001),
        time_base=Fraction(1, 30000),
        frames=45,
        duration_s=Fraction(45 * 1001, 30000),
        is_vfr=False,
        pixel_format="yuv420p",
        bit_depth=8,
        full_range=False,
        color_space="bt709",
        color_primaries="bt709",
        color_transfer="bt709",
    )
    assert facts.audio == AudioFacts("aac", 48_000, 2, "stereo", Fraction(1))


@pytest.mark.parametrize(
    ("rate", "suffix", "codec"),
    [
        (Fraction(24000, 1001), ".mp4", "libx264"),
        (Fraction(25), ".mov", "libx264"),
        (Fraction(30000, 1001), ".mkv", "libx264"),  # a clock of milliseconds
        (Fraction(60000, 1001), ".ts", "libx264"),  # 1501.5 ticks a frame
        (Fraction(60), ".webm", "libvpx-vp9"),
        (Fraction(30000, 1001), ".avi", "mpeg4"),  # no pts at all
        (Fraction(30000, 1001), ".avi", "libx264"),
        (Fraction(24), ".mp4", "libx265"),
    ],
)
def test_rates_are_exact_in_every_container(tmp_path: Path, rate: Fraction, suffix: str, codec: str) -> None:
    path = media_files.video(tmp_path / f"a{suffix}", rate=rate, frames=40, codec=codec)
    scan = decode.scan(path)
    numbers = [media_files.number_of(frame.y) for frame in scan]
    assert numbers == list(range(40))
    assert (scan.facts.frame_rate, scan.facts.is_vfr) == (rate, False)
    step = 1 / rate / scan.index.time_base
    assert step.denominator == 1
    assert scan.index.pts.tolist() == [k * step.numerator for k in range(40)]
    assert scan.index.duration_s == 40 / rate
    assert probe.probe(path, LIMITS).video == scan.facts


def test_changing_rates_keep_every_timestamp(tmp_path: Path) -> None:
    pts = [0, 40, 100, 133, 200, 210, 300, 355, 400, 433, 500, 577]
    path = media_files.video(tmp_path / "a.mp4", frames=12, pts=pts, time_base=Fraction(1, 1000))
    scan = decode.scan(path)
    assert [media_files.number_of(frame.y) for frame in scan] == list(range(12))
    assert scan.index.pts.tolist() == pts
    assert scan.facts.is_vfr
    assert scan.facts.frame_rate == 12 / scan.index.duration_s


def test_edit_lists_cut_the_start(tmp_path: Path) -> None:
    whole = media_files.video(tmp_path / "a.mp4", frames=40, gop=12)
    cut = media_files.ffmpeg("-ss", "0.6", "-i", str(whole), "-c", "copy", dest=tmp_path / "b.mp4")
    scan = decode.scan(cut)
    assert [media_files.number_of(frame.y) for frame in scan] == list(range(15, 40))
    assert scan.index.pts[0] == 0
    assert probe.probe(cut, LIMITS).video == scan.facts


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (media_files.empty, "media_empty"),
        (media_files.renamed_text, "media_not_recognised"),
        (media_files.hls_playlist, "media_playlist_refused"),
        (media_files.concat_script, "media_playlist_refused"),
        (media_files.dash_manifest, "media_playlist_refused"),
    ],
)
def test_what_is_no_media_is_refused(tmp_path: Path, make, code: str) -> None:
    path = make(tmp_path / "video.mp4")
    assert refusal(path).code == code
    with pytest.raises(Rejected, match=code):
        decode.scan(path)


def test_playlists_with_a_byte_order_mark_or_spaces_are_refused(tmp_path: Path) -> None:
    for number, head in enumerate((b"\xef\xbb\xbf", b"\n\n  ", b"\0")):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(head + b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")
        assert refusal(path).code == "media_playlist_refused"


def test_binary_junk_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(range(256)) * 40)
    assert refusal(path).code == "media_not_recognised"
    path.write_bytes(b"\0\0\0\x18ftypmp42" + os.urandom(5000))
    assert refusal(path).code in ("media_truncated", "media_damaged")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_truncated_videos_are_refused(tmp_path: Path, suffix: str) -> None:
    whole = media_files.video(tmp_path / f"whole{suffix}", frames=60)
    if suffix == ".mp4":
        whole = media_files.faststart(whole, tmp_path / "front.mp4")
    error = refusal(media_files.truncated(whole, tmp_path / f"a{suffix}"))
    assert error.code == "media_truncated"
    assert "frames can be read" in error.detail
    assert not error.detail.endswith("; 0 frames can be read")


def test_a_video_without_its_index_is_truncated(tmp_path: Path) -> None:
    whole = media_files.video(tmp_path / "whole.mp4", frames=30)
    error = refusal(media_files.truncated(whole, tmp_path / "a.mp4"))
    assert error.code == "media_truncated"
    assert "0 frames can be read" in error.detail


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_truncated_pictures_are_refused(tmp_path: Path, suffix: str) -> None:
    path = media_files.truncated(media_files.image(tmp_path / f"whole{suffix}"), tmp_path / f"a{suffix}")
    with pytest.raises(Rejected, match="media_truncated"):
        decode.image(path)


def test_limits_are_named(tmp_path: Path) -> None:
    path = media_files.video(tmp_path / "a.mp4", frames=50)
    for limits, code, name in (
        (MediaLimits(1000, 60, 10**6), "media_too_large", "DUBFARM_INPUT_MAX_BYTES"),
        (MediaLimits(10**9, 1.5, 10**6), "media_too_long", "DUBFARM_INPUT_MAX_DURATION_S"),
        (MediaLimits(10**9, 60, 10_000), "media_too_many_pixels", "DUBFARM_INPUT_MAX_PIXELS"),
        (MediaLimits(10**9, 60, 10**6, max_frames=49), "media_too_many_frames", "DUBFARM_INPUT_MAX_FRAMES"),
    ):
        error = refusal(path, limits)
        assert (error.code, name in error.detail) == (code, True)
    picture = media_files.image(tmp_path / "a.png", width=640, height=480)
    assert refusal(picture, MediaLimits(10**9, 60, 10_000)).code == "media_too_many_pixels"


def test_what_headers_claim_is_checked_before_it_is_believed(tmp_path: Path) -> None:
    movie = media_files.video(tmp_path / "a.mp4", frames=5)
    error = refusal(media_files.claims_frames(movie, tmp_path / "b.mp4"), replace(LIMITS, max_frames=10**6))
    assert (error.code, "1000000000 frames" in error.detail) == ("media_too_many_frames", True)
    error = refusal(media_files.huge_picture(tmp_path / "a.png"))
    assert (error.code, "16384x16384" in error.detail) == ("media_too_many_pixels", True)
    for suffix in (".png", ".jpg", ".bmp"):
        picture = media_files.image(tmp_path / f"small{suffix}", width=66, height=34)
        assert structure.size_told(picture, sniff.sniff(picture)) == (66, 34)
    assert structure.frames_told(movie, sniff.MOV) == 5
    # A sound track's samples are no frames.
    sound = media_files.audio(tmp_path / "a.mov", codec="pcm_s16le", seconds=1)
    assert structure.frames_told(sound, sniff.MOV) == 0


@pytest.mark.parametrize(("suffix", "codec"), [(".ogg", "libopus"), (".mp3", "libmp3lame")])
def test_sounds_that_tell_their_length_are_seen_to_be_cut(tmp_path: Path, suffix: str, codec: str) -> None:
    whole = media_files.audio(tmp_path / f"whole{suffix}", seconds=3, codec=codec)
    assert probe.probe(whole, LIMITS).audio is not None
    for keep in (0.3, 0.7, 0.99):
        assert refusal(media_files.truncated(whole, tmp_path / f"cut{suffix}", keep)).code == "media_truncated"


def test_codecs_off_the_list_are_refused(tmp_path: Path) -> None:
    path = media_files.video(tmp_path / "a.avi", codec="flv", pixel_format="yuv420p", b_frames=0)
    error = refusal(path)
    assert error.code == "media_codec_unsupported"
    assert "flv1" in error.detail


def test_videos_pictures_and_sounds_are_not_taken_for_each_other(tmp_path: Path) -> None:
    sound = media_files.audio(tmp_path / "a.mp3", codec="libmp3lame")
    picture = media_files.image(tmp_path / "a.png")
    video = media_files.video(tmp_path / "a.mp4", frames=3)
    for path in (sound, picture):
        with pytest.raises(Rejected, match="media_no_video"):
            decode.scan(path)
    for path in (sound, video):
        with pytest.raises(Rejected, match="media_not_an_image"):
            decode.image(path)


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    for suffix, kind in ((".wav", sniff.WAV), (".flac", sniff.FLAC), (".mp3", sniff.MP3)):
        codec = {".wav": "pcm_s16le", ".flac": "flac", ".mp3": "libmp3lame"}[suffix]
        made = media_files.audio(tmp_path / f"a{suffix}", codec=codec)
        assert sniff.sniff(made.rename(tmp_path / "song.mp4")) == kind
    odd = media_files.video(tmp_path / "b.mp4", frames=3).rename(tmp_path / "https:%03d,#x.png")
    assert probe.probe(odd, LIMITS).container == "mp4"
