"""One video file into clips: the face followed and cropped by the farm's own code, the voice, what the priors read.

T frames of a clip at 25 a second, L loose ones, N = T + L, S pixels a side, F factors, W mel frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from farm.domain.job import FaceChoice, FaceSetting
from farm.domain.span import Span
from farm.errors import Rejected
from farm.face.align import SIDE, crop, crop_from_frame
from farm.face.nets import FaceNets
from farm.face.planes import to_device
from farm.face.resample import invert
from farm.face.runs import stretches
from farm.face.track import Track, Tracker
from farm.media import audio, decode, mel
from farm.media.frame import PictureFormat
from farm.media.index import FrameIndex
from trainer.corpus import FPS, factor_slice, strip, true_factors
from trainer.landmark_prior import LandmarkPrior
from trainer.prepare.setting import Dropped, PrepareSetting
from trainer.prepare.source import Boxes, Item, Source, read_boxes
from trainer.priors import Prior
from trainer.puppets.write import read_sidecar

GROUPS: Final = {"deep3d": "pose", "l2cs": "gaze"}
"""Which factors a user's network reads instead of the landmarks: its first output, (B, 6) and (B, 2)."""
_SILENCE: Final = 1e-4
_AGREES: Final = 0.7
_MOST_SOUND_S: Final = 3600


@dataclass(frozen=True)
class Prepared:
    """A clip. pictures_NSS3 uint8, factors_NF, score_N of the landmarks, strip_80W, wave int16 of the T frames.

    first_s: where it begins in its file. is_true: the factors are those of a puppet's sidecar.
    """

    item: Item
    first_s: float
    pictures: NDArray[np.uint8]
    factors: NDArray[np.float32]
    score: NDArray[np.float32]
    strip: NDArray[np.float32]
    wave: NDArray[np.int16]
    is_true: bool


class Eyes(Protocol):
    """What looks at pictures while preparing; made once a process."""

    nets: FaceNets
    landmarks: LandmarkPrior
    priors: dict[str, Prior]


def prepare_file(item: Item, source: Source, setting: PrepareSetting, eyes: Eyes, folder: Path) -> list[Prepared]:
    """All clips of one file. folder: empty, for what is written on the way. Raises Dropped."""
    path = source.fetch(item.key, folder)
    boxes = _boxes(item, source, folder, setting)
    track, picture, index = _follow(path, boxes, setting, eyes.nets)
    voice, loudness = _voice(path, folder)
    rate = float(index.frame_rate)
    if rate < setting.min_rate:
        raise Dropped("slow_frames", f"{rate:.2f} frames a second")
    place = crop_from_frame(track.anchors, track.run, rate)
    span = float(np.median(SIDE / np.abs(np.linalg.det(place[track.run >= 0, :, :2])) ** 0.5))
    if span < setting.min_face:
        raise Dropped("small_face", f"{span:.0f} pixels")
    shown = _shown_at(index)
    truth = _truth(item, source, folder, len(index))
    prepared = []
    for window in _windows(track.run[shown], setting):
        steps = np.concatenate([window, _elsewhere(track.run[shown], window, setting.loose)])
        wanted = shown[steps]
        pictures = _pictures(path, index, picture, place, wanted, setting.size)
        factors, score = _look(pictures, eyes)
        if score.mean() < setting.min_score:
            continue
        if truth is not None:
            rows, place_of_picture = truth
            factors = true_factors(rows[wanted], _crop_in_picture(place[wanted], place_of_picture))
        heard = int(window[0]) - (boxes.offset if boxes is not None else 0)
        samples = SAMPLES * heard
        wave = audio.read(voice, samples, samples + SAMPLES * setting.frames)
        prepared.append(
            Prepared(
                item,
                round(int(window[0]) / FPS, 3),
                pictures,
                factors.astype(np.float32),
                score,
                strip(lambda low, high: audio.read(voice, low, high), heard, setting.frames, loudness),
                np.round(wave * 32768).clip(-32768, 32767).astype(np.int16),
                truth is not None,
            )
        )
    if not prepared:
        raise Dropped("unsure_face")
    return prepared


SAMPLES: Final = mel.SAMPLE_RATE // FPS


def _boxes(item: Item, source: Source, folder: Path, setting: PrepareSetting) -> Boxes | None:
    if item.boxes_key is None or setting.boxes == "ignore":
        return None
    try:
        return read_boxes(source.fetch(item.boxes_key, folder).read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise Dropped("broken_boxes", str(error)) from None


def _follow(
    path: Path, boxes: Boxes | None, setting: PrepareSetting, nets: FaceNets
) -> tuple[Track, PictureFormat, FrameIndex]:
    """The face through the whole file: the one in the boxes where they apply."""
    try:
        scan = decode.scan(path)
        picture = scan.picture
        applies = boxes is not None and not (setting.boxes == "auto" and picture.width == picture.height)
        pixels = _in_pixels(boxes, picture) if applies and boxes is not None else None
        choice = FaceSetting()
        if pixels is not None:
            middle = len(pixels) // 2
            choice = FaceSetting(FaceChoice.POINT, middle, tuple(pixels[middle, :2] + pixels[middle, 2:] / 2))
        tracker = Tracker(nets, picture, choice)
        for frame in scan:
            tracker.add([frame])
    except Rejected as error:
        raise Dropped("broken_file", f"{error.code}: {error.detail}") from None
    try:
        track = tracker.finish()
    except Rejected as error:
        missed = error.code in ("face_point_missed", "face_frame_missing")
        raise Dropped("box_disagrees" if missed else "no_face", error.detail) from None
    if pixels is not None:
        _check_boxes(track, pixels)
    elif track.faces_seen > 1:
        raise Dropped("several_faces", f"{track.faces_seen} faces")
    return track, picture, scan.index


def _in_pixels(boxes: Boxes, picture: PictureFormat) -> NDArray[np.float64]:
    size = np.array([picture.width, picture.height] * 2)
    return boxes.boxes if boxes.in_pixels else boxes.boxes * size


def _check_boxes(track: Track, boxes_T4: NDArray[np.float64]) -> None:
    """The middle of the found face lies in the box, in most of the frames that have both."""
    count = min(len(boxes_T4), len(track.found))
    found = np.flatnonzero(track.found[:count])
    middle, box = track.anchors[found].mean(1), boxes_T4[found]
    inside = ((middle > box[:, :2]) & (middle < box[:, :2] + box[:, 2:])).all(1)
    if len(found) == 0 or inside.mean() < _AGREES:
        raise Dropped("box_disagrees", f"in {int(inside.sum())} of {count} frames the face lies in its box")


def _voice(path: Path, folder: Path) -> tuple[Path, float]:
    """The voice as a wav of 16 kHz, and its loudness."""
    wav = folder / "voice.wav"
    try:
        audio.speech(path, wav)
    except Rejected as error:
        raise Dropped("no_audio", f"{error.code}: {error.detail}") from None
    length = audio.length(wav)
    pieces = (audio.read(wav, at, min(at + 160_000, length)) for at in range(0, length, 160_000))
    loudness = mel.rms(pieces)
    if loudness < _SILENCE:
        raise Dropped("silent", f"loudness {loudness:.1e}")
    return wav, loudness


def _shown_at(index: FrameIndex) -> NDArray[np.int64]:
    """Which frame of the file is nearest to each step of 1/25 s."""
    steps = max(1, int(index.duration_s * FPS))
    ticks = np.array([float(Fraction(k, FPS) / index.time_base) for k in range(steps)])
    after = np.searchsorted(index.pts, ticks).clip(1, max(1, len(index) - 1))
    after = np.minimum(after, len(index) - 1)
    before = np.maximum(after - 1, 0)
    near = np.abs(index.pts[before] - ticks) <= np.abs(index.pts[after] - ticks)
    return np.where(near, before, after)


def _windows(run_K: NDArray[np.int32], setting: PrepareSetting) -> list[NDArray[np.int64]]:
    """Steps of up to `most` clips: as many as fit into each run side by side, spread evenly over it."""
    found = []
    for start, stop in stretches(run_K):
        if run_K[start] < 0:
            continue
        count = min((stop - start) // setting.frames, setting.most)
        for i in range(count):
            part = (stop - start) / count
            first = start + int(i * part + (part - setting.frames) / 2)
            found.append(np.arange(first, first + setting.frames))
    if not found:
        longest = max((stop - start for start, stop in stretches(run_K) if run_K[start] >= 0), default=0)
        raise Dropped("too_short", f"{longest} of {setting.frames} frames")
    return found[: setting.most]


def _elsewhere(run_K: NDArray[np.int32], window: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Steps with the face, spread evenly over what lies outside the window; over all where that is too little."""
    known = np.flatnonzero(run_K >= 0)
    outside = known[(known < window[0]) | (known > window[-1])]
    rest = outside if len(outside) >= count else known
    return rest[np.linspace(0, len(rest) - 1, count).round().astype(int)]


def _pictures(
    path: Path, index: FrameIndex, picture: PictureFormat, place: NDArray, wanted: NDArray[np.int64], size: int
) -> NDArray[np.uint8]:
    """(N, S, S, 3): each frame decoded once, cropped, in the order asked for."""
    out = np.empty((len(wanted), size, size, 3), np.uint8)
    try:
        with decode.open_video(path, index) as video:
            for number in np.unique(wanted):
                (frame,) = video.frames(Span(int(number), int(number) + 1))
                planes = to_device([frame], picture, torch.device("cpu"))
                x = (crop(planes, place[number : number + 1], size) + 1) * 127.5
                out[wanted == number] = x[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()
    except Rejected as error:
        raise Dropped("broken_file", f"{error.code}: {error.detail}") from None
    return out


def _look(pictures: NDArray[np.uint8], eyes: Eyes) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    factors, scores = [], []
    with torch.no_grad():
        for part in torch.from_numpy(pictures).permute(0, 3, 1, 2).split(16):
            x = part.float() / 127.5 - 1
            read, score = eyes.landmarks.read(x)
            for name, prior in eyes.priors.items():
                at = factor_slice(GROUPS[name])
                seen = prior.features(x)[0]
                if seen.shape != (len(x), at.stop - at.start):
                    shape = f"{tuple(seen.shape)}, not (pictures, {at.stop - at.start})"
                    raise Rejected("bad_prior", f"the first output of {name} is {shape}")
                read[:, at] = seen
            factors.append(read.numpy())
            scores.append(score.numpy())
    return np.concatenate(factors), np.concatenate(scores)


def _truth(item: Item, source: Source, folder: Path, frames: int) -> tuple[torch.Tensor, NDArray[np.float64]] | None:
    """A puppet's parameters and where its picture lies in the video's."""
    if item.sidecar_key is None:
        return None
    try:
        rows, place = read_sidecar(source.fetch(item.sidecar_key, folder).read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise Dropped("broken_sidecar", str(error)) from None
    if len(rows) != frames:
        raise Dropped("broken_sidecar", f"{len(rows)} frames, the video has {frames}")
    return rows, place


def _crop_in_picture(crop_from_frame_N23: NDArray[np.float64], frame_from_picture: NDArray[np.float64]) -> torch.Tensor:
    """(N, 2, 3): the puppet's own coordinates of the crop's (-1 to 1)."""
    frame_from_crop = invert(crop_from_frame_N23)
    linear = frame_from_crop[:, :, :2] * (SIDE / 2)
    # Crop pixel p has its centre at (p + 1/2) 2 / SIDE - 1; a frame's pixels are counted from the first one's edge.
    middle = frame_from_crop[:, :, :2] @ np.full(2, (SIDE - 1) / 2) + frame_from_crop[:, :, 2] + 0.5
    back = np.linalg.inv(frame_from_picture[:, :2])
    shift = (back @ (middle - frame_from_picture[:, 2])[..., None])[..., 0]
    return torch.from_numpy(np.concatenate([back @ linear, shift[:, :, None]], 2)).float()
