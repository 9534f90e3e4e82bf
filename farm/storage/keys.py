"""Every object key of the farm, one function each. No other module spells keys."""

from __future__ import annotations

from pathlib import PurePosixPath

from farm.domain.chunk import Lease
from farm.domain.order import Blob
from farm.errors import Rejected


def upload(asset_id: str) -> str:
    """Where a client's bytes land before they are checked."""
    return f"uploads/{asset_id}"


def upload_settled(asset_id: str, token: str) -> str:
    """A copy of an upload that its client cannot change any more."""
    return f"uploads/{asset_id}.{token}"


def input(sha256: str) -> str:
    """A user's file, by content: the same bytes are kept once."""
    return f"inputs/{sha256[:2]}/{sha256}"


def made_of_input(sha256: str) -> str:
    """Prefix of what is kept about an input, and goes with it: the tracks of its faces."""
    return f"tracks/{sha256[:2]}/{sha256}/"


def tracks(video: Blob, how: str) -> str:
    """Prefix of the tracks of a video's faces, followed in the way `how`."""
    return f"{made_of_input(video.sha256)}{how}/"


def track(video: Blob, how: str, name: str, sha256: str) -> str:
    """One of them; sha256 is that of the track itself."""
    return f"{tracks(video, how)}{name}-{sha256}.npz"


def inputs(shard: int) -> str:
    """Prefix of the inputs of one of 256 shards."""
    return f"inputs/{shard:02x}/"


def attempt(lease: Lease) -> str:
    """The folder of one attempt: whatever a fenced-off writer leaves here harms nobody."""
    return of_attempt(lease.job_id, lease.chunk_id, lease.token).rstrip("/")


def of_attempt(job_id: str, chunk_id: str, token: str) -> str:
    """Prefix of everything that one attempt stores."""
    return f"jobs/{job_id}/chunks/{chunk_id}/{token}/"


def plan(lease: Lease) -> str:
    return f"{attempt(lease)}/plan.npz"


def speech(lease: Lease) -> str:
    return f"{attempt(lease)}/speech.wav"


def segment(lease: Lease) -> str:
    return f"{attempt(lease)}/segment.mp4"


def preview(lease: Lease, frame: int) -> str:
    """Newest rendered frame. The frame number is in the key: a client's cached older picture keeps another name."""
    return f"{attempt(lease)}/preview-{frame:08d}.jpg"


def is_preview(key: str) -> bool:
    return key.rpartition("/")[2].startswith("preview-")


def frame_hashes(lease: Lease) -> str:
    """SHA-256 of each raw output frame of a render chunk, where a worker was asked to keep them (tests)."""
    return f"{attempt(lease)}/frames.txt"


def log(job_id: str, chunk_id: str, token: str) -> str:
    """The lines that a worker wrote about one attempt."""
    return f"{of_attempt(job_id, chunk_id, token)}log.txt"


def output(lease: Lease, container: str = "mp4") -> str:
    return f"{attempt(lease)}/output.{container}"


def job(job_id: str) -> str:
    """Prefix of everything made for a job."""
    return f"jobs/{job_id}/"


def bundle(manifest_sha256: str) -> str:
    """The folder of a version's files (`Version.bundle_key`), by the SHA-256 of its manifest."""
    return f"bundles/{manifest_sha256}"


def bundle_file(bundle_key: str, path: str) -> str:
    """One file of a bundle, `path` as its manifest names it. Rejected("path_refused") if it would leave the folder."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\\" in path:
        raise Rejected("path_refused", f"not a path inside a bundle: {path!r}")
    return f"{bundle_key}/{pure}"


def report(bundle_sha256: str, evaluation_sha256: str, path: str) -> str:
    """One file of a version's evaluation report: the same weights may be evaluated again."""
    return bundle_file(f"reports/{bundle_sha256}/{evaluation_sha256[:16]}", path)


def run(run_id: str) -> str:
    """The folder that a training run writes into: the trainer's OUT."""
    return f"training/{run_id}"


def of_run(run_id: str, path: str) -> str:
    """One file of it. Rejected("path_refused") if it would leave the folder."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\\" in path:
        raise Rejected("path_refused", f"not a path inside a run's folder: {path!r}")
    return f"{run(run_id)}/{pure}"


def clips(schedule: str, sha256: str) -> str:
    """The list of clips that a schedule's data held when it fired."""
    return f"schedules/{schedule}/{sha256}.txt"
