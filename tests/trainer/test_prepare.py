"""People's videos into a set: what is kept, what is dropped and why, resuming, versions, and reading it back."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from farm.errors import Rejected
from farm.face.align import ANCHORS, SIDE
from farm.flow import clips
from farm.storage.blobs import open_store
from tests.trainer.prepared import PREPARED
from trainer.__main__ import app
from trainer.corpus import FACTORS, Corpus
from trainer.dataset import is_dataset, open_dataset, read_setting
from trainer.prepare import jpeg
from trainer.prepare.run import prepare
from trainer.prepare.setting import REASONS
from trainer.prepare.source import Item, Source, read_boxes
from trainer.puppets import film
from trainer.puppets.framing import anchors
from trainer.puppets.write import SIDECAR, read_sidecar
from trainer.sampler import choose, uniforms


@pytest.fixture(scope="module")
def corpus(made: tuple[Path, dict]) -> Corpus:
    """Of the prepared puppets."""
    return open_dataset(str(made[0]), 64)


def files(source: Path) -> list[Path]:
    return sorted(source.glob("mp4/*/*/*.mp4"))


def test_clips_are_cropped_heard_and_have_their_true_factors(
    made: tuple[Path, dict], corpus: Corpus, source: Path
) -> None:
    report = made[1]
    assert (report["clips"], report["files_kept"], report["dropped"], report["factors"]) == (3, 3, {}, "true")
    assert (len(corpus.train), len(corpus.held_out)) == (2, 1)
    assert corpus.train.factors.shape == (2, 13, len(FACTORS))
    picture = corpus.train.picture(torch.tensor([0, 1, 1]), torch.tensor([0, 9, 12]))
    assert picture.shape == (3, 3, 64, 64)
    assert picture.std() > 0.2
    window = corpus.train.window(torch.tensor([0, 1]), torch.tensor([0, 9]))
    assert window.shape == (2, 1, 80, 20)
    assert 0 <= float(window.min()) < float(window.max()) <= 1
    # Ten of fifteen frames, from the middle: the rest gives the loose ones.
    manifest = json.loads((made[0] / "manifest.json").read_text())
    kept = {clip["identity"]: clip for shard in manifest["shards"] for clip in shard["clips"]}
    assert {clip["first_s"] for clip in kept.values()} == {0.08}
    who = next(name for name in sorted(kept) if name not in manifest["held_out"])
    rows, _ = read_sidecar(next(source.glob(f"mp4/{who}/*/*{SIDECAR}")).read_text())
    jaw = corpus.train.factors[0, :10, FACTORS.index("jaw")]
    assert torch.allclose(jaw, rows[2:12, 22], atol=1e-5)


def test_true_poses_are_those_of_the_head_in_the_crop(made: tuple[Path, dict], corpus: Corpus) -> None:
    """Read by the mesh, which knows nothing of puppets: the same turns of the head, about as large."""
    from trainer.landmark_prior import LandmarkPrior

    clip = torch.arange(2).repeat_interleave(13)
    frame = torch.arange(13).repeat(2)
    with torch.no_grad():
        read = LandmarkPrior()(corpus.train.picture(clip, frame))
    true = corpus.train.factors[clip, frame]
    for name in ("yaw", "x"):
        at = FACTORS.index(name)
        assert torch.corrcoef(torch.stack([read[:, at], true[:, at]]))[0, 1] > 0.85, name
    assert (true[:, FACTORS.index("size")]).abs().max() < 3


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        ("cut", "broken_file"),
        ("mute", "no_audio"),
        ("empty", "no_face"),
        ("small", "small_face"),
        ("short", "too_short"),
        ("two", "several_faces"),
        ("moved_boxes", "box_disagrees"),
        ("bad_boxes", "broken_boxes"),
        ("bad_sidecar", "broken_sidecar"),
    ],
)
def test_every_harm_has_its_reason(harm: str, reason: str, source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "source" / "mp4" / "id1" / "video"
    folder.mkdir(parents=True)
    clip, whole = folder / "00001.mp4", files(source)[0]
    shutil.copy(whole, clip)
    setting = PREPARED
    boxes = tmp_path / "source" / "txt" / "id1" / "video" / "00001.txt"
    if harm == "cut":
        clip.write_bytes(whole.read_bytes()[:3000])
    elif harm in ("mute", "empty", "two"):
        _remake(whole, clip, harm)
    elif harm == "small":
        setting = dataclasses.replace(PREPARED, min_face=4000)
    elif harm == "short":
        setting = dataclasses.replace(PREPARED, frames=40)
    elif harm == "bad_sidecar":
        clip.with_suffix(SIDECAR).write_text('{"puppet": 1}')
    else:
        boxes.parent.mkdir(parents=True)
        official = "Offset : \t0\n\nFRAME \tX \tY \tW \tH\n"
        rows = "".join(f"{100 + i:06d} \t0.01 \t0.01 \t0.05 \t0.05\n" for i in range(15))
        boxes.write_text(official + (rows if harm == "moved_boxes" else "000100 \t0.1 \tx\n"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        report = prepare("source", "set", setting)
    assert report["dropped"] == {reason: 1}, report["dropped_files"]
    assert reason in REASONS
    assert reason in (tmp_path / "set" / "report.md").read_text()
    with pytest.raises(Rejected, match="has no clips"):
        read_setting(str(tmp_path / "set"))


def _remake(whole: Path, clip: Path, harm: str) -> None:
    import av

    with av.open(str(whole)) as container:
        pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    voice = np.sin(np.arange(9600) * 0.3).astype(np.float32)
    if harm == "empty":
        pictures = np.full_like(pictures, 90)
    elif harm == "two":
        pictures = np.concatenate([pictures, pictures[::-1]], 2)
    film.video(clip, [pictures], 25, None if harm == "mute" else voice)


def test_box_files_are_read_as_they_are_handed_out() -> None:
    head = "Identity  : \tid00012\nReference : \t21Uxsk56VDQ\nOffset    : \t-2\n"
    head += "FV Conf   : \t16.303\t(1)\nASD Conf  : \t6.201\n"
    table = (
        "\nFRAME \tX \tY \tW \tH \n001073 \t0.353 \t0.232 \t0.203 \t0.361 \n001074 \t0.354 \t0.232 \t0.203 \t0.361 \n"
    )
    boxes = read_boxes(head + table)
    assert (boxes.offset, boxes.in_pixels, boxes.boxes.shape) == (-2, False, (2, 4))
    first = read_boxes("FRAME X Y W H\n5 100 80 210 210\n")  # VoxCeleb1 counts pixels
    assert (first.in_pixels, first.offset) == (True, 0)
    for wrong, line in (
        (head, "no rows"),
        (head + "\nFRAME X Y W H\n1 0.1 0.1 0.1\n", "line 8 is no box"),
        (head + "\nFRAME X Y W H\n2 .1 .1 .1 .1\n2 .1 .1 .1 .1\n", "line 9: frame 2 does not come after 2"),
        (head + "\nFRAME X Y W H\n2 .1 .1 0 .1\n", "line 8 is no box"),
        (head.replace("-2", "x") + table, "line 3: 'x'"),
    ):
        with pytest.raises(ValueError, match=line):
            read_boxes(wrong)


def test_a_source_is_listed_by_its_layout(source: Path, tmp_path: Path) -> None:
    items = Source(str(source)).items()
    assert [item.identity for item in items] == ["id00000", "id00001", "id00002"]
    assert all(isinstance(item, Item) and item.boxes_key and item.sidecar_key for item in items)
    with pytest.raises(Rejected, match="neither a folder"):
        Source("/nowhere/at/all")
    with pytest.raises(Rejected, match=r"no identity/video/clip\.mp4"):
        Source(str(tmp_path)).items()
    assert not (source / ".writing").exists()  # a source is only read


def test_a_killed_preparation_goes_on_and_ends_in_the_same_manifest(
    made: tuple[Path, dict], source: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "trainer", "prepare", str(source), "--out", str(tmp_path), "--size", "64"]
    command += ["--frames", "10", "--loose", "3", "--most", "1", "--files-a-shard", "1", "--held-out", "0.3"]
    command += ["--pictures", "raw"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("parts/*/*.json")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "manifest.json").exists()
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("parts/*/*.json")}
    assert 1 <= len(done) < 3
    report = prepare(str(source), str(tmp_path), PREPARED)
    assert report["version"] == made[1]["version"]
    assert (tmp_path / "manifest.json").read_bytes() == (made[0] / "manifest.json").read_bytes()
    assert all(path.stat().st_mtime_ns == at for path, at in done.items())


def test_a_version_is_the_hash_of_its_manifest_and_finds_it_again(
    made: tuple[Path, dict], source: Path, tmp_path: Path
) -> None:
    out, version = made[0], made[1]["version"]
    assert hashlib.sha256((out / "manifest.json").read_bytes()).hexdigest() == version
    for shard in out.glob("shards/*"):
        assert hashlib.sha256(shard.read_bytes()).hexdigest() == shard.stem
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    other = prepare(str(source), str(copy), dataclasses.replace(PREPARED, size=32))
    assert other["version"] != version
    assert read_setting(str(copy))[0].version == other["version"]
    assert read_setting(f"{copy}#{version}")[0].size == 64
    assert is_dataset(str(copy))
    assert not is_dataset(str(tmp_path))
    with pytest.raises(Rejected, match=r"holds no manifests/abc\.json"):
        read_setting(f"{copy}#abc")
    (copy / "manifests" / f"{version}.json").write_text("{}")
    with pytest.raises(Rejected, match="is damaged"):
        read_setting(f"{copy}#{version}")
    with pytest.raises(Rejected, match="prepare it again with --size 128"):
        open_dataset(str(out), 128)


def test_smaller_pictures_are_the_stored_ones_made_smaller(made: tuple[Path, dict], corpus: Corpus) -> None:
    at = torch.tensor([0, 1]), torch.tensor([3, 11])
    small, whole = open_dataset(str(made[0]), 32).train.picture(*at), corpus.train.picture(*at)
    assert torch.allclose(torch.nn.functional.avg_pool2d(whole, 2), small, atol=1 / 127)


def test_jpegs_lose_little() -> None:
    y, x = np.mgrid[0:224, 0:224]
    picture = np.stack([128 + 90 * np.sin(x / 9), 128 + 90 * np.cos(y / 7), (x + y) / 2], -1).astype(np.uint8)
    data = jpeg.encode(picture)
    back = jpeg.Decoder().rgb(data)
    assert len(data) < picture.size / 4
    assert 10 * np.log10(255**2 / np.square(back.astype(float) - picture).mean()) > 38
    with pytest.raises((ValueError, OSError)):
        jpeg.Decoder().rgb(b"nothing")


def test_the_next_clips_of_a_run_are_known_by_one_die() -> None:
    assert torch.equal(uniforms(3, 7, 5, 1)[:, 0], uniforms(3, 7, 5, 20)[:, 0])
    assert choose(uniforms(3, 7, 5, 1)[:, 0], 9).max() < 9


def test_a_wrong_wish_is_refused_whole(source: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["prepare", str(source), "--out", str(tmp_path), "--size", "33", "--pictures", "gif", "--boxes", "x"]
    )
    assert result.exit_code == 1
    assert all(word in result.output for word in ("bad_setting", "size", "pictures", "boxes"))
    result = CliRunner().invoke(
        app, ["prepare", str(source), "--out", str(tmp_path), "--prior", "l2cs", "--priors", "/none"]
    )
    assert result.exit_code == 1
    assert "l2cs: no file /none/l2cs.pt2" in result.output


def test_the_crop_lies_where_the_farm_puts_it(source: Path) -> None:
    """The puppet's own anchors, brought into the crop by the transform that its true pose is reckoned with."""
    from trainer.prepare.clip import _crop_in_picture, _follow

    path = files(source)[0]
    rows, place = read_sidecar(path.with_suffix(SIDECAR).read_text())
    from farm.face.align import crop_from_frame
    from farm.face.nets import FaceNets

    track, _, _ = _follow(path, None, PREPARED, FaceNets())
    crops = crop_from_frame(track.anchors, track.run)
    within = _crop_in_picture(crops, place)
    back = torch.linalg.solve(within[:, None, :, :2], (anchors(rows) - within[:, None, :, 2])[..., None])[..., 0]
    wanted = torch.from_numpy((ANCHORS + 0.5) * 2 / SIDE - 1).float()
    assert (back - wanted).abs().mean() < 0.12


def test_a_schedule_counts_its_clips(made: tuple[Path, dict], tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    store = open_store((tmp_path / "blobs").as_uri())
    first = clips.count(store, "nightly", made[0].as_uri(), None)
    assert first.new == made[1]["clips"] == 3
    assert clips.count(store, "nightly", made[0].as_uri(), first.clips).new == 0
