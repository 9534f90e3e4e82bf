"""Everything odd that a user may send, through a real farm over HTTP: right, or refused with a reason of its own.

One batch holds all cases and is rendered in chunks of 7 frames. Then the same farm, started twice more, renders some of
them in chunks of 50 and whole: every frame must be the same bits.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from farm.client import Client
from farm.domain import timeline
from farm.domain.job import SyncMode
from farm.domain.timeline import Timeline
from tests import media_files
from tests.e2e import small_cinema
from tests.e2e.small_cinema import Made, Shown

FILM: Final = Fraction(24000, 1001)
NTSC: Final = Fraction(30000, 1001)
VFR_STEPS: Final = (20, 41, 33, 58, 25, 47, 37)
"""Milliseconds that frames of the video of changing rate are shown, over and over."""


@dataclass(frozen=True)
class Source:
    """A video of the drawn actor; his frame k is its frame k. pts: ticks of a millisecond, for a changing rate."""

    frames: int
    rate: Fraction = Fraction(25)
    pts: tuple[int, ...] | None = None
    width: int = 192
    height: int = 108
    rotation: int = 0
    audio_s: float = 0.0
    suffix: str = ".mp4"
    options: Mapping[str, Any] = field(default_factory=dict)
    """More that `media_files.video` is told."""

    def write(self, path: Path) -> None:
        changing = {} if self.pts is None else {"pts": self.pts, "time_base": Fraction(1, 1000)}
        made: dict[str, Any] = {"picture": media_files.actor_of, **changing, **self.options}
        media_files.video(
            path.with_suffix(self.suffix),
            frames=self.frames,
            rate=self.rate,
            width=self.width,
            height=self.height,
            rotation=self.rotation,
            audio_s=self.audio_s,
            **made,
        )

    def timeline(self, mode: SyncMode, voice_s: Fraction) -> Timeline:
        if self.pts is None:
            return timeline.build(mode, range(self.frames), self.frames, 1 / self.rate, voice_s)
        # How long the last frame is shown is not sure: no case gets to it.
        return timeline.build(mode, self.pts, self.pts[-1] + 1_000_000, Fraction(1, 1000), voice_s)


def _changing(frames: int) -> tuple[int, ...]:
    steps = [VFR_STEPS[k % len(VFR_STEPS)] for k in range(frames - 1)]
    return (0, *np.cumsum(steps).tolist())


SOURCES: Final[Mapping[str, Source]] = {
    "23.976": Source(56, FILM),
    "25": Source(56),
    "29.97": Source(20, NTSC),
    "60": Source(56, Fraction(60)),
    "vfr": Source(64, pts=_changing(64)),
    "rotated": Source(56, width=108, height=144, rotation=90),
    "upside_down": Source(12, rotation=180),
    "short": Source(16),
    "driver": Source(20, Fraction(30), width=120, height=120),
    "talkie": Source(16, audio_s=0.6),
    "24": Source(15, Fraction(24)),
    "30": Source(18, Fraction(30)),
    "50": Source(28, Fraction(50)),
    "59.94": Source(34, Fraction(60000, 1001)),
    "rotated_270": Source(15, width=108, height=144, rotation=270),
    "odd_width": Source(15, width=191, height=107, options={"pixel_format": "yuv444p"}),
    "wide_pixels": Source(15, width=144, height=108, options={"sample_aspect": Fraction(4, 3)}),
    "interlaced": Source(15, options={"interlaced": True}),
    "10_bit": Source(15, options={"codec": "libx265", "pixel_format": "yuv420p10le", "colors": (9, 9, 16)}),
    "full_range": Source(15, options={"full_range": True, "colors": (1, 1, 1)}),
    "bt601": Source(15, options={"colors": (6, 6, 6)}),
    "alpha": Source(
        15,
        suffix=".mov",
        options={"codec": "prores_ks", "pixel_format": "yuva444p10le", "b_frames": 0, "colors": (6, 2, 2)},
    ),
    "two_faces": Source(15, width=256, options={"picture": media_files.pair_of}),
    "one_frame": Source(1),
}


@dataclass(frozen=True)
class Voice:
    seconds: float
    rate: int = 48_000
    layout: str = "mono"
    codec: str = "pcm_s16le"
    suffix: str = ".wav"

    @property
    def seconds_exactly(self) -> Fraction:
        return Fraction(round(self.seconds * self.rate), self.rate)


VOICES: Final[Mapping[str, Voice]] = {
    "v2.0": Voice(2.0, 16_000),
    "v2.5": Voice(2.5, 16_000),
    "v0.5": Voice(0.52, 16_000),
    "v1.3": Voice(1.33, 44_100),
    "8k": Voice(0.61, 8_000),
    "44k_stereo": Voice(0.61, 44_100, "stereo"),
    "48k_5.1": Voice(0.61, 48_000, "5.1"),
    "mp3": Voice(0.61, 44_100, "stereo", "libmp3lame", ".mp3"),
    "aac": Voice(0.61, 48_000, "stereo", "aac", ".m4a"),
    "aac_5.1": Voice(0.61, 48_000, "5.1", "aac", ".m4a"),
    "flac": Voice(0.61, 44_100, "mono", "flac", ".flac"),
    "opus": Voice(0.61, 48_000, "stereo", "libopus", ".ogg"),
    "silent": Voice(0.61, 48_000),
}


@dataclass(frozen=True)
class Case:
    source: str
    voice: str
    mode: SyncMode = SyncMode.CUT_OFF
    options: Mapping[str, Any] = field(default_factory=dict)

    def timeline(self) -> Timeline:
        return SOURCES[self.source].timeline(self.mode, VOICES[self.voice].seconds_exactly)


RATES: Final = {
    "23.976": Case("23.976", "v2.5"),
    "25": Case("25", "v2.5"),
    "29.97": Case("29.97", "v2.5"),
    "60": Case("60", "v2.5"),
    "vfr": Case("vfr", "v2.0"),
    "rotated": Case("rotated", "v2.5"),
    "upside_down": Case("upside_down", "v0.5"),
}
SOUNDS: Final = {
    name: Case("short", name)
    for name in ("8k", "44k_stereo", "48k_5.1", "mp3", "aac", "aac_5.1", "flac", "opus", "silent")
}
KINDS: Final = (
    *("24", "30", "50", "59.94", "rotated_270", "odd_width", "wide_pixels", "interlaced", "10_bit"),
    *("full_range", "bt601", "alpha", "two_faces", "one_frame"),
)
PICTURES: Final = {name: Case(name, "v0.5") for name in KINDS}
TEN_BIT: Final = ("10_bit", "alpha")
MODES: Final = {
    f"{mode}_{length}_voice": Case("short", voice, mode)
    for mode in SyncMode
    for length, voice in (("shorter", "v0.5"), ("longer", "v1.3"))
}
BASE: Final = Case("short", "v0.5")


def _of(source: str, **more: object) -> dict[str, object]:
    return {"video": {"file": f"{source}.mp4"}, **more}


def _factors(**factors: object) -> Case:
    return Case("short", "v0.5", options={"factors": factors})


FACTORS: Final = {
    "base": BASE,
    "pose_canonical": _factors(pose="canonical"),
    "pose_gain_0": _factors(pose={"drive": "source", "gain": 0}),
    "eye_canonical": _factors(eye="canonical"),
    "gaze_canonical": _factors(gaze="canonical"),
    "blink_canonical": _factors(blink="canonical"),
    "gaze_and_blink_canonical": _factors(gaze="canonical", blink="canonical"),
    "gaze_video": _factors(gaze=_of("driver"), blink="canonical"),
    "expression_of_itself": _factors(expression=_of("short")),
    "expression_blend": _factors(
        expression={"blend": [{**_of("driver"), "weight": 0.7}, {**_of("25"), "weight": -0.3}]}
    ),
    "lip_video": _factors(lip=_of("driver", gain=1.5)),
    "lip_gain": _factors(lip={"drive": "audio", "gain": 3}),
    "face_at_point": Case("short", "v0.5", options={"face": {"frame": 3, "point": [93, 60]}}),
    "hevc": Case("short", "v0.5", options={"output": {"video_codec": "hevc", "crf": 20}}),
}
CASES: Final = RATES | SOUNDS | PICTURES | MODES | FACTORS


@dataclass(frozen=True)
class Refusal:
    """A dub of `video` with `audio` that must fail with `code`, and say which file it is about."""

    code: str
    about: str
    video: str = "short.mp4"
    audio: str = "v0.5.wav"
    options: Mapping[str, Any] = field(default_factory=dict)


REFUSALS: Final = {
    "no_face": Refusal("no_face", "source", "no_face.mp4"),
    "no_face_in_driver": Refusal("no_face", "driving video 1", options={"factors": {"pose": _of("no_face")}}),
    "no_face_in_reference": Refusal(
        "reference_no_face", "reference", options={"face": {"reference": {"file": "nobody.png"}}}
    ),
    "no_face_at_point": Refusal("face_point_missed", "source", options={"face": {"point": [3, 100]}}),
    "no_such_frame": Refusal("face_frame_missing", "source", options={"face": {"frame": 99, "point": [93, 60]}}),
    "truncated": Refusal("media_truncated", "source", "truncated.mp4"),
    "truncated_faststart": Refusal("media_truncated", "source", "truncated_faststart.mp4"),
    "truncated_voice": Refusal("media_truncated", "voice", audio="truncated.wav"),
    "text": Refusal("media_not_recognised", "source", "text.mp4"),
    "text_voice": Refusal("media_not_recognised", "voice", audio="text.mp4"),
    "zero_bytes": Refusal("uri_empty", "source", "empty.mp4"),
    "zero_bytes_voice": Refusal("uri_empty", "voice", audio="empty.mp4"),
    "playlist_as_mp4": Refusal("media_playlist_refused", "source", "playlist.mp4"),
    "playlist": Refusal("media_playlist_refused", "source", "playlist.m3u8"),
    "concat_script": Refusal("media_playlist_refused", "source", "concat.mp4"),
    "concat_script_voice": Refusal("media_playlist_refused", "voice", audio="concat.mp4"),
    "claims_1e9_frames": Refusal("media_too_many_frames", "source", "claims.mp4"),
    "truncated_mp3": Refusal("media_truncated", "voice", audio="truncated.mp3"),
    "truncated_ogg": Refusal("media_truncated", "voice", audio="truncated.ogg"),
    "16k_picture_as_reference": Refusal(
        "media_too_many_pixels", "reference", options={"face": {"reference": {"file": "huge.png"}}}
    ),
    "playlist_voice": Refusal("media_playlist_refused", "voice", audio="playlist.m3u8"),
    "audio_as_video": Refusal("media_no_video", "source", "v0.5.wav"),
    "image_as_video": Refusal("media_no_video", "source", "nobody.png"),
    "silent_video_as_audio": Refusal("media_no_audio", "voice", audio="short.mp4"),
    "absent": Refusal("uri_not_found", "source", "absent.mp4"),
    "absent_driver": Refusal("uri_not_found", "driving video 1", options={"factors": {"lip": _of("absent")}}),
}


@dataclass(frozen=True)
class Results:
    """sevens: all cases in chunks of 7. fifties, whole: those of REPEATED."""

    material: Path
    image_px: int
    sevens: Mapping[str, Made]
    fifties: Mapping[str, Made]
    whole: Mapping[str, Made]


REPEATED: Final = ("23.976", "25", "60", "vfr", "rotated")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, module_services: Mapping[str, str]) -> Results:
    folder = tmp_path_factory.mktemp("inputs")
    material = folder / "material"
    material.mkdir()
    _write(material)
    everything = _items(material)
    repeated = [item for item in everything if item["custom_id"] in REPEATED]
    made: list[Mapping[str, Made]] = []
    image_px = 0
    for chunk_frames, items in ((7, everything), (50, repeated), (5000, repeated)):
        with small_cinema.farm(folder / "data", material, module_services, chunk_frames) as (client, storage_url):
            endpoint_url = module_services.get("STORAGE_ENDPOINT_URL")
            made.append(small_cinema.run(client, items, storage_url, endpoint_url, folder / f"out{chunk_frames}"))
            image_px = image_px or _image_px(client)
    return Results(material, image_px, *made)


def _image_px(client: Client) -> int:
    return next(version for version in client.versions() if "champion" in version.aliases).manifest["sizes"]["image"]


def _write(folder: Path) -> None:
    for name, source in SOURCES.items():
        source.write(folder / f"{name}.mp4")
    for name, voice in VOICES.items():
        path = folder / f"{name}{voice.suffix}"
        silence = np.zeros((1, round(voice.seconds * voice.rate)), np.float32) if name == "silent" else None
        media_files.audio(
            path, seconds=voice.seconds, rate=voice.rate, layout=voice.layout, codec=voice.codec, samples=silence
        )
    media_files.video(folder / "no_face.mp4", frames=10)
    media_files.image(folder / "nobody.png")
    shutil.copy(media_files.ACTOR.with_name("portrait.png"), folder)
    media_files.truncated(folder / "short.mp4", folder / "truncated.mp4")
    faststart = media_files.faststart(folder / "25.mp4", folder / "faststart.mp4")
    media_files.truncated(faststart, folder / "truncated_faststart.mp4")
    media_files.truncated(folder / "v2.0.wav", folder / "truncated.wav")
    for name in ("mp3", "opus"):
        suffix = VOICES[name].suffix
        media_files.truncated(folder / f"{name}{suffix}", folder / f"truncated{suffix}")
    media_files.claims_frames(folder / "short.mp4", folder / "claims.mp4")
    media_files.huge_picture(folder / "huge.png")
    media_files.concat_script(folder / "concat.mp4", str(folder / "25.mp4"))
    media_files.renamed_text(folder / "text.mp4")
    media_files.empty(folder / "empty.mp4")
    for name in ("playlist.mp4", "playlist.m3u8"):
        media_files.hls_playlist(folder / name, (folder / "25.mp4").as_uri())


def _items(folder: Path) -> list[dict[str, Any]]:
    def dub(name: str, video: str, audio: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"custom_id": name, "kind": "dub", "video": {"file": video}, "audio": {"file": audio}, **options}

    items = [
        dub(
            name,
            f"{case.source}{SOURCES[case.source].suffix}",
            f"{case.voice}{VOICES[case.voice].suffix}",
            {"sync_mode": case.mode},
        )
        | dict(case.options)
        for name, case in CASES.items()
    ]
    items += [
        dub(f"refused_{name}", refusal.video, refusal.audio, refusal.options) for name, refusal in REFUSALS.items()
    ]
    items.append(dub("video_as_voice", "short.mp4", "talkie.mp4", {}))
    portrait = {"kind": "animate", "image": {"file": "portrait.png"}}
    items.append({"custom_id": "animate", **portrait, "audio": {"file": "v0.5.wav"}})
    driven = {"factors": {"pose": _of("driver"), "eye": "canonical"}}
    items.append({"custom_id": "animate_driven", **portrait, "audio": {"file": "v1.3.wav"}, **driven})
    nobody = {"kind": "animate", "image": {"file": "nobody.png"}}
    items.append({"custom_id": "refused_animate_no_face", **nobody, "audio": {"file": "v0.5.wav"}})
    items.append(
        {
            "custom_id": "refused_video_as_image",
            "kind": "animate",
            "image": {"file": "short.mp4"},
            "audio": {"file": "v0.5.wav"},
        }
    )
    huge = {"kind": "animate", "image": {"file": "huge.png"}}
    items.append({"custom_id": "refused_animate_16k", **huge, "audio": {"file": "v0.5.wav"}})
    return [_with_uris(item, folder) for item in items]


def _with_uris(value: Any, folder: Path) -> Any:
    if isinstance(value, dict) and set(value) == {"file"}:
        return {"uri": (folder / value["file"]).as_uri()}
    if isinstance(value, dict):
        return {key: _with_uris(part, folder) for key, part in value.items()}
    return [_with_uris(part, folder) for part in value] if isinstance(value, list) else value


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CASES)
def test_a_dub_is_as_long_and_as_timed_as_it_should_be(name: str, results: Results) -> None:
    case, made = CASES[name], results.sevens[name]
    source, voice = SOURCES[case.source], VOICES[case.voice]
    expected, shown = case.timeline(), made.shown()
    assert made.job.output is not None
    assert len(shown.pts_s) == len(expected) == made.job.output.frames
    assert list(shown.pts_s) == [expected.time_s(k) for k in range(len(expected))]
    if source.pts is None:  # the track itself knows only steps between decoding times
        assert shown.video_end_s == expected.duration_s
    assert abs(shown.movie_s - expected.duration_s) <= Fraction(1024, shown.sound_hz)
    assert made.job.output.duration_s == pytest.approx(float(expected.duration_s), abs=1e-6)
    assert shown.numbers == expected.source_index
    # 4:2:0 streams have even sides: odd ones are padded by a row or column.
    even = source.width + source.width % 2, source.height + source.height % 2
    assert (shown.width, shown.height, shown.rotation) == (*even, 0)
    assert shown.sample_aspect == source.options.get("sample_aspect", 1)
    assert shown.bit_depth == (10 if case.source in TEN_BIT else 8)
    assert shown.full_range == source.options.get("full_range", False)
    assert shown.colors == source.options.get("colors", (2, 2, 2))
    assert shown.interlaced == source.options.get("interlaced", False)
    assert shown.layout == voice.layout
    if source.pts is None and case.mode is not SyncMode.REMAP:
        assert shown.rate == source.rate
    one = Fraction(1024, shown.sound_hz)
    assert abs(shown.sound_start_s) <= one
    assert abs(shown.sound_end_s - expected.duration_s) <= one
    assert (shown.sound_hz, shown.channels) == (
        voice.rate,
        2 if voice.layout == "stereo" else 6 if "5" in voice.layout else 1,
    )
    if case.voice == "silent":
        assert shown.sound_N.max() < 0.01
    else:
        _clicks_are_in_time(shown, voice)
    chunks = [chunk for chunk in made.chunks if chunk.work == "render"]
    assert made.spans == tuple((at, min(at + 7, len(expected))) for at in range(0, len(expected), 7))
    assert all(len(chunk.attempts) == 1 for chunk in chunks)
    assert sorted(made.hashes) == list(range(len(expected)))


def test_of_two_faces_one_speaks(results: Results) -> None:
    """The other one, like everything outside the face, is the source's."""
    shown = SOURCES["two_faces"]
    moved = small_cinema.difference(results.sevens["two_faces"].file, results.material / "two_faces.mp4")
    halves = moved[:, : shown.width // 2].mean(), moved[:, shown.width // 2 :].mean()
    assert max(halves) > 3 * min(halves)


def _clicks_are_in_time(shown: Shown, voice: Voice) -> None:
    """The voice has one every half second, louder than all the rest, and its rest is silent."""
    hz, sound = shown.sound_hz, np.abs(shown.sound_N)
    offset = float(shown.sound_start_s)
    for at in np.arange(0.5, min(voice.seconds, float(shown.sound_end_s)) - 0.02, 0.5):
        start = int((at - offset - 0.1) * hz)
        click = (start + int(np.argmax(sound[start : start + int(0.2 * hz)]))) / hz + offset
        assert abs(click - at) < 0.004
    silent = sound[int((voice.seconds + 0.1 - offset) * hz) :]
    assert not len(silent) or silent.max() < 0.01


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_names_its_reason_and_spends_no_retries(name: str, results: Results) -> None:
    _refused(results.sevens[f"refused_{name}"], REFUSALS[name].code, REFUSALS[name].about)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("animate_no_face", "no_face"),
        ("video_as_image", "media_not_an_image"),
        ("animate_16k", "media_too_many_pixels"),
    ],
)
def test_what_cannot_be_animated_is_refused(name: str, code: str, results: Results) -> None:
    _refused(results.sevens[f"refused_{name}"], code, "source")


def _refused(made: Made, code: str, about: str) -> None:
    assert made.job.status == "failed"
    assert made.job.error is not None
    assert (made.job.error.code, made.job.output) == (code, None)
    detail = made.job.error.detail
    assert about in detail
    assert 20 < len(detail) < 300
    assert "Traceback" not in detail
    assert "work-" not in detail  # a worker's own folders are nobody's business
    (chunk,) = made.chunks
    (attempt,) = chunk.attempts
    assert (chunk.work, chunk.status) == ("plan", "failed")
    assert (attempt.outcome, attempt.reason, attempt.code) == ("failed", "bad_input", code)


def test_a_video_may_be_the_voice(results: Results) -> None:
    shown = results.sevens["video_as_voice"].shown()
    assert len(shown.pts_s) in (15, 16)
    assert abs(shown.sound_end_s - shown.video_end_s) <= Fraction(1024, shown.sound_hz)


@pytest.mark.parametrize(("name", "voice"), [("animate", "v0.5"), ("animate_driven", "v1.3")])
def test_a_picture_speaks(name: str, voice: str, results: Results) -> None:
    made = results.sevens[name]
    expected, shown = timeline.steady(Fraction(25), VOICES[voice].seconds_exactly), made.shown()
    assert list(shown.pts_s) == [Fraction(k, 25) for k in range(len(expected))]
    assert (shown.video_end_s, shown.rate) == (expected.duration_s, 25)
    assert (shown.width, shown.height) == (results.image_px, results.image_px)
    assert abs(shown.sound_end_s - expected.duration_s) <= Fraction(1024, shown.sound_hz)
    assert len(set(made.hashes.values())) > len(expected) // 2  # something moves


def test_factors_do_what_they_are_asked(results: Results) -> None:
    made = {name: results.sevens[name].hashes for name in FACTORS}
    assert made["pose_canonical"] == made["pose_gain_0"]
    assert made["eye_canonical"] == made["gaze_and_blink_canonical"]
    assert made["expression_of_itself"] == made["face_at_point"] == made["hevc"] == made["base"]
    different = (
        "base",
        "pose_canonical",
        "eye_canonical",
        "gaze_canonical",
        "blink_canonical",
        "gaze_video",
        "expression_blend",
        "lip_video",
        "lip_gain",
    )
    for k in made["base"]:
        assert len({made[name][k] for name in different}) == len(different)


@pytest.mark.parametrize("name", REPEATED)
def test_chunked_is_whole(name: str, results: Results) -> None:
    sevens, fifties, whole = results.sevens[name], results.fifties[name], results.whole[name]
    total = len(CASES[name].timeline())
    assert (len(sevens.spans), len(fifties.spans), whole.spans) == (-(-total // 7), 2, ((0, total),))
    assert sevens.hashes == fifties.hashes == whole.hashes
    assert sorted(whole.hashes) == list(range(total))
    assert fifties.shown().pts_s == whole.shown().pts_s == sevens.shown().pts_s
