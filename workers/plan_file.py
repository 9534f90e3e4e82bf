"""The plan of a job as one npz file: everything that chunks must agree on. Written once, read by every chunk.

Arrays are stored, not packed, and read through a memory map: a chunk of a four-hour video touches only its own rows.
Suffixes: T frames of a video, K points of farm.face.points.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from farm.domain.timeline import Timeline
from farm.media import encode
from farm.media.frame import PictureFormat
from farm.media.index import FrameIndex

FORMAT: Final = 1


@dataclass(frozen=True, eq=False)
class PlannedVideo:
    """One video of a job and the face followed through it. run: -1 without the face. share: how much of a generated
    face is shown (farm.face.runs). best_frame: the appearance."""

    picture: PictureFormat
    index: FrameIndex
    run: NDArray[np.int32]  # T
    share: NDArray[np.float32]  # T
    points: NDArray[np.float32]  # T K 2, frame pixels
    crop_from_frame: NDArray[np.float64]  # T 2 3
    best_frame: int


@dataclass(frozen=True, eq=False)
class PlanFile:
    """videos: the source (a still picture is a video of one frame), then the driving videos in the order of
    `workers.factors.driver_media`. batch_frames: the batch that all chunks use, so that they agree to the last bit.
    encoder: the one that all segments are made by (`farm.media.hardware`), None for the processor's; encoder_threads:
    with how many, where it is the processor's: its bytes depend on it.
    deterministic: the networks see each frame alone, in one thread; the bits then do not depend on batch_frames."""

    timeline: Timeline
    frame_rate: Fraction
    voice_rms: float
    batch_frames: int
    videos: tuple[PlannedVideo, ...]
    encoder: str | None = None
    deterministic: bool = False
    encoder_threads: int = encode.THREADS


def write(path: Path, plan: PlanFile) -> None:
    timeline = plan.timeline
    meta = {
        "format": FORMAT,
        "end_pts": timeline.end_pts,
        "time_base": str(timeline.time_base),
        "frame_rate": str(plan.frame_rate),
        "voice_rms": plan.voice_rms,
        "batch_frames": plan.batch_frames,
        "encoder": plan.encoder,
        "encoder_threads": plan.encoder_threads,
        "deterministic": plan.deterministic,
        "videos": [video_meta(video) for video in plan.videos],
    }
    arrays: dict[str, NDArray] = {
        "meta": np.frombuffer(json.dumps(meta).encode(), np.uint8),
        "timeline.source_index": np.asarray(timeline.source_index, np.int64),
        "timeline.pts": np.asarray(timeline.pts, np.int64),
    }
    for number, video in enumerate(plan.videos):
        arrays |= video_arrays(video, f"video{number}.")
    # A real file: given a name, numpy would append .npz to it.
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read(path: Path) -> PlanFile:
    """Raises ValueError on a file of another format."""
    arrays = mapped(path)
    meta = json.loads(arrays["meta"].tobytes())
    if meta["format"] != FORMAT:
        raise ValueError(f"plan file of format {meta['format']}, not {FORMAT}")
    timeline = Timeline(
        tuple(arrays["timeline.source_index"].tolist()),
        tuple(arrays["timeline.pts"].tolist()),
        meta["end_pts"],
        Fraction(meta["time_base"]),
    )
    videos = tuple(video(one, arrays, f"video{number}.") for number, one in enumerate(meta["videos"]))
    return PlanFile(
        timeline,
        Fraction(meta["frame_rate"]),
        meta["voice_rms"],
        meta["batch_frames"],
        videos,
        meta.get("encoder"),
        meta.get("deterministic", False),
        meta.get("encoder_threads", encode.THREADS),
    )


def video_meta(planned: PlannedVideo) -> dict[str, Any]:
    """What of a video is no array."""
    return {"picture": asdict(planned.picture), "best_frame": planned.best_frame}


def video_arrays(planned: PlannedVideo, prefix: str) -> dict[str, NDArray]:
    arrays = planned.index.arrays(f"{prefix}index.")
    return arrays | {
        f"{prefix}{name}": getattr(planned, name) for name in ("run", "share", "points", "crop_from_frame")
    }


def video(meta: Mapping[str, Any], arrays: Mapping[str, NDArray], prefix: str) -> PlannedVideo:
    """The inverse of the two above."""
    run, share = arrays[f"{prefix}run"], arrays.get(f"{prefix}share")
    return PlannedVideo(
        PictureFormat(**meta["picture"]),
        FrameIndex.from_arrays(arrays, f"{prefix}index."),
        run,
        # Plans of farms that did not fade have none.
        (run >= 0).astype(np.float32) if share is None else share,
        arrays[f"{prefix}points"],
        arrays[f"{prefix}crop_from_frame"],
        meta["best_frame"],
    )


def mapped(path: Path) -> Mapping[str, NDArray]:
    """Every array of an unpacked npz, mapped from the file."""
    arrays: dict[str, NDArray] = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{path.name}: {entry.filename} is packed")
            # The local header repeats the entry's name and may hold other extra fields than the directory does.
            file.seek(entry.header_offset)
            header = file.read(30)
            file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
            version = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            shape, fortran, dtype = read_header(file)
            order = "F" if fortran else "C"
            empty = 0 in shape
            arrays[entry.filename.removesuffix(".npy")] = (
                np.zeros(shape, dtype)
                if empty
                else np.memmap(path, dtype=dtype, mode="r", offset=file.tell(), shape=shape, order=order)
            )
    return arrays
