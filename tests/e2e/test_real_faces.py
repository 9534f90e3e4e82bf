"""Real people, real voices, the whole way: what comes out of the farm, and what the pipeline does to each sample.

The farm renders over HTTP what is looked at here a second time in this process, where frames can be caught before they
are encoded; hashes show that these are the very frames that the farm encoded. Pictures of a few frames, before and
after, are left in DUBFARM_LOOK when it names a folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from farm.client import Client, Job
from farm.domain.factor import Media
from farm.domain.job import JobSpec, Kind, SyncMode
from farm.domain.limits import InputLimits
from farm.domain.span import Span
from farm.embedded.farm import EmbeddedFarm
from farm.embedded.process import free_port
from farm.face import align, composite, points
from farm.face.mask import falloff, shapes
from farm.face.planes import PlanesBatch, to_device
from farm.face.seam import border_error
from farm.media import audio, decode
from farm.media.frame import Frame
from farm.media.thumbnail import jpeg
from farm.nets.bundle import manifest_sha256, seeded
from farm.nets.sizes import Sizes
from tests import material, media_files
from workers import pipeline, plan_file
from workers.pipeline import frame_sha256
from workers.studio import Studio
from workers.studio_setup import Setup
from workers.work import BundleFolder, Planned, PlanWork, RenderWork

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]
HZ = 16_000
AAC_FRAME = 1024
BATCH = 8
CPU = torch.device("cpu")
OUTSIDE = ("DATABASE_URL", "BROKER_URL", "STORAGE_URL", "STORAGE_ENDPOINT_URL")


@dataclass(frozen=True)
class Clip:
    """found: frames with the face. voice: the prompt; longer than the picture unless `sync_mode` is silence."""

    video: Path
    voice: Path
    sync_mode: SyncMode
    frames: int
    found: range
    rate: Fraction | None


@dataclass(frozen=True)
class Seen:
    """A job as this process renders it: source frames, and frames as they went into the encoder."""

    plan: plan_file.PlanFile
    planned: Planned
    work: PlanWork
    before: list[Frame]
    after: list[Frame]

    @property
    def video(self) -> plan_file.PlannedVideo:
        return self.plan.videos[0]


UNTRAINED = 15.0
"""Border error, in codes, of a picture that has nothing in common with the source but the colours at the border."""
NAMES = ("franck", "carphone", "face_then_none", "none_then_face")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Clip]:
    folder = tmp_path_factory.mktemp("clips")
    # The stream's own packets would end at 242 frames: its last group of pictures is not cut at 10 s.
    ten_s = media_files.ffmpeg(
        *("-i", str(material.franck()), "-frames:v", "240", "-c:v", "libx264", "-qp", "0", "-preset", "ultrafast"),
        dest=folder / "franck.mp4",
    )
    long, middle, short = (spoken(name, folder) for name in ("vm-opts-full", "ss-noservice", "conf-invalidpin"))
    cut, silence = SyncMode.CUT_OFF, SyncMode.SILENCE
    ntsc = Fraction(30000, 1001)
    return {
        "franck": Clip(ten_s, long, cut, 240, range(240), Fraction(24)),
        "carphone": Clip(material.carphone(), short, silence, 120, range(120), ntsc),
        "face_then_none": Clip(material.face_then_none(), middle, cut, 169, range(72), None),
        "none_then_face": Clip(material.none_then_face(), middle, cut, 169, range(96, 168), None),
    }


def spoken(name: str, folder: Path) -> Path:
    prompt = material.asterisk_sounds("es") / f"{name}.g722"
    return media_files.ffmpeg("-f", "g722", "-i", str(prompt), dest=folder / f"{name}.wav")


# ---- through the farm


@dataclass(frozen=True)
class Farmed:
    jobs: dict[str, Job]
    files: dict[str, Path]
    hashes: dict[str, dict[int, str]]
    bundle: BundleFolder


@pytest.fixture(scope="module")
def farmed(clips: dict[str, Clip], tmp_path_factory: pytest.TempPathFactory) -> Farmed:
    """All clips as one batch over HTTP, in chunks of 50 frames."""
    folder = tmp_path_factory.mktemp("farm")
    environment = {name: value for name, value in os.environ.items() if name not in OUTSIDE}
    environment |= {
        "DUBFARM_WORKER_KEEPS_FRAME_HASHES": "true",
        "DUBFARM_WORKER_CHUNK_FRAMES": "50",
        "DUBFARM_WORKER_BATCH_FRAMES": str(BATCH),
        "DUBFARM_WORKER_THREADS": "1",
    }
    environment.pop("PYTHONWARNINGS", None)
    farm = EmbeddedFarm(folder, port=free_port(), environment=environment)
    with farm as started, Client(started.url, started.key) as client:
        items = [
            {
                "custom_id": name,
                "kind": "dub",
                "video": {"asset_id": client.upload(clip.video).id},
                "audio": {"asset_id": client.upload(clip.voice).id},
                "sync_mode": clip.sync_mode.value,
            }
            for name, clip in clips.items()
        ]
        batch = client.wait(client.submit(items, name="real faces").id, timeout_s=1200)
        jobs = {job.custom_id: job for job in client.jobs(batch.id)}
        assert {job.status for job in jobs.values()} == {"succeeded"}, {n: job.error for n, job in jobs.items()}
        files = {name: folder / f"{name}.mp4" for name in jobs}
        for name, job in jobs.items():
            client.download(job.id, files[name])
    (bundle,) = (folder / "blobs" / "bundles").iterdir()
    return Farmed(
        jobs,
        files,
        {name: _hashes(folder / "blobs" / "jobs" / job.id) for name, job in jobs.items()},
        BundleFolder(bundle, manifest_sha256(bundle)),
    )


def _hashes(job: Path) -> dict[int, str]:
    lines = [line.split() for file in job.rglob("frames.txt") for line in file.read_text().splitlines()]
    return {int(frame): sha256 for frame, sha256 in lines}


@pytest.mark.parametrize("name", NAMES)
def test_every_frame_comes_out_at_its_own_time(name: str, clips: dict[str, Clip], farmed: Farmed) -> None:
    clip = clips[name]
    before, end = shown(clip.video)
    after, out_end = shown(farmed.files[name])
    assert len(after) == len(before) == clip.frames
    assert after == before
    assert out_end == end
    if clip.rate is not None:
        assert {b - a for a, b in pairwise([*after, out_end])} == {1 / clip.rate}


@pytest.mark.parametrize("name", NAMES)
def test_the_voice_starts_and_ends_where_it_did(name: str, clips: dict[str, Clip], farmed: Farmed) -> None:
    clip = clips[name]
    given = audio.read(clip.voice, 0, audio.length(clip.voice))
    heard, start_s, end_s = sound(farmed.files[name])
    _, end = shown(clip.video)
    within = Fraction(AAC_FRAME, HZ)
    assert abs(start_s) <= within
    assert abs(end_s - end) <= within
    stop = min(len(given), int(end * HZ))
    speaking = np.flatnonzero(np.abs(given[:stop]) > 0.02)
    first, last = int(speaking[0]), int(speaking[-1])
    for at in (first, last - HZ):
        lag = offset(heard, given, at)
        print(f"{name}: the voice at {at / HZ:.3f} s is {lag} samples late")
        assert abs(lag) <= AAC_FRAME
    quiet = heard[len(given) + AAC_FRAME :]
    assert clip.sync_mode is not SyncMode.SILENCE or len(quiet) > HZ // 4
    assert not np.any(np.abs(quiet) > 0.01)


def offset(heard: NDArray[np.float32], given: NDArray[np.float32], at: int) -> int:
    """Samples by which a second of the given voice is heard late, by correlation over a quarter second each way."""
    piece = given[at : at + HZ].astype(np.float64)
    reach = HZ // 4
    around = np.zeros(len(piece) + 2 * reach)
    low, high = max(0, at - reach), min(len(heard), at + len(piece) + reach)
    around[low - at + reach : high - at + reach] = heard[low:high]
    match = np.correlate(around, piece, "valid")
    power = np.convolve(around**2, np.ones(len(piece)), "valid") * (piece**2).sum()
    score = match / np.sqrt(np.maximum(power, 1e-9))
    best = int(score.argmax())
    assert score[best] > 0.9
    return best - reach


def shown(path: Path) -> tuple[list[Fraction], Fraction]:
    """When each frame is shown, from the first one on, and when the last one ends; by the container itself."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        base = stream.time_base
        assert base is not None
        frames = list(container.decode(stream))
    at = [frame.pts * base for frame in frames if frame.pts is not None]
    return [time - at[0] for time in at], at[-1] - at[0] + frames[-1].duration * base


def sound(path: Path) -> tuple[NDArray[np.float32], Fraction, Fraction]:
    """(mono samples at 16 kHz from time 0 on, when the first starts, when the last ends)."""
    parts: list[NDArray[Any]] = []
    times: list[Fraction] = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            assert frame.sample_rate == HZ  # the prompts' own
            assert frame.pts is not None
            assert frame.time_base is not None
            start = frame.pts * frame.time_base
            times += [start, start + Fraction(frame.samples, HZ)]
            parts.append(frame.to_ndarray().mean(0))
    first = round(times[0] * HZ)
    samples = np.concatenate(parts).astype(np.float32)
    return np.concatenate([np.zeros(max(0, first), np.float32), samples[max(0, -first) :]]), times[0], times[-1]


# ---- what happens to samples, before encoding


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio(Setup("cpu", threads=1))


@pytest.fixture(scope="module")
def seen(
    clips: dict[str, Clip], farmed: Farmed, studio: Studio, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Seen]:
    """Every clip with the farm's own bundle."""
    out: dict[str, Seen] = {}
    for name, clip in clips.items():
        folder = tmp_path_factory.mktemp(name)
        plan, planned, work = planned_job(clip, folder, studio)
        before = list(decode.scan(clip.video))
        after = rendered(studio, planned, work, farmed.bundle, Span(0, clip.frames), folder)
        out[name] = Seen(plan, planned, work, before, after)
    return out


def planned_job(clip: Clip, folder: Path, studio: Studio) -> tuple[plan_file.PlanFile, Planned, PlanWork]:
    limits = InputLimits()
    spec = JobSpec("one", Kind.DUB, Media(uri="file:///s"), Media(uri="file:///v"), clip.sync_mode)
    work = PlanWork(
        spec,
        clip.video,
        clip.voice,
        (),
        None,
        BATCH,
        limits,
        folder / "plan.npz",
        folder / "speech.wav",
        (folder / "tracks",),
    )
    work.tracks[0].mkdir()
    planned = studio(work, lambda report: None, lambda: None)
    assert isinstance(planned, Planned)
    return plan_file.read(work.plan), planned, work


def rendered(
    studio: Studio, planned: Planned, work: PlanWork, bundle: BundleFolder, span: Span, folder: Path
) -> list[Frame]:
    """The frames of the span as they go into the encoder."""
    caught: list[Frame] = []

    class Catching(pipeline.SegmentEncoder):
        def add(self, frame: Frame) -> None:
            caught.append(frame)
            super().add(frame)

    order = RenderWork(
        work.spec,
        f"{work.plan} {bundle.sha256}",
        planned.source_facts,
        bundle,
        work.plan,
        work.source,
        (),
        work.speech,
        span,
        None,
        folder / "segment.mp4",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "SegmentEncoder", Catching)
        studio(order, lambda report: None, lambda: None)
    return caught


@pytest.mark.parametrize("name", NAMES)
def test_the_farm_encoded_these_very_frames(name: str, farmed: Farmed, seen: dict[str, Seen]) -> None:
    assert farmed.hashes[name] == {frame.index: frame_sha256(frame) for frame in seen[name].after}


@pytest.mark.parametrize("name", NAMES)
def test_the_face_is_found_where_there_is_one(name: str, clips: dict[str, Clip], seen: dict[str, Seen]) -> None:
    found = np.flatnonzero(seen[name].video.run >= 0)
    print(f"{name}: the face is in {len(found)} of {clips[name].frames} frames, {found[0]} to {found[-1]}")
    assert found.tolist() == list(clips[name].found)
    assert seen[name].planned.faces_found == len(found)


@pytest.mark.parametrize("name", NAMES)
def test_only_the_face_is_touched(name: str, clips: dict[str, Clip], seen: dict[str, Seen]) -> None:
    for before, after in zip(seen[name].before, seen[name].after, strict=True):
        if before.index not in clips[name].found:
            assert frame_sha256(before) == frame_sha256(after)
    errors = touched_inside_only(seen[name], list(clips[name].found), seen[name].after)
    print(f"{name}: border error {errors.mean():.2f}, at most {errors.max():.2f} codes")
    assert errors.mean() < UNTRAINED
    frames = list(clips[name].found)[20:30]
    old, new = (
        to_device([all_[k] for k in frames], seen[name].video.picture, CPU)
        for all_ in (seen[name].before, seen[name].after)
    )
    look(f"{name}-tiny", old, new, seen[name])


def touched_inside_only(one: Seen, frames: list[int], after: list[Frame]) -> NDArray[np.float32]:
    """Border errors of these frames (`after` holds them by index), whose samples outside the mask are unchanged."""
    errors: list[float] = []
    by_index = {frame.index: frame for frame in after}
    for start in range(0, len(frames), 24):
        some = frames[start : start + 24]
        old = to_device([one.before[k] for k in some], one.video.picture, CPU)
        new = to_device([by_index[k] for k in some], one.video.picture, CPU)
        mask = mask_of(one, some)
        for a, b, share in (
            (old.y_BHW, new.y_BHW, mask.luma_BHW),
            (old.u_Bhw, new.u_Bhw, mask.chroma_Bhw),
            (old.v_Bhw, new.v_Bhw, mask.chroma_Bhw),
        ):
            changed = a != b
            assert not (changed & (share == 0)).any()
        inside = mask.luma_BHW == 1
        assert float((old.y_BHW != new.y_BHW)[inside].float().mean()) > 0.8  # a face was made there
        errors += border_error(old, new, mask.luma_BHW).tolist()
    return np.array(errors, np.float32)


def mask_of(one: Seen, frames: list[int]) -> composite.MaskBatch:
    video = one.video
    has = np.ones(len(frames), bool)
    return composite.mask(video.picture, video.crop_from_frame[frames], video.points[frames], has)


@pytest.mark.parametrize("name", NAMES)
def test_features_are_replaced_whole_and_the_mask_is_calm(
    name: str, clips: dict[str, Clip], seen: dict[str, Seen]
) -> None:
    one, frames = seen[name], list(clips[name].found)
    at = np.asarray(one.video.points)[frames][:, list(points.FEATURES)].round().astype(int)
    least = 1.0
    for start in range(0, len(frames), 24):
        luma = mask_of(one, frames[start : start + 24]).luma_BHW.numpy()
        for picture, where in zip(luma, at[start : start + 24], strict=True):
            x, y = where[:, 0].clip(0, picture.shape[1] - 1), where[:, 1].clip(0, picture.shape[0] - 1)
            least = min(least, float(picture[y, x].min()))
    # In the square, where the head itself does not move: a mask that only follows the face changes steadily.
    region = shapes(one.video.crop_from_frame[frames], np.asarray(one.video.points)[frames], CPU)
    tremble = float(falloff(region.field_BGG).diff(n=2, dim=0).abs().max())
    print(f"{name}: the least share of the new picture at a feature is {least:.3f}; the mask trembles by {tremble:.3f}")
    assert least > 0.95
    assert tremble < 0.2


@pytest.mark.parametrize("name", NAMES)
def test_stand_ins_leave_no_seam(name: str, clips: dict[str, Clip], seen: dict[str, Seen]) -> None:
    """The source's own face pasted back, as it is and in a wrong light: what a trained model would be at best."""
    one = seen[name]
    frames = list(clips[name].found)[20:70:5]
    video = one.video
    old = to_device([one.before[k] for k in frames], video.picture, CPU)
    transforms, kept = video.crop_from_frame[frames], video.points[frames]
    own = align.crop(old, transforms, 224)
    tinted = own * 0.8 + torch.tensor([0.15, -0.1, -0.2]).view(1, 3, 1, 1)
    mask = mask_of(one, frames).luma_BHW
    for what, generated, most in (("own", own, 0.15), ("tinted", tinted, 1.0)):
        new = composite.paste(old, generated, transforms, kept, np.ones(len(frames), bool))
        errors = border_error(old, new, mask)
        change = (new.y_BHW.int() - old.y_BHW.int()).abs()[mask > 0].float().mean()
        print(f"{name}, {what}: border error {errors.mean():.2f}, most {errors.max():.2f}; change {change:.2f} codes")
        assert float(errors.max()) < most
        look(f"{name}-{what}", old, new, one)


def test_full_size_networks_on_a_real_face(clips: dict[str, Clip], studio: Studio, tmp_path: Path) -> None:
    """25 frames of franck with untrained networks of the official size."""
    folder = tmp_path / "full"
    seeded(folder, Sizes.full(), 0, "full-untrained")
    plan, planned, work = planned_job(clips["franck"], tmp_path, studio)
    one = Seen(plan, planned, work, list(decode.scan(work.source)), [])
    bundle = BundleFolder(folder, manifest_sha256(folder))
    span = Span(48, 73)
    after = rendered(studio, one.planned, one.work, bundle, span, tmp_path)
    frames = list(range(span.start, span.stop))
    assert [frame.index for frame in after] == frames
    errors = touched_inside_only(one, frames, after)
    print(f"full size: border error {errors.mean():.2f}, at most {errors.max():.2f} codes")
    assert errors.mean() < UNTRAINED
    old = to_device([one.before[k] for k in frames], one.video.picture, CPU)
    look("franck-full", old, to_device(after, one.video.picture, CPU), one)


def look(name: str, before: PlanesBatch, after: PlanesBatch, one: Seen) -> None:
    """Leaves the first frames as JPEGs for somebody to look at."""
    folder = os.environ.get("DUBFARM_LOOK")
    if not folder:
        return
    for what, planes in (("before", before), ("after", after)):
        for k in range(min(10, len(planes))):
            y, u, v = (plane[k].numpy() for plane in (planes.y_BHW, planes.u_Bhw, planes.v_Bhw))
            picture = jpeg(Frame(k, k, y, u, v), one.video.picture, 4096)
            (Path(folder) / f"{name}-{k}-{what}.jpg").write_bytes(picture)
