"""What the next chunk needs is there before it is claimed: its inputs on disk, its video open where it begins."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.domain.chunk import Lease, Work
from farm.domain.order import Blob, Foreseen
from farm.domain.span import Span
from farm.errors import Transient
from farm.media import decode
from farm.nets.manifest import MANIFEST
from farm.storage import keys
from farm.storage.blobs import BlobStore
from tests import media_files
from tests.workers import planned
from workers.ahead import Ahead
from workers.inputs import Inputs
from workers.reading import Reader
from workers.shelf import Shelf
from workers.studio import Studio
from workers.work import BundleFolder

LEASE = Lease("chk_1", "job_1", "bat_1", "ten_1", Work.RENDER, Span(0, 8), 1, "token", 0.0, 60.0)


def put(store: BlobStore, data: bytes) -> Blob:
    return store.put_bytes(data, keys.input(hashlib.sha256(data).hexdigest()))


def foreseen(store: BlobStore, tiny: BundleFolder, *blobs: Blob) -> Foreseen:
    key = keys.bundle(tiny.sha256)
    for path in tiny.folder.iterdir():
        store.put_file(path, keys.bundle_file(key, path.name))
    return Foreseen("job_2", blobs, key, tiny.sha256)


def test_the_next_job_s_inputs_and_version_are_brought(store: BlobStore, tiny: BundleFolder, tmp_path: Path) -> None:
    inputs = Inputs(tmp_path / "cache", store, 10**9)
    one, other = put(store, b"source"), put(store, b"plan")
    what = foreseen(store, tiny, one, other)
    asked: list[Lease] = []
    ahead = Ahead(inputs, lambda lease: (asked.append(lease), what)[1])
    ahead.begin(LEASE)
    assert ahead.wait(60)
    assert asked == [LEASE]
    for blob in (one, other):
        store.delete(blob.key)
    store.delete(keys.bundle_file(what.bundle_key, MANIFEST))
    scratch = inputs.scratch()
    assert inputs.file(one, scratch, "source").read_bytes() == b"source"
    assert inputs.file(other, scratch, "plan").read_bytes() == b"plan"
    assert inputs.bundle(what.bundle_key, tiny.sha256, scratch).sha256 == tiny.sha256
    assert [path.name for path in (tmp_path / "cache").glob("work-*")] == [scratch.name]  # nothing else is left behind


def test_what_fails_is_left_to_the_chunk_itself(store: BlobStore, tmp_path: Path) -> None:
    inputs = Inputs(tmp_path / "cache", store, 10**9)

    def unwell(_: Lease) -> Foreseen:
        raise Transient("database_unavailable", "away")

    for foresee in (unwell, lambda _: None):
        ahead = Ahead(inputs, foresee)
        ahead.begin(LEASE)
        assert ahead.wait(60)
    good = put(store, b"good")
    assert inputs.file(good, inputs.scratch(), "source").read_bytes() == b"good"


def test_one_look_at_a_time_and_none_after_stop(store: BlobStore, tiny: BundleFolder, tmp_path: Path) -> None:
    inputs = Inputs(tmp_path / "cache", store, 10**9)
    blob = put(store, b"late")
    going_on, asked = threading.Event(), []

    def slow(lease: Lease) -> Foreseen:
        asked.append(lease)
        going_on.wait(60)
        return Foreseen("job_2", (blob,), "bundles/none", "")

    ahead = Ahead(inputs, slow)
    ahead.begin(LEASE)
    ahead.begin(LEASE)
    ahead.stop()
    going_on.set()
    assert ahead.wait(60)
    ahead.begin(LEASE)
    assert len(asked) == 1
    store.delete(blob.key)
    with pytest.raises(Transient):
        inputs.file(blob, inputs.scratch(), "source")


def test_two_who_want_a_blob_fetch_it_once(store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = Inputs(tmp_path / "cache", store, 10**9)
    blob = put(store, b"wanted twice")
    fetched: list[str] = []
    get_file = store.get_file
    monkeypatch.setattr(store, "get_file", lambda key, path: (fetched.append(key), get_file(key, path))[1])
    threads = [threading.Thread(target=inputs.bring, args=(blob,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fetched == [blob.key]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return media_files.video(tmp_path / "source.mp4", frames=48, width=96, height=96)


def test_the_next_chunk_goes_on_where_the_last_one_ended(
    studio: Studio, tiny: BundleFolder, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = planned.job(tmp_path, source, tiny, loses_face=False, voice_s=1.9)

    def rendered(span: Span) -> dict[int, str]:
        work = job.work(span, tmp_path / f"{span.start}")
        result: Any = studio(work, lambda report: None, lambda: None)
        assert result.frames == len(span)
        assert work.frame_hashes is not None
        return planned.hashes(work.frame_hashes)

    whole = rendered(Span(0, 40))
    first = rendered(Span(0, 16))
    opened: list[object] = []
    run_from = decode.Video._run_from  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(decode.Video, "_run_from", lambda self, entry: (opened.append(entry), run_from(self, entry))[1])
    second = rendered(Span(16, 32))
    assert opened == []  # nothing was opened, and nothing decoded twice
    assert first | second == {k: whole[k] for k in range(32)}
    # Another order than expected is served all the same.
    assert rendered(Span(3, 9)) == {k: whole[k] for k in range(3, 9)}
    assert opened != []


def test_a_video_left_open_outlives_its_name(source: Path, tmp_path: Path) -> None:
    index = decode.scan(source).index_only()
    name = tmp_path / "scratch" / "source"
    name.parent.mkdir()
    name.hardlink_to(source)
    shelf = Shelf()
    assert shelf.take("job", 0, name) is None
    reader = Reader(decode.open_video(name, index), recent=4)
    before = [frame.y.tobytes() for frame in reader.frames(range(8))]
    shelf.leave("job", 0, reader)
    name.unlink()
    again = shelf.take("job", 0, source)
    assert again is not None
    assert again is reader
    assert [frame.y.tobytes() for frame in again.frames(range(8))] == before  # from the start: it is opened anew
    shelf.leave("job", 0, again)
    assert shelf.take("another", 0, source) is None
    assert shelf.take("job", 0, source) is None


def test_recent_frames_are_few(source: Path) -> None:
    index = decode.scan(source).index_only()
    with decode.open_video(source, index) as video:
        asked: list[int] = []
        frames = video.frames

        def counted(span: Span) -> Iterator[Any]:
            asked.append(span.start)
            return frames(span)

        video.frames = counted
        reader = Reader(video, recent=3)
        for wanted in (range(6), range(3, 6), range(2, 3)):
            assert [frame.index for frame in reader.frames(wanted)] == list(wanted)
        assert asked == [0, 1, 2, 3, 4, 5, 2]
