"""Shards and the manifest: what a preparation leaves in a folder or bucket, and how it goes on after a kill.

    manifest.json                    the set that the last preparation made; its SHA-256 is the dataset's version
    manifests/VERSION.json           every manifest ever finished
    shards/SHA256.safetensors        pictures, factors, voices of the clips of up to `files_a_shard` files
    index/SHA256.safetensors         of all clips: their factors, and where their pictures lie
    parts/PLAN/000012.json           what became of the files of shard 12: written last, so never done twice
    report.json, report.md           what was dropped and why

A shard follows from its files and the setting alone: preparations that were killed end in the same manifest.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from farm.face.nets import FaceNets
from farm.storage.blobs import BlobStore, Missing, open_store
from trainer.landmark_prior import LandmarkPrior
from trainer.prepare import jpeg
from trainer.prepare.clip import Prepared, prepare_file
from trainer.prepare.reading import read_header
from trainer.prepare.report import make_report, markdown
from trainer.prepare.setting import Dropped, PrepareSetting
from trainer.prepare.source import Item, Source
from trainer.prior_files import open_priors
from trainer.priors import Prior

MANIFEST: Final = "manifest.json"


@dataclass(frozen=True)
class Job:
    """The files of one shard; everything that another process needs to know."""

    number: int
    items: tuple[Item, ...]
    source: str
    out: str
    plan: str
    setting: PrepareSetting
    priors: str


def store_of(uri: str) -> BlobStore:
    """Of a folder's path, file:// or s3://."""
    return open_store(uri if "://" in uri else Path(uri).absolute().as_uri())


def plan_of(items: Sequence[Item], setting: PrepareSetting) -> str:
    """Two preparations share their parts only if their files and settings are the same."""
    listed = [[item.key, item.size_bytes, item.boxes_key, item.sidecar_key] for item in items]
    return hashlib.sha256(json.dumps([setting.key, listed]).encode()).hexdigest()[:24]


def jobs_of(items: Sequence[Item], source: str, out: str, setting: PrepareSetting, priors: str) -> list[Job]:
    plan, step = plan_of(items, setting), setting.files_a_shard
    return [
        Job(number, tuple(items[at : at + step]), source, out, plan, setting, priors)
        for number, at in enumerate(range(0, len(items), step))
    ]


def part_key(job: Job) -> str:
    return f"parts/{job.plan}/{job.number:06d}.json"


def done_part(job: Job, store: BlobStore) -> dict[str, Any] | None:
    """What became of a job that is done."""
    try:
        return json.loads(store.get_bytes(part_key(job)))
    except Missing:
        return None


class _Eyes:
    """The networks of this process, kept from job to job."""

    def __init__(self, names: tuple[str, ...], folder: str) -> None:
        self.nets = FaceNets()
        self.landmarks = LandmarkPrior()
        self.priors: dict[str, Prior] = open_priors(names, Path(folder))


_EYES: dict[tuple[str, tuple[str, ...]], _Eyes] = {}


def make_shard(job: Job) -> dict[str, Any]:
    """Prepare a job's files and store their shard, then its part. Done before: nothing but reading the part."""
    store = store_of(job.out)
    done = done_part(job, store)
    if done is not None:
        return done
    torch.set_num_threads(1)  # sums in one order, wherever this runs
    which = (job.priors, job.setting.priors)
    eyes = _EYES.get(which) or _EYES.setdefault(which, _Eyes(job.setting.priors, job.priors))
    source = Source(job.source)
    clips: list[Prepared] = []
    files: list[dict[str, Any]] = []
    for item in job.items:
        told: dict[str, Any] = {"key": item.key, "clips": 0}
        with tempfile.TemporaryDirectory(prefix="prepare-") as folder:
            try:
                made = prepare_file(item, source, job.setting, eyes, Path(folder))
                clips += made
                told["clips"] = len(made)
            except Dropped as dropped:
                told |= {"reason": dropped.reason, "detail": dropped.detail}
        files.append(told)
    part = {"number": job.number, "files": files, "shard": _store_shard(clips, job.setting, store) if clips else None}
    store.put_bytes(_json(part), part_key(job))
    return part


def _store_shard(clips: list[Prepared], setting: PrepareSetting, store: BlobStore) -> dict[str, Any]:
    arrays = {
        "factors": np.stack([clip.factors for clip in clips]),
        "score": np.stack([clip.score for clip in clips]),
        "strip": np.stack([clip.strip for clip in clips]),
        "wave": np.stack([clip.wave for clip in clips]),
        **_packed(clips, setting),
    }
    with tempfile.TemporaryDirectory(prefix="shard-") as folder:
        path = Path(folder) / "shard.safetensors"
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        blob = store.put_file(path, f"shards/{digest}.safetensors")
    told = [
        {
            "identity": clip.item.identity,
            "video": clip.item.video,
            "clip": clip.item.clip,
            "first_s": clip.first_s,
            "is_true": clip.is_true,
        }
        for clip in clips
    ]
    return {"sha256": blob.sha256, "size_bytes": blob.size_bytes, "clips": told}


def _packed(clips: list[Prepared], setting: PrepareSetting) -> dict[str, NDArray[Any]]:
    """Pictures of each clip one after the other: a reader takes a clip in one piece, or one picture of it."""
    if setting.pictures == "raw":
        return {"pictures": np.stack([clip.pictures.transpose(0, 3, 1, 2) for clip in clips])}
    data = [[jpeg.encode(picture) for picture in clip.pictures] for clip in clips]
    sizes = np.array([[len(picture) for picture in of_clip] for of_clip in data], np.int64)
    joined = b"".join(picture for of_clip in data for picture in of_clip)
    return {"jpeg": np.frombuffer(joined, np.uint8), "ends": sizes.cumsum().reshape(sizes.shape)}


def finish(jobs: Sequence[Job], parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Index, manifest and report from all parts, in the order of the jobs; returns the report."""
    store, setting = store_of(jobs[0].out), jobs[0].setting
    shards = [part["shard"] for part in parts if part["shard"]]
    held_out = _held_out(shards, setting)
    manifest = {
        "format": 1,
        "setting": asdict(setting),
        "files": sum(len(part["files"]) for part in parts),
        "clips": sum(len(shard["clips"]) for shard in shards),
        "factors": _kind(shards),
        "held_out": held_out,
        "index": _store_index(shards, set(held_out), store) if shards else None,
        "shards": shards,
    }
    data = _json(manifest)
    version = hashlib.sha256(data).hexdigest()
    store.put_bytes(data, f"manifests/{version}.json")
    store.put_bytes(data, MANIFEST)
    report = make_report(manifest, version, parts)
    store.put_bytes(_json(report), "report.json")
    store.put_bytes(markdown(report).encode(), "report.md")
    return report


def _kind(shards: Sequence[dict[str, Any]]) -> str:
    """ "true": every clip has the factors of a sidecar; "read": the priors' outputs stand in for them."""
    kinds = {clip["is_true"] for shard in shards for clip in shard["clips"]}
    return "true" if kinds == {True} else "read"


def _held_out(shards: Sequence[dict[str, Any]], setting: PrepareSetting) -> list[str]:
    """Identities that only measure: drawn by the seed; one at least where there are two."""
    everybody = sorted({clip["identity"] for shard in shards for clip in shard["clips"]})
    count = round(setting.held_out * len(everybody))
    if setting.held_out > 0 and len(everybody) > 1:
        count = max(1, min(count, len(everybody) - 1))
    order = np.random.default_rng(setting.seed).permutation(len(everybody))
    return sorted(everybody[i] for i in order[:count])


def _store_index(shards: Sequence[dict[str, Any]], held_out: set[str], store: BlobStore) -> dict[str, Any]:
    """Factors of all clips and where in their shard each lies, those to train on first: read once at a run's start.

    factors_KNF; starts_K(N+1): bytes at which pictures begin and the last one ends; place_K2: shard, byte of the strip.
    """
    factors, starts, places = [], [], []
    for number, shard in enumerate(shards):
        header = read_header(store, f"shards/{shard['sha256']}.safetensors")
        factors.append(header.array(store, "factors"))
        count, pictures = factors[-1].shape[:2]
        if "ends" in header.tensors:
            ends = header.array(store, "ends")
            first = np.concatenate([[0], ends[:-1, -1]])
            starts.append(np.concatenate([first[:, None], ends], 1) + header.tensors["jpeg"].start)
        else:
            tensor = header.tensors["pictures"]
            one = int(np.prod(tensor.shape[2:]))
            of_clip = one * pictures * np.arange(count)
            starts.append(tensor.start + of_clip[:, None] + one * np.arange(pictures + 1))
        strip = header.tensors["strip"]
        at = strip.start + (strip.stop - strip.start) // count * np.arange(count)
        places.append(np.stack([np.full(count, number), at], 1))
    waits = np.array([clip["identity"] in held_out for shard in shards for clip in shard["clips"]])
    order = np.argsort(waits, kind="stable")
    arrays = {
        "factors": np.concatenate(factors)[order],
        "starts": np.concatenate(starts).astype(np.int64)[order],
        "place": np.concatenate(places).astype(np.int64)[order],
    }
    with tempfile.TemporaryDirectory(prefix="index-") as folder:
        path = Path(folder) / "index.safetensors"
        save_file(arrays, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        blob = store.put_file(path, f"index/{digest}.safetensors")
    return {"sha256": blob.sha256, "size_bytes": blob.size_bytes, "train": int((~waits).sum()), "clips": len(waits)}


def _json(value: Any) -> bytes:
    return (json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n").encode()
