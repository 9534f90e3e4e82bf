"""What there is to prepare: the clips of a folder or bucket in VoxCeleb2's layout, and the official box files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farm.errors import Rejected
from farm.storage.blobs import open_store
from trainer.puppets.write import SIDECAR

VIDEOS: Final = frozenset({".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v"})


@dataclass(frozen=True)
class Item:
    """One clip of a source: identity / video / clip. Keys are relative to the source; None where there is no file."""

    identity: str
    video: str
    clip: str
    key: str
    size_bytes: int
    boxes_key: str | None = None
    sidecar_key: str | None = None


@dataclass(frozen=True)
class Boxes:
    """The official boxes of a clip: boxes_T4 (x, y, width, height), a row a frame of the clip, in parts of the picture
    that it was cut from (VoxCeleb2) or in its pixels (VoxCeleb1). offset: frames by which the picture is behind the
    sound, as SyncNet found it; 0 where nothing is said."""

    boxes: NDArray[np.float64]
    in_pixels: bool
    offset: int


class Source:
    """Reads a folder, or s3://bucket/prefix. A folder is only read."""

    def __init__(self, uri: str) -> None:
        """Raises Rejected("bad_source") for a folder that is not there."""
        self._store = open_store(uri) if uri.startswith("s3://") else None
        self._folder = Path(uri.removeprefix("file://"))
        if self._store is None and not self._folder.is_dir():
            raise Rejected("bad_source", f"{uri} is neither a folder nor an s3:// uri")

    def items(self) -> list[Item]:
        """All clips, in the order of their names. Raises Rejected("bad_source") where there are none.

        A clip's key ends in identity/video/clip.mp4; deeper folders before that do not matter. Boxes are a .txt beside
        it, or in the same place under `txt` where the video lies under `mp4`, as VoxCeleb2 is handed out.
        """
        keys = dict(self._keys())
        found = []
        for key in sorted(keys):
            path = PurePosixPath(key)
            if path.suffix.lower() not in VIDEOS or len(path.parts) < 3:
                continue
            boxes = next((other for other in _boxes_of(path) if other in keys), None)
            sidecar = str(path.with_suffix(SIDECAR))
            identity, video = path.parts[-3:-1]
            found.append(Item(identity, video, path.stem, key, keys[key], boxes, sidecar if sidecar in keys else None))
        if not found:
            raise Rejected("bad_source", "no identity/video/clip.mp4 is found there")
        return found

    def _keys(self) -> Iterator[tuple[str, int]]:
        if self._store is not None:
            for stat in self._store.list(""):
                yield stat.key, stat.size_bytes
            return
        for path in self._folder.rglob("*"):
            if path.is_file():
                yield path.relative_to(self._folder).as_posix(), path.stat().st_size

    def fetch(self, key: str, folder: Path) -> Path:
        """The file of a key, brought into `folder` where it is not a local one."""
        if self._store is None:
            return self._folder / key
        path = folder / PurePosixPath(key).name
        self._store.get_file(key, path)
        return path


def _boxes_of(path: PurePosixPath) -> Iterator[str]:
    yield str(path.with_suffix(".txt"))
    for i, part in enumerate(path.parts[:-3]):
        if part == "mp4":
            yield str(PurePosixPath(*path.parts[:i], "txt", *path.parts[i + 1 :]).with_suffix(".txt"))


def read_boxes(text: str) -> Boxes:
    """Parse an official box file: lines `Name : value`, then FRAME X Y W H and a row a frame.

    Raises ValueError that says which line is wrong.
    """
    offset, rows, in_table = 0, [], False
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if [word.upper() for word in words] == ["FRAME", "X", "Y", "W", "H"]:
            in_table = True
        elif in_table:
            try:
                frame, *box = (float(word) for word in words)
            except ValueError:
                raise ValueError(f"line {number} is no row of numbers: {line!r}") from None
            if len(box) != 4 or not all(np.isfinite(box)) or box[2] <= 0 or box[3] <= 0:
                raise ValueError(f"line {number} is no box: {line!r}")
            if rows and frame <= rows[-1][0]:
                raise ValueError(f"line {number}: frame {frame:g} does not come after {rows[-1][0]:g}")
            rows.append([frame, *box])
        elif words[0].lower().rstrip(":") == "offset":
            offset = _whole(words[-1], number)
    if not rows:
        raise ValueError("no rows below FRAME X Y W H")
    boxes = np.array(rows)[:, 1:]
    return Boxes(boxes, bool(boxes.max() > 2), offset)


def _whole(word: str, number: int) -> int:
    try:
        return int(word)
    except ValueError:
        raise ValueError(f"line {number}: {word!r} is no number of frames") from None
