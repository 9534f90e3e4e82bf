"""A prepared set as the corpus of a run: streamed from its folder or bucket, never held in memory.

It answers what the puppets in memory answer, so scenes do not know where their clips came from. Pictures are read
singly from a folder; from a bucket whole clips are, ahead of time where the loop says which come next, and the latest
are kept. K clips, N pictures of each, F factors, B samples, W mel frames.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock, local
from typing import Any, Final, overload

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from farm.errors import Rejected
from farm.media import mel
from farm.storage.blobs import BlobStore, Missing
from farm.storage.local import LocalStore
from trainer.corpus import MEL_PER_FRAME, Clips, Corpus, DatasetSetting
from trainer.prepare import jpeg
from trainer.prepare.reading import read
from trainer.prepare.shards import MANIFEST, store_of

CACHE: Final = Path.home() / ".cache" / "dubfarm" / "datasets"
KEPT_BYTES: Final = 2 << 30
"""What a run keeps of clips that it has read from a bucket."""
_THREADS: Final = 8


def is_dataset(uri: str) -> bool:
    """Whether a prepared set lies there, or a version of one is named."""
    place, _, version = uri.partition("#")
    if version or place.startswith("s3://"):
        return True
    return (Path(place.removeprefix("file://")) / MANIFEST).is_file()


def read_setting(uri: str) -> tuple[DatasetSetting, dict[str, Any]]:
    """What lies at a folder or s3:// uri, and its manifest; `#VERSION` behind the uri names one of its versions.

    Raises Rejected("bad_dataset").
    """
    place, _, version = uri.partition("#")
    store = store_of(place)
    key = f"manifests/{version}.json" if version else MANIFEST
    try:
        data = store.get_bytes(key)
    except (Missing, ValueError):
        detail = f"{uri} holds no {key}: python -m trainer prepare makes datasets"
        raise Rejected("bad_dataset", detail) from None
    digest = hashlib.sha256(data).hexdigest()
    if version and digest != version:
        raise Rejected("bad_dataset", f"{key} of {place} is damaged: its SHA-256 is {digest}")
    try:
        manifest = json.loads(data)
        asked, index = manifest["setting"], manifest["index"]
        if manifest["format"] != 1 or index is None:
            raise Rejected("bad_dataset", f"{place} has no clips" if index is None else f"{place} has another format")
        setting = DatasetSetting(
            digest,
            asked["size"],
            index["train"],
            index["clips"] - index["train"],
            asked["frames"],
            asked["loose"],
            manifest["factors"],
        )
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise Rejected("bad_dataset", f"{key} of {place} is no manifest: {error!r}") from None
    return setting, manifest


def open_dataset(uri: str, size: int, cache: Path = CACHE, kept_bytes: int = KEPT_BYTES) -> Corpus:
    """The set with pictures of `size` pixels a side. cache: folder for a bucket's index.

    Raises Rejected("bad_dataset"): not there, damaged, smaller pictures than asked for.
    """
    setting, manifest = read_setting(uri)
    if setting.size < size:
        detail = f"its pictures have {setting.size} px, {size} are wanted: prepare it again with --size {size}"
        raise Rejected("bad_dataset", f"dataset {setting.key}: {detail}")
    store = store_of(uri.partition("#")[0])
    index = _index(store, manifest["index"], cache)
    keys = [f"shards/{shard['sha256']}.safetensors" for shard in manifest["shards"]]
    shelf = _Shelf(store, keys, index, setting, manifest["setting"]["pictures"], size, kept_bytes)
    train, total = setting.clips, setting.clips + setting.held_out

    def part(start: int, stop: int) -> Clips:
        strips = _Strips(shelf, start)
        return Clips(_Pictures(shelf, start, stop), index["factors"][start:stop], strips, setting.frames)  # pyright: ignore[reportArgumentType]

    return Corpus(setting, part(0, train), part(train, total))


def _index(store: BlobStore, told: dict[str, Any], cache: Path) -> dict[str, Tensor]:
    """Mapped into memory, not read: factors of a large set are gigabytes."""
    key = f"index/{told['sha256']}.safetensors"
    if isinstance(store, LocalStore):
        path = store.root / key
    else:
        cache.mkdir(parents=True, exist_ok=True)
        path = cache / f"{told['sha256']}.safetensors"
        if not path.exists():
            store.get_file(key, path)
    if not path.is_file() or path.stat().st_size != told["size_bytes"]:
        raise Rejected("bad_dataset", f"{key} is missing or damaged")
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in ("factors", "starts", "place")}


class _Shelf:
    """Reads pictures and strips of clips by number; keeps the latest clips of a bucket."""

    def __init__(
        self,
        store: BlobStore,
        keys: Sequence[str],
        index: dict[str, Tensor],
        setting: DatasetSetting,
        pictures: str,
        size: int,
        kept_bytes: int,
    ) -> None:
        self._store, self._keys, self._setting, self._size = store, keys, setting, size
        self._starts, self._place = index["starts"], index["place"]
        self._is_jpeg, self._by_clip = pictures == "jpeg", not isinstance(store, LocalStore)
        self._kept = _Kept(kept_bytes)
        self._fetchers = ThreadPoolExecutor(_THREADS, thread_name_prefix="fetch")
        self._decoders = ThreadPoolExecutor(_THREADS, thread_name_prefix="decode")
        self._of_thread = local()

    def soon(self, clips: Sequence[int]) -> None:
        """Begin to fetch clips that will be asked for."""
        if self._by_clip:
            for clip in clips:
                self._begin("pictures", clip)
                self._begin("strip", clip)

    def _begin(self, what: str, clip: int) -> Future[bytes]:
        fetch = self._fetch if what == "pictures" else self._fetch_strip
        return self._kept.begin((what, clip), lambda: self._fetchers.submit(fetch, clip))

    def pictures(self, wanted: Sequence[tuple[int, int]]) -> Tensor:
        """x_B3SS uint8 of (clip, picture)."""
        if self._by_clip:
            self.soon([clip for clip, _ in wanted])
        return torch.stack(list(self._decoders.map(self._picture, wanted)))

    def strip(self, clip: int) -> NDArray[np.float32]:
        """(80, W)."""
        data = self._begin("strip", clip).result()
        return np.frombuffer(data, np.float32).reshape(mel.BINS, -1)

    def _picture(self, which: tuple[int, int]) -> Tensor:
        clip, number = which
        start, stop = (int(at) for at in self._starts[clip, number : number + 2])
        if self._by_clip:
            first = int(self._starts[clip, 0])
            data = self._begin("pictures", clip).result()[start - first : stop - first]
        else:
            data = read(self._store, self._key(clip), start, stop)
        side = self._setting.size
        if self._is_jpeg:
            x = torch.from_numpy(self._decoder().rgb(data)).permute(2, 0, 1)
        else:
            x = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(3, side, side)
        if side == self._size:
            return x
        small = F.interpolate(x[None].float(), size=(self._size, self._size), mode="area")
        return small[0].round().to(torch.uint8)

    def _decoder(self) -> jpeg.Decoder:
        if not hasattr(self._of_thread, "decoder"):
            self._of_thread.decoder = jpeg.Decoder()
        return self._of_thread.decoder

    def _fetch(self, clip: int) -> bytes:
        return read(self._store, self._key(clip), int(self._starts[clip, 0]), int(self._starts[clip, -1]))

    def _fetch_strip(self, clip: int) -> bytes:
        at = int(self._place[clip, 1])
        width = MEL_PER_FRAME * (self._setting.frames - 1) + mel.WINDOW_FRAMES
        return read(self._store, self._key(clip), at, at + 4 * mel.BINS * width)

    def _key(self, clip: int) -> str:
        return self._keys[int(self._place[clip, 0])]


class _Kept:
    """The latest bytes by key, up to so many; what is on its way is asked for once."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._held = most_bytes, 0
        self._lock = Lock()
        self._futures: OrderedDict[Hashable, Future[bytes]] = OrderedDict()

    def begin(self, key: Hashable, fetch: Callable[[], Future[bytes]]) -> Future[bytes]:
        with self._lock:
            future = self._futures.get(key)
            if future is not None and not (future.done() and future.exception() is not None):
                self._futures.move_to_end(key)
                return future
            self._futures[key] = future = fetch()
        future.add_done_callback(self._count)
        return future

    def _count(self, future: Future[bytes]) -> None:
        if future.exception() is not None:
            return
        with self._lock:
            self._held += len(future.result())
            for key in list(self._futures):
                if self._held <= self._most:
                    break
                old = self._futures[key]
                if old.done() and old is not future:
                    del self._futures[key]
                    self._held -= len(old.result()) if old.exception() is None else 0


class _Pictures:
    """Stands where the tensor pictures_KNCSS would: pictures[clip_B, frame_B] are read when they are asked for;
    pictures[start:stop] are those of some clips."""

    def __init__(self, shelf: _Shelf, start: int, stop: int) -> None:
        self._shelf, self._start, self._count = shelf, start, stop - start

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: tuple[Tensor, Tensor]) -> Tensor: ...
    @overload
    def __getitem__(self, at: slice) -> _Pictures: ...
    def __getitem__(self, at: tuple[Tensor, Tensor] | slice) -> Tensor | _Pictures:
        if isinstance(at, slice):
            start, stop, _ = at.indices(self._count)
            return _Pictures(self._shelf, self._start + start, self._start + stop)
        clip_B, frame_B = at
        if int(clip_B.max()) >= self._count:
            raise IndexError(f"clip {int(clip_B.max())} of {self._count}")
        wanted = zip((clip_B + self._start).tolist(), frame_B.tolist(), strict=True)
        return self._shelf.pictures(list(wanted))

    def soon(self, clip_B: Tensor) -> None:
        self._shelf.soon((clip_B + self._start).tolist())


class _Strips:
    """Stands where strip_KBW would: strip[clip_B1, :, at_BT] -> (B, T, 80), as tensors index; strip[start:stop]."""

    def __init__(self, shelf: _Shelf, start: int) -> None:
        self._shelf, self._start = shelf, start

    @overload
    def __getitem__(self, at: tuple[Tensor, slice, Tensor] | Tensor | int) -> Tensor: ...
    @overload
    def __getitem__(self, at: slice) -> _Strips: ...
    def __getitem__(self, at: tuple[Tensor, slice, Tensor] | Tensor | int | slice) -> Tensor | _Strips:
        if isinstance(at, slice):
            return _Strips(self._shelf, self._start + (at.start or 0))
        if not isinstance(at, tuple):
            clips = torch.as_tensor(at)
            strips = [torch.from_numpy(self._shelf.strip(c + self._start).copy()) for c in clips.flatten().tolist()]
            return torch.stack(strips).unflatten(0, clips.shape) if clips.dim() else strips[0]
        clip_B1, _, at_BT = at
        rows = [
            torch.from_numpy(self._shelf.strip(clip + self._start)[:, times.numpy()].T.copy())
            for clip, times in zip(clip_B1[:, 0].tolist(), at_BT, strict=True)
        ]
        return torch.stack(rows)
