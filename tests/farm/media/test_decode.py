"""Frames by index are the frames of the scan, however they are asked for."""

from __future__ import annotations

import hashlib
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from farm.domain.limits import MediaLimits
from farm.domain.span import Span, cut
from farm.errors import Rejected
from farm.media import decode, index, probe
from farm.media.frame import Frame
from farm.media.index import FrameIndex, Seen
from tests import media_files

VFR = [0, 33, 100, 133, 200, 210, 300, 355, 400, 433, 500, 577]


def digest(frame: Frame) -> str:
    return hashlib.sha256(frame.y.tobytes() + frame.u.tobytes() + frame.v.tobytes()).hexdigest()


def cases() -> dict[str, dict]:
    long_vfr = [at + 600 * lap for lap in range(6) for at in VFR]
    return {
        "23.976.mp4": {"rate": Fraction(24000, 1001)},
        "25.mkv": {"rate": Fraction(25)},
        "29.97.ts": {"rate": Fraction(30000, 1001)},
        "60.avi": {"rate": Fraction(60), "b_frames": 3},
        "vfr.mp4": {"frames": len(long_vfr), "pts": long_vfr, "time_base": Fraction(1, 1000)},
        "rotated.mp4": {"rotation": 90},
        "ten.mp4": {"pixel_format": "yuv420p10le", "rotation": 270},
        "open_gop.mp4": {"options": {"x264-params": "threads=1:open-gop=1:bframes=3:keyint=12:scenecut=0"}},
        "refresh.mp4": {"options": {"x264-params": "threads=1:intra-refresh=1:keyint=12"}},
    }


@pytest.mark.parametrize("name", cases())
def test_windows_equal_the_scan(tmp_path: Path, name: str) -> None:
    path = media_files.video(tmp_path / name, **{"frames": 60, "gop": 12, **cases()[name]})
    scan = decode.scan(path)
    whole = [digest(frame) for frame in scan]
    with np.load(_saved(scan.index, tmp_path / "plan.npz")) as arrays:
        loaded = FrameIndex.from_arrays(arrays, "source_")
    assert (loaded.pts == scan.index.pts).all()
    with decode.open_video(path, loaded) as video:
        assert video.picture == scan.picture
        for length in (1, 7, 50):
            for span in cut(len(whole), length)[:: -1 if length == 7 else 1]:
                frames = list(video.frames(span))
                assert [frame.index for frame in frames] == list(range(span.start, span.stop))
                assert [frame.pts for frame in frames] == scan.index.pts[span.start : span.stop].tolist()
                assert [digest(frame) for frame in frames] == whole[span.start : span.stop]


def _saved(its: FrameIndex, path: Path) -> Path:
    np.savez(path, **its.arrays("source_"))
    return path


def test_the_end_is_the_end(tmp_path: Path) -> None:
    path = media_files.video(tmp_path / "a.mp4", frames=10)
    with decode.open_video(path, decode.scan(path).index_only()) as video:
        assert list(video.frames(Span(4, 4))) == []
        with pytest.raises(ValueError, match="of 10 frames"):
            next(video.frames(Span(8, 11)))


def test_another_video_under_the_same_index_is_noticed(tmp_path: Path) -> None:
    one = media_files.video(tmp_path / "a.mp4", frames=30)
    other = media_files.video(tmp_path / "b.mp4", frames=30, width=160)
    with decode.open_video(other, decode.scan(one).index_only()) as video, pytest.raises(Rejected, match="damaged"):
        list(video.frames(Span(15, 20)))


def test_damage_in_the_middle_is_passed_over_the_same_way_each_time(tmp_path: Path) -> None:
    path = media_files.video(tmp_path / "a.ts", frames=60, gop=12)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 600] = bytes(600)
    path.write_bytes(bytes(data))
    scan = decode.scan(path)
    whole = [digest(frame) for frame in scan]
    assert len(whole) > 40
    with decode.open_video(path, scan.index) as video:
        for span in cut(len(whole), 7):
            assert [digest(frame) for frame in video.frames(span)] == whole[span.start : span.stop]


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p10le"])
def test_rotation_is_applied(tmp_path: Path, rotation: int, pixel_format: str) -> None:
    path = media_files.video(tmp_path / "a.mp4", frames=3, rotation=rotation, pixel_format=pixel_format)
    scan = decode.scan(path)
    frames = list(scan)
    picture = scan.picture
    assert (picture.width, picture.height, scan.facts.rotation) == (128, 96, rotation)
    assert [media_files.number_of(frame.y) for frame in frames] == [0, 1, 2]
    on_its_side = pixel_format == "yuv422p" and rotation in (90, 270)
    assert picture.chroma_x == (0 if on_its_side or pixel_format.startswith("yuv444") else 1)
    for frame in frames:
        chroma = (96 >> picture.chroma_y, 128 >> picture.chroma_x)
        assert (frame.y.shape, frame.u.shape, frame.v.shape) == ((96, 128), chroma, chroma)
        assert frame.y.flags.c_contiguous
        assert frame.u.flags.owndata or frame.u.base is not None


@pytest.mark.parametrize(
    ("pixel_format", "codec", "suffix", "depth", "chroma"),
    [
        ("yuv420p", "libx264", ".mp4", 8, (1, 1)),
        ("yuv422p10le", "libx264", ".mp4", 10, (1, 0)),
        ("gray", "libx264", ".mp4", 8, (1, 1)),
        ("gray10le", "libx264", ".mp4", 10, (1, 1)),
        ("yuv444p12le", "libx265", ".mp4", 10, (0, 0)),
        ("nv12", "libx264", ".mp4", 8, (1, 1)),
        ("yuva420p", "ffv1", ".mkv", 8, (1, 1)),
        ("yuva444p10le", "prores_ks", ".mov", 10, (0, 0)),
        ("yuv411p", "ffv1", ".mkv", 8, (1, 0)),
        ("yuv440p", "ffv1", ".mkv", 8, (0, 0)),
        ("yuv410p", "ffv1", ".mkv", 8, (1, 1)),
        ("rgb24", "qtrle", ".mov", 8, (0, 0)),
        ("rgba", "png", ".mov", 8, (0, 0)),
        ("gbrp10le", "ffv1", ".mkv", 10, (0, 0)),
    ],
)
def test_pixel_formats(
    tmp_path: Path, pixel_format: str, codec: str, suffix: str, depth: int, chroma: tuple[int, int]
) -> None:
    path = media_files.video(tmp_path / f"a{suffix}", frames=2, pixel_format=pixel_format, codec=codec)
    scan = decode.scan(path)
    frames = list(scan)
    picture = scan.picture
    assert (picture.bit_depth, (picture.chroma_x, picture.chroma_y)) == (depth, chroma)
    assert [media_files.number_of(frame.y) for frame in frames] == [0, 1]
    assert frames[0].y.dtype == (np.uint8 if depth == 8 else np.uint16)
    assert int(frames[0].y.max()) < 1 << depth
    # The same picture through 4:2:0, 8 bits: luma agrees but for coding.
    plain = media_files.video(tmp_path / "plain.mp4", frames=1, options={"crf": "4"})
    (other,) = decode.scan(plain)
    if not pixel_format.startswith("gray"):  # swscale makes grey with full range, whatever it is told
        assert np.abs((frames[0].y >> (depth - 8)).astype(int) - other.y).mean() < 2.5
        assert abs((frames[0].u >> (depth - 8)).astype(float).mean() - other.u.mean()) < 2


def test_odd_sizes_ranges_and_matrices(tmp_path: Path) -> None:
    odd = media_files.video(tmp_path / "a.mkv", frames=2, width=127, height=95, codec="ffv1")
    (frame, _) = decode.scan(odd)
    assert (frame.y.shape, frame.u.shape) == ((95, 127), (48, 64))
    full = decode.scan(media_files.video(tmp_path / "b.mp4", frames=2, full_range=True, colors=(1, 1, 1)))
    assert (full.picture.full_range, full.picture.matrix) == (True, "bt709")
    wide = decode.scan(media_files.video(tmp_path / "c.mp4", frames=1, width=1280, height=720))
    assert (wide.picture.full_range, wide.picture.matrix) == (False, "bt709")
    hdr = decode.scan(media_files.video(tmp_path / "d.mp4", frames=1, colors=(9, 9, 16), pixel_format="yuv420p10le"))
    assert hdr.picture.matrix == "bt2020"
    list(hdr)
    assert hdr.facts.color_transfer == "smpte2084"
    woven = decode.scan(media_files.video(tmp_path / "e.mp4", frames=2, interlaced=True))
    list(woven)
    assert woven.facts.interlaced


def test_odd_sizes_turned_keep_chroma_under_its_luma(tmp_path: Path) -> None:
    path = media_files.video(
        tmp_path / "a.mkv", frames=1, width=127, height=95, codec="ffv1", options={"strict": "experimental"}
    )
    turned = media_files.ffmpeg("-display_rotation", "180", "-i", str(path), "-c", "copy", dest=tmp_path / "b.mkv")
    (frame,) = decode.scan(turned)
    assert frame.u.shape == frame.y.shape == (95, 127)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_pictures(tmp_path: Path, suffix: str) -> None:
    frame, picture = decode.image(media_files.image(tmp_path / f"a{suffix}"))
    assert (picture.width, picture.height, media_files.number_of(frame.y)) == (128, 96, 0)
    assert picture.matrix == "bt601"


def with_exif(path: Path, orientation: int) -> Path:
    """A png made by the factory, with an EXIF orientation and a colour profile that has a name."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    profile = chunk(b"iCCP", b"a name\0\0" + zlib.compress(bytes(200)))
    data = path.read_bytes()
    path.write_bytes(data[:33] + profile + chunk(b"eXIf", tiff) + data[33:])
    return path


def test_exif_orientations(tmp_path: Path) -> None:
    plain, _ = decode.image(media_files.image(tmp_path / "plain.png"))
    upright = {
        1: plain.y,
        2: plain.y[:, ::-1],
        3: plain.y[::-1, ::-1],
        4: plain.y[::-1],
        5: plain.y.T,
        6: np.rot90(plain.y, -1),
        7: plain.y[::-1, ::-1].T,
        8: np.rot90(plain.y),
    }
    for orientation, shown in upright.items():
        path = with_exif(media_files.image(tmp_path / "a.png"), orientation)
        frame, picture = decode.image(path)
        assert (picture.height, picture.width) == shown.shape
        assert (frame.y == shown).all(), orientation
        video = probe.probe(path, MediaLimits(10**9, 60, 10**7)).video
        assert video is not None
        assert (video.height, video.width) == shown.shape


def test_mirrored_videos(tmp_path: Path) -> None:
    path = media_files.video(tmp_path / "a.mp4", frames=2)
    flipped = media_files.ffmpeg("-display_hflip", "-i", str(path), "-c", "copy", dest=tmp_path / "b.mp4")
    one, two = decode.scan(path), decode.scan(flipped)
    assert all((a.y == b.y[:, ::-1]).all() for a, b in zip(one, two, strict=True))
    assert (two.facts.rotation, two.facts.mirrored) == (0, True)


def test_alpha_of_a_picture_is_left_out(tmp_path: Path) -> None:
    with_alpha, _ = decode.image(media_files.image(tmp_path / "a.png", pixel_format="rgba"))
    without, _ = decode.image(media_files.image(tmp_path / "b.png"))
    assert (with_alpha.y == without.y).all()


def seen(pts: list[int | None], duration: int = 0, dts: list[int | None] | None = None) -> list[Seen]:
    return [Seen(at, dts[k] if dts else None, duration, k == 0) for k, at in enumerate(pts)]


def test_negative_and_late_starts_begin_at_zero() -> None:
    its = index.build(seen([-80, -40, 0, 40]), Fraction(1, 1000), None)
    assert (its.pts.tolist(), its.end_pts, its.frame_rate) == ([0, 40, 80, 120], 160, Fraction(25))
    assert index.build(seen([5000, 5040, 5080]), Fraction(1, 1000), None).pts.tolist() == [0, 40, 80]


def test_broken_clocks_are_repaired() -> None:
    base = Fraction(1, 1000)
    missing = index.build(seen([0, None, 80, 120, None]), base, Fraction(25))
    assert missing.pts.tolist() == [0, 40, 80, 120, 160]
    twice = index.build(seen([0, 40, 40, 80, 120, 160]), base, Fraction(25))
    assert twice.pts.tolist() == [0, 40, 41, 80, 120, 160]
    jump = index.build(seen([90_000, 90_040, 90_080, 0, 40, 80]), base, Fraction(25))
    assert jump.pts.tolist() == [0, 40, 80, 120, 160, 200]
    none = index.build(seen([None] * 4), base, Fraction(25))
    assert none.pts.tolist() == [0, 40, 80, 120]


def test_rates_rounded_to_a_clock_are_found() -> None:
    for rate in (Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001), Fraction(30), Fraction(24)):
        for base in (Fraction(1, 1000), Fraction(1, 16000)):
            ms = [round(1000 * k / rate) for k in range(500)]
            pts: list[int | None] = [at * (base.denominator // 1000) for at in ms]
            its = index.build(seen(pts), base, None)
            assert (its.frame_rate, its.is_vfr, its.end_pts * its.time_base) == (rate, False, 500 / rate)
    own = index.build(seen([k * 33 for k in range(500)]), Fraction(1, 1000), None)
    assert (own.frame_rate, own.is_vfr) == (Fraction(1000, 33), False)
    phone = index.build(seen([0, 33, 66, 105, 133, 166, 205]), Fraction(1, 1000), None)
    assert phone.is_vfr
