"""Detection, points and tracking on real people (pulled by tests.material)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from farm.domain.job import FaceChoice, FaceSetting
from farm.errors import Rejected
from farm.face import likeness, speaking
from farm.face.nets import FaceNets
from farm.face.speaker import Sound
from farm.face.track import Track, Tracker
from farm.media import audio, decode, mel
from farm.media.frame import Frame, PictureFormat, Plane
from tests import material

pytestmark = pytest.mark.real


def frames(path: Path, count: int | None = None) -> Iterator[tuple[Frame, PictureFormat]]:
    with av.open(str(path)) as container:
        for index, decoded in enumerate(container.decode(video=0)):
            if index == count:
                return
            picture = decoded.reformat(format="yuv420p")

            def plane(number: int, picture: av.VideoFrame = picture) -> Plane:
                samples = picture.planes[number]
                rows = np.frombuffer(samples, np.uint8).reshape(samples.height, samples.line_size)
                return rows[:, : samples.width].copy()

            picture_format = PictureFormat(picture.width, picture.height, 8, 1, 1, "bt601", False)
            yield Frame(index, index, plane(0), plane(1), plane(2)), picture_format


def follow(
    nets: FaceNets,
    path: Path,
    count: int | None = None,
    choice: FaceSetting | None = None,
    reference: likeness.Likeness | None = None,
) -> Track:
    tracker: Tracker | None = None
    for frame, picture_format in frames(path, count):
        tracker = tracker or Tracker(nets, picture_format, choice or FaceSetting(), reference)
        tracker.add([frame])
    assert tracker
    return tracker.finish()


def jitter(track: Track) -> float:
    """How much points shake, in parts of the face's width: median size of their second differences."""
    shake = np.linalg.norm(np.diff(track.points[track.found], 2, axis=0), axis=-1)
    return float(np.median(shake) / np.ptp(track.points[track.best_frame, :, 0]))


@pytest.mark.parametrize(
    ("clip", "count", "width"), [("franck", 240, 129), ("cap12", 120, 100), ("cap13", 120, 100), ("carphone", 120, 51)]
)
def test_a_talking_man_is_found_in_every_frame(nets: FaceNets, clip: str, count: int, width: float) -> None:
    track = follow(nets, getattr(material, clip)(), count)
    assert track.found.all()
    assert set(track.run) == {0}
    assert track.faces_seen == 1
    assert 0.75 * width < np.median(np.ptp(track.points[:, :, 0], axis=1)) < 1.25 * width
    assert jitter(track) < 0.02


@pytest.mark.parametrize("clip", ["face_then_none", "none_then_face"])
def test_a_face_that_comes_or_goes(nets: FaceNets, clip: str) -> None:
    track = follow(nets, getattr(material, clip)())
    assert int(track.found.sum()) == 72
    assert set(track.run) == {-1, 0}


def test_a_landscape_has_no_face(nets: FaceNets) -> None:
    with pytest.raises(Rejected, match="no_face"):
        follow(nets, material.no_people(), 48)


def test_a_turned_head_reads_as_turned_to_its_side(nets: FaceNets) -> None:
    track = follow(nets, material.turned_45())
    assert -55 < track.yaw_deg[0] < -35
    assert abs(follow(nets, material.astronaut()).yaw_deg[0]) < 20


def test_everybody_of_a_group_is_seen_and_can_be_pointed_at(nets: FaceNets) -> None:
    track = follow(nets, material.group())
    assert track.faces_seen == 5
    centres = {
        tuple(follow(nets, material.group(), choice=_at(x, y)).anchors[0, 2].round())
        for x, y in track.points.mean(1).tolist()
    }
    assert centres == {tuple(track.anchors[0, 2].round())}


def test_a_man_is_known_again_by_his_picture(nets: FaceNets) -> None:
    man, picture_format = next(frames(material.same_man()))
    reference = likeness.of(nets, man, picture_format)
    choice = FaceSetting(FaceChoice.REFERENCE)
    assert follow(nets, material.none_then_face(), None, choice, reference).found.sum() == 72
    with pytest.raises(Rejected, match="reference_not_matched"):
        follow(nets, material.turning_man(), 24, choice, reference)


@pytest.fixture(scope="module")
def statement_sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[NDArray[np.float32], Sound]:
    """The wave of the only filmed speech, and what a tracker is told of it."""
    wav = tmp_path_factory.mktemp("statement") / "sound.wav"
    audio.speech(material.statement(), wav)
    wave = audio.read(wav, 0, audio.length(wav))
    scan = decode.scan(material.statement()).index_only()
    return wave, Sound(wav, mel.rms(wave), scan.pts.astype(np.float64) * float(scan.time_base))


def test_who_speaks_is_taken_of_two_men_and_his_lips_tell_the_right_sound(
    nets: FaceNets, statement_sound: tuple[NDArray[np.float32], Sound]
) -> None:
    wave, sound = statement_sound
    tracker: Tracker | None = None
    for frame, picture_format in frames(material.statement()):
        tracker = tracker or Tracker(nets, picture_format, FaceSetting())
        tracker.add([frame])
    assert tracker
    track = tracker.finish(lambda: sound)
    assert track.faces_seen == 2
    assert track.found.all()
    assert (track.points[:, :, 0].mean(1) > 160).all()  # the man on the right is at the microphone

    mouth, step = speaking.mouth(track.points, track.anchors), 12

    def agreement(start: int, shift_s: float) -> float:
        window = slice(start, start + 4 * step)
        heard = speaking.expected(wave, 0, sound.rms, sound.time_s_T[window] + shift_s)
        return speaking.agreement(mouth[window], heard, sound.time_s_T[window])

    starts = range(0, len(mouth) - 4 * step + 1, step // 2)
    right = np.array([agreement(start, 0.0) for start in starts])
    wrong = np.array([agreement(start, shift_s) for start in starts for shift_s in (-0.2, 0.2)])
    assert float((right[:, None] > wrong).mean()) > 0.9


def _at(x: float, y: float) -> FaceSetting:
    return FaceSetting(FaceChoice.POINT, frame=0, point=(x, y))
