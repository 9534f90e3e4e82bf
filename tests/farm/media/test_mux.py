"""Segments and a voice become one file with exact times; anything else is noticed."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.container import InputContainer
from av.packet import Packet

from farm.domain import timeline
from farm.domain.job import OutputSetting, SyncMode
from farm.domain.limits import MediaLimits
from farm.domain.span import Span, cut
from farm.media import audio, decode, encode, mux, probe, thumbnail
from farm.media import segment as check
from farm.media.encode import SegmentEncoder, VideoTags
from farm.media.frame import Frame, PictureFormat
from farm.media.glance import Glance
from farm.media.index import FrameIndex
from farm.media.mux import OutputCheckFailed
from farm.media.segment import Given, Watch, check_segment
from tests import media_files
from tests.farm.media.test_audio import clicks

LIMITS = MediaLimits(10**9, 600, 10**7)
H264 = OutputSetting()
NO_TAGS = VideoTags()


def segments(
    path: Path, its: FrameIndex, chunk: int, folder: Path, output: OutputSetting = H264, tags: VideoTags = NO_TAGS
) -> list[Path]:
    """The video's own frames as segments of `chunk` frames."""
    paths = []
    with decode.open_video(path, its) as video:
        for number, span in enumerate(cut(len(its), chunk)):
            paths.append(folder / f"{number}.mp4")
            encoder = SegmentEncoder(paths[-1], video.picture, its.time_base, its.frame_rate, output, tags)
            given = Given(video.picture, its.time_base)
            for frame in video.frames(span):
                encoder.add(frame)
                given.add(frame)
            assert encoder.close() == len(span)
            check_segment(paths[-1], given)
    return paths


def heard(path: Path) -> tuple[np.ndarray, int]:
    """Samples of the first channel as a player plays them, and their rate."""
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].codec_context.sample_rate
    raw = media_files.ffmpeg(
        "-i", str(path), "-map", "0:a", "-af", "pan=mono|c0=c0", "-f", "f32le", dest=path.with_suffix(".raw")
    )
    return np.frombuffer(raw.read_bytes(), np.float32), rate


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("23.976.mp4", {"rate": Fraction(24000, 1001)}),
        ("29.97.mkv", {"rate": Fraction(30000, 1001)}),
        ("60.mp4", {"rate": Fraction(60)}),
        ("vfr.mp4", {"pts": [k * 40 + (k * k * 7) % 23 for k in range(48)], "time_base": Fraction(1, 1000)}),
        ("uneven.mp4", {"pts": [k * 40 + (k * k * 7) % 39 for k in range(48)], "time_base": Fraction(1, 1000)}),
        ("rotated.mp4", {"rotation": 90}),
    ],
)
def test_exact_times_whatever_the_chunks(tmp_path: Path, name: str, made: dict) -> None:
    path = media_files.video(tmp_path / name, frames=48, **made)
    its = decode.scan(path).index_only()
    voice = media_files.audio(tmp_path / "voice.wav", seconds=5.0, rate=44_100, layout="stereo")
    for chunk in (1, 17, 48):
        paths = segments(path, its, chunk, tmp_path)
        dest = tmp_path / "out.mp4"
        facts = mux.assemble(paths, its.pts.tolist(), its.end_pts, its.time_base, voice, dest, H264)
        assert (facts.frames, facts.duration_s, facts.audio_rate_hz) == (48, its.duration_s, 44_100)
        scan = decode.scan(dest)
        assert [media_files.number_of(frame.y) for frame in scan] == list(range(48))
        shown = [at * scan.index.time_base for at in scan.index.pts.tolist()]
        assert shown == [at * its.time_base for at in its.pts.tolist()]
        assert scan.index.duration_s == its.duration_s
        assert scan.facts.rotation == 0
        assert scan.facts.frame_rate == its.frame_rate
        samples, rate = heard(dest)
        assert len(samples) == round(its.duration_s * rate)
        assert clicks(samples, rate) == pytest.approx(np.arange(0, float(its.duration_s), 0.5), abs=0.002)


@pytest.mark.parametrize(
    ("suffix", "codec", "rate", "layout", "out_rate", "out_channels"),
    [
        (".mp3", "libmp3lame", 44_100, "stereo", 44_100, 2),
        (".wav", "pcm_s16le", 8_000, "mono", 8_000, 1),
        (".flac", "flac", 48_000, "5.1", 48_000, 6),
        (".opus", "libopus", 48_000, "mono", 48_000, 1),
        (".wav", "pcm_s16le", 192_000, "stereo", 48_000, 2),
    ],
)
def test_a_short_voice_ends_in_silence(
    tmp_path: Path, suffix: str, codec: str, rate: int, layout: str, out_rate: int, out_channels: int
) -> None:
    path = media_files.video(tmp_path / "a.mp4", frames=50)
    its = decode.scan(path).index_only()
    voice = media_files.audio(tmp_path / f"voice{suffix}", seconds=1.2, rate=rate, layout=layout, codec=codec)
    dest = tmp_path / "out.mp4"
    paths = segments(path, its, 50, tmp_path)
    facts = mux.assemble(paths, its.pts.tolist(), its.end_pts, its.time_base, voice, dest, H264)
    assert (facts.audio_rate_hz, facts.audio_channels) == (out_rate, out_channels)
    assert abs(facts.audio_start_s) <= Fraction(1024, out_rate)
    assert abs(facts.audio_end_s - its.duration_s) <= Fraction(1024, out_rate)
    samples, played = heard(dest)
    assert len(samples) == 2 * played
    assert clicks(samples, played) == pytest.approx([0, 0.5, 1.0], abs=0.002)
    loud = np.flatnonzero(np.abs(samples) > 0.02)
    assert loud[-1] / played == pytest.approx(1.2, abs=1024 / played)


def test_every_sync_mode_has_a_timeline_that_muxes(tmp_path: Path) -> None:
    path = media_files.video(tmp_path / "a.mkv", frames=30, rate=Fraction(30000, 1001))
    its = decode.scan(path).index_only()
    voice = media_files.audio(tmp_path / "voice.m4a", seconds=1.3, codec="aac")
    with decode.open_video(path, its) as video:
        frames = list(video.frames(cut(30, 30)[0]))
        for mode in SyncMode:
            plan = timeline.build(mode, its.pts.tolist(), its.end_pts, its.time_base, Fraction(13, 10))
            segment = tmp_path / "s.mp4"
            encoder = SegmentEncoder(segment, video.picture, plan.time_base, its.frame_rate, H264)
            for k, shown in enumerate(plan.source_index):
                its_frame = frames[shown]
                encoder.add(Frame(k, plan.pts[k], its_frame.y, its_frame.u, its_frame.v))
            encoder.close()
            dest = tmp_path / "out.mp4"
            facts = mux.assemble([segment], plan.pts, plan.end_pts, plan.time_base, voice, dest, H264)
            assert (facts.frames, facts.duration_s) == (len(plan), plan.duration_s)
            numbers = [media_files.number_of(frame.y) for frame in decode.scan(dest)]
            assert numbers == list(plan.source_index)


@pytest.mark.parametrize("codec", ["hevc", "av1"])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le"])
def test_other_codecs_and_depths(tmp_path: Path, codec: str, pixel_format: str) -> None:
    path = media_files.video(
        tmp_path / "a.mp4", frames=12, pixel_format=pixel_format, colors=(1, 1, 1), sample_aspect=Fraction(4, 3)
    )
    scan = decode.scan(path)
    its = scan.index_only()
    output = OutputSetting(video_codec=codec, crf=24)
    tags = VideoTags(scan.facts.sample_aspect, "bt709", "bt709", "bt709")
    paths = segments(path, its, 5, tmp_path, output, tags)
    voice = media_files.audio(tmp_path / "voice.wav", seconds=1.0)
    dest = tmp_path / "out.mp4"
    mux.assemble(paths, its.pts.tolist(), its.end_pts, its.time_base, voice, dest, output)
    facts = probe.probe(dest, LIMITS).video
    assert facts is not None
    depth = 10 if pixel_format.endswith("10le") else 8
    assert (facts.codec, facts.bit_depth, facts.sample_aspect, facts.frames) == (codec, depth, Fraction(4, 3), 12)
    assert (facts.color_space, facts.color_primaries, facts.color_transfer) == ("bt709",) * 3
    assert [media_files.number_of(frame.y) for frame in decode.scan(dest)] == list(range(12))
    if codec == "hevc":
        assert b"hvc1" in dest.read_bytes()


def test_the_index_comes_first(tmp_path: Path) -> None:
    path = media_files.video(tmp_path / "a.mp4", frames=5)
    its = decode.scan(path).index_only()
    voice = media_files.audio(tmp_path / "voice.wav", seconds=1.0)
    dest = tmp_path / "out.mp4"
    paths = segments(path, its, 5, tmp_path)
    mux.assemble(paths, its.pts.tolist(), its.end_pts, its.time_base, voice, dest, H264)
    data = dest.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_packets_are_copied_bit_by_bit(tmp_path: Path) -> None:
    path = media_files.video(tmp_path / "a.mp4", frames=20)
    its = decode.scan(path).index_only()
    paths = segments(path, its, 7, tmp_path)
    dest = tmp_path / "out.mp4"
    voice = media_files.audio(tmp_path / "voice.wav", seconds=1.0)
    mux.assemble(paths, its.pts.tolist(), its.end_pts, its.time_base, voice, dest, H264)
    assert [one for path in paths for one in packets(path)] == packets(dest)


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def test_wrong_segments_are_noticed(tmp_path: Path) -> None:
    path = media_files.video(tmp_path / "a.mp4", frames=20)
    its = decode.scan(path).index_only()
    paths = segments(path, its, 7, tmp_path)
    voice = media_files.audio(tmp_path / "voice.wav", seconds=1.0)

    def assemble(chosen: list[Path], pts: list[int] | None = None) -> None:
        plan = its.pts.tolist() if pts is None else pts
        mux.assemble(chosen, plan, plan[-1] + 1, its.time_base, voice, tmp_path / "out.mp4", H264)

    with pytest.raises(OutputCheckFailed, match="13 frames instead of 20"):
        assemble(paths[:1] + paths[2:])
    with pytest.raises(OutputCheckFailed, match="frames"):
        assemble([*paths, paths[-1]])
    with pytest.raises(OutputCheckFailed, match="planned times"):
        assemble(paths, [k + (k > 3) for k in range(20)])
    other = media_files.video(tmp_path / "b.mp4", frames=6, width=160)
    (tmp_path / "other").mkdir()
    strange = segments(other, decode.scan(other).index_only(), 6, tmp_path / "other")
    with pytest.raises(OutputCheckFailed, match="other settings"):
        assemble([*paths[:2], *strange], None)


def test_a_damaged_segment_is_noticed(tmp_path: Path) -> None:
    path = media_files.video(tmp_path / "a.mp4", frames=20)
    its = decode.scan(path).index_only()
    (segment,) = segments(path, its, 20, tmp_path)
    with decode.open_video(path, its) as video:
        frames = list(video.frames(Span(0, 20)))
        picture = video.picture
    check_segment(segment, given_of(frames, picture, its))
    with pytest.raises(OutputCheckFailed, match="20 frames instead of 21"):
        check_segment(segment, given_of([*frames, replace(frames[-1], pts=frames[-1].pts + 1)], picture, its))
    late = [replace(frame, pts=frame.pts + (frame.index > 11)) for frame in frames]
    black = [replace(frame, y=frame.y // (9 if frame.index == 13 else 1)) for frame in frames]
    with pytest.raises(OutputCheckFailed, match="planned times"):
        check_segment(segment, given_of(late, picture, its))
    with pytest.raises(OutputCheckFailed, match="pixels instead of"):
        check_segment(segment, given_of(frames, replace(picture, width=picture.width + 2), its))
    with pytest.raises(OutputCheckFailed, match="frame 13 is not the picture"):
        check_segment(segment, given_of(black, picture, its))
    data = bytearray(segment.read_bytes())
    middle = data.index(b"mdat") + 4 + (data.index(b"moov") - data.index(b"mdat")) // 2
    data[middle : middle + 500] = np.random.default_rng(0).bytes(500)
    segment.write_bytes(bytes(data))
    with pytest.raises(OutputCheckFailed):
        check_segment(segment, given_of(frames, picture, its))


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_packets_watched_while_they_are_made_need_no_second_decoding(
    codec: str, pixels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = media_files.video(tmp_path / "a.mp4", frames=40, pixel_format=pixels)
    its = decode.scan(path).index_only()
    with decode.open_video(path, its) as video:
        frames, picture = list(video.frames(Span(0, 40))), video.picture
    packets: list[Packet] = []
    output = OutputSetting(video_codec=codec)
    made = tmp_path / "made.mp4"
    encoder = SegmentEncoder(made, picture, its.time_base, its.frame_rate, output, on_packet=packets.append)
    for frame in frames:
        encoder.add(frame)
    encoder.close()
    watch = Watch(codec, encoder.header)
    for packet in (*packets, None):
        watch.add(packet)
    given = given_of(frames, picture, its)
    black = given_of([replace(frame, y=frame.y // (9 if frame.index == 13 else 1)) for frame in frames], picture, its)
    decoded: list[Path] = []
    again = check._decoded

    def counted(container: InputContainer, path: Path) -> list[tuple[int, Glance]]:
        decoded.append(path)
        return again(container, path)

    monkeypatch.setattr(check, "_decoded", counted)
    check_segment(made, given, watch)
    with pytest.raises(OutputCheckFailed, match="frame 13 is not the picture"):
        check_segment(made, black, watch)
    assert not decoded
    data = bytearray(made.read_bytes())
    middle = data.index(b"mdat") + 4 + (data.index(b"moov") - data.index(b"mdat")) // 2
    data[middle] ^= 1
    made.write_bytes(bytes(data))
    with suppress(OutputCheckFailed):
        check_segment(made, given, watch)
    assert decoded == [made]


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_a_picture_that_stands_still_or_is_black_is_noticed(codec: str, tmp_path: Path) -> None:
    """A patch moves by little: no frame is far from what it should be, but all are the first."""
    picture, base = PictureFormat(160, 120, 8, 1, 1, "bt601", False), Fraction(1, 25)
    rows, columns = np.mgrid[:120, :160]
    chroma = np.full((60, 80), 128, np.uint8)
    frames = []
    for k in range(12):
        disc = (rows - 60) ** 2 + (columns - 70 - k) ** 2 < 15**2
        frames.append(Frame(k, k, (100 + 60 * disc).astype(np.uint8), chroma, chroma))
    output = OutputSetting(video_codec=codec, crf=51)

    def made(name: str, shown: list[Frame]) -> Path:
        encoder = SegmentEncoder(tmp_path / name, picture, base, Fraction(25), output)
        for frame in shown:
            encoder.add(frame)
        encoder.close()
        return tmp_path / name

    given = Given(picture, base)
    for frame in frames:
        given.add(frame)
    check_segment(made("good.mp4", frames), given)
    frozen = made("frozen.mp4", [replace(frames[6], index=k, pts=k) for k in range(12)])
    with pytest.raises(OutputCheckFailed, match="stands still"):
        check_segment(frozen, given)
    black = made("black.mp4", [replace(frame, y=np.full_like(frame.y, 16)) for frame in frames])
    with pytest.raises(OutputCheckFailed, match="frame 0 is not the picture"):
        check_segment(black, given)


def given_of(frames: list[Frame], picture: PictureFormat, its: FrameIndex) -> Given:
    given = Given(picture, its.time_base)
    for frame in frames:
        given.add(frame)
    return given


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    path = media_files.video(tmp_path / "a.mp4", frames=30, width=320, height=240)
    its = decode.scan(path).index_only()
    for codec in ("h264", "hevc", "av1"):
        made = set()
        for turn in ("one", "two"):
            (tmp_path / turn).mkdir(exist_ok=True)
            (segment,) = segments(path, its, 30, tmp_path / turn, OutputSetting(video_codec=codec))
            made.add(hashlib.sha256(segment.read_bytes()).hexdigest())
        assert len(made) == 1


def test_odd_sizes_are_padded_by_one(tmp_path: Path) -> None:
    path = media_files.video(tmp_path / "a.mkv", frames=3, width=127, height=95, codec="ffv1")
    its = decode.scan(path).index_only()
    (segment,) = segments(path, its, 3, tmp_path, OutputSetting(crf=1))
    (source, *_), (coded, *_) = decode.scan(path), decode.scan(segment)
    assert coded.y.shape == (96, 128)
    assert np.abs(coded.y[:95, :127].astype(int) - source.y).max() <= 6
    assert np.abs(coded.y[:95, 127].astype(int) - coded.y[:95, 126]).max() <= 6


def test_full_range_and_colours_are_kept(tmp_path: Path) -> None:
    path = media_files.video(tmp_path / "a.mp4", frames=3, full_range=True, colors=(1, 1, 1))
    scan = decode.scan(path)
    its = scan.index_only()
    facts = scan.facts
    tags = VideoTags(Fraction(1), facts.color_space, facts.color_primaries, facts.color_transfer)
    (segment,) = segments(path, its, 3, tmp_path, OutputSetting(crf=1), tags)
    again = decode.scan(segment)
    (source, *_), (coded, *_) = decode.scan(path), again
    assert again.picture == scan.picture
    assert again.facts.color_space == "bt709"
    assert np.abs(coded.y.astype(int) - source.y).max() <= 6


DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_hdr_is_told_on(tmp_path: Path, codec: str) -> None:
    path = media_files.video(
        tmp_path / "a.mp4",
        frames=3,
        codec="libx265",
        pixel_format="yuv420p10le",
        colors=(9, 9, 16),
        options={"x265-params": f"log-level=none:bframes=0:master-display={DISPLAY}:max-cll=1000,400"},
    )
    scan = decode.scan(path)
    its, light = scan.index_only(), scan.facts.light
    assert light is not None
    assert (light.luminance, light.max_content, light.max_average) == ((Fraction(1, 200), Fraction(1000)), 1000, 400)
    assert [round(float(value), 3) for value in (*light.primaries, *light.white)] == [
        *(0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
        *(0.313, 0.329),
    ]
    output = OutputSetting(video_codec=codec, crf=20)
    (segment,) = segments(path, its, 3, tmp_path, output, VideoTags.of(scan.facts))
    again = decode.scan(segment)
    list(again)
    kept = again.facts.light
    assert kept is not None
    assert (kept.max_content, kept.max_average) == (1000, 400)
    told = np.array([*kept.primaries, *kept.white, *kept.luminance], float)
    assert np.allclose(told, np.array([*light.primaries, *light.white, *light.luminance], float), atol=1e-3)
    facts = again.facts
    assert (facts.color_space, facts.color_primaries, facts.color_transfer) == ("bt2020nc", "bt2020", "smpte2084")
    assert (facts.bit_depth, facts.full_range) == (10, False)


@pytest.mark.parametrize("first", ["tff", "bff"])
def test_interlaced_stays_interlaced(tmp_path: Path, first: str) -> None:
    path = media_files.video(tmp_path / "a.mp4", frames=9, options={"x264-params": f"threads=1:{first}=1:bframes=0"})
    scan = decode.scan(path)
    its = scan.index_only()
    assert (scan.facts.interlaced, scan.facts.bottom_first) == (True, first == "bff")
    parts = segments(path, its, 4, tmp_path, OutputSetting(crf=1), VideoTags.of(scan.facts))
    for part in parts:
        again = decode.scan(part)
        frames = list(again)
        assert (again.facts.interlaced, again.facts.bottom_first) == (True, first == "bff")
        assert media_files.number_of(frames[0].y) % 4 == 0


def test_chroma_is_averaged_down() -> None:
    plane = np.array([[0, 100, 200, 100], [0, 100, 200, 100], [40, 40, 40, 41]], np.uint8)
    # Columns 0 and 2 by (1 2 1)/4 with the edge repeated, then pairs of rows, the last one with itself.
    assert encode.halved(plane, True, False).tolist() == [[25, 150], [25, 150], [40, 40]]
    assert encode.halved(plane, False, True).tolist() == [[0, 100, 200, 100], [40, 40, 40, 41]]
    flat = np.full((6, 8), 513, np.uint16)
    assert (encode.halved(flat, True, True) == 513).all()
    assert encode.halved(flat, True, True).shape == (3, 4)


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_segments_of_a_frame_or_two(tmp_path: Path, codec: str) -> None:
    picture = PictureFormat(64, 64, 8, 1, 1, "bt601", False)
    for frames in (1, 2, 3):
        encoder = SegmentEncoder(
            tmp_path / "a.mp4", picture, Fraction(1, 1000), Fraction(25), OutputSetting(video_codec=codec)
        )
        given = Given(picture, Fraction(1, 1000))
        for k in range(frames):
            grey = (np.full((64, 64), 40 * k, np.uint8), *(np.full((32, 32), 128, np.uint8),) * 2)
            frame = Frame(k, 70 + 40 * k, *grey)
            encoder.add(frame)
            given.add(frame)
        assert encoder.close() == frames
        check_segment(tmp_path / "a.mp4", given)
        assert decode.scan(tmp_path / "a.mp4").index_only().pts.tolist() == [40 * k for k in range(frames)]


def test_segments_need_increasing_times(tmp_path: Path) -> None:
    picture = PictureFormat(64, 48, 8, 1, 1, "bt601", False)
    grey = (np.full((48, 64), 128, np.uint8), *(np.full((24, 32), 128, np.uint8),) * 2)
    encoder = SegmentEncoder(tmp_path / "a.mp4", picture, Fraction(1, 25), Fraction(25), H264)
    encoder.add(Frame(0, 5, *grey))
    with pytest.raises(ValueError, match="not later"):
        encoder.add(Frame(1, 5, *grey))
    encoder.abort()
    assert not (tmp_path / "a.mp4").exists()
    with pytest.raises(ValueError, match="at least one frame"):
        SegmentEncoder(tmp_path / "b.mp4", picture, Fraction(1, 25), Fraction(25), H264).close()


def test_speech_of_the_output_is_the_voice(tmp_path: Path) -> None:
    path = media_files.video(tmp_path / "a.mp4", frames=25)
    its = decode.scan(path).index_only()
    voice = media_files.audio(tmp_path / "voice.mp3", seconds=1.0, codec="libmp3lame", rate=44_100)
    dest = tmp_path / "out.mp4"
    paths = segments(path, its, 25, tmp_path)
    mux.assemble(paths, its.pts.tolist(), its.end_pts, its.time_base, voice, dest, H264)
    audio.speech(voice, tmp_path / "a.wav")
    audio.speech(dest, tmp_path / "b.wav")
    one, two = (audio.read(tmp_path / name, 400, 15_600) for name in ("a.wav", "b.wav"))
    assert np.corrcoef(one, two)[0, 1] > 0.97


def test_thumbnails(tmp_path: Path) -> None:
    for pixel_format, full in (("yuv420p", False), ("yuv422p10le", False), ("yuv444p", True)):
        path = media_files.video(
            tmp_path / "a.mp4", frames=1, width=320, height=180, pixel_format=pixel_format, full_range=full
        )
        scan = decode.scan(path)
        (frame,) = scan
        small = thumbnail.jpeg(frame, scan.picture, 160)
        (tmp_path / "a.jpg").write_bytes(small)
        shown, picture = decode.image(tmp_path / "a.jpg")
        assert (picture.width, picture.height, len(small) < 20_000) == (160, 90, True)
        rgb = media_files.picture_of(0, 320, 180).astype(float)
        luma = (rgb @ [0.299, 0.587, 0.114]).reshape(90, 2, 160, 2).mean((1, 3))
        assert np.abs(luma - shown.y).mean() < 6
        assert thumbnail.jpeg(frame, scan.picture, 4000)[:2] == b"\xff\xd8"
