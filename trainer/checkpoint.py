"""Checkpoints: OUT/checkpoints/STAGE-STEP/, files first, manifest.json last. Without a manifest there is none.

What is in one: networks, memory bank and averages (cast), optimisers, the loss scaler, and where the run stands, from
which every draw and die follows. Names of files are new at each writing, so that a late writer that the run has
given up cannot spoil what its manifest vouches for.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import safetensors.torch
import structlog
import torch
from torch import Tensor, nn

from farm.storage.blobs import BlobStore, Missing
from trainer.out import patiently

FOLDER: Final = "checkpoints"
MANIFEST: Final = "manifest.json"
CAST: Final = "cast"
KEEP: Final = 3
log = structlog.get_logger()


class OtherRecipe(ValueError):
    """The checkpoints here were written by another recipe."""


@dataclass(frozen=True, order=True)
class Place:
    """Where a run stands: `step` steps of stage number `stage` are done."""

    stage: int
    step: int


@dataclass(frozen=True)
class Manifest:
    """stage, step: the stage's name and its steps done. place: where to go on. part: holds that stage's parts alone
    (stages that train side by side). ended: the stage is done; such ones are kept. useful_s: seconds of steps that
    count so far. state: what else the loop keeps (levels of losses, the scaler)."""

    recipe: str
    stage: str
    step: int
    place: Place
    part: bool = False
    ended: bool = False
    useful_s: float = 0.0
    workers: int = 0
    state: dict[str, Any] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.stage}-{self.step}"


class Checkpoints:
    """The checkpoints of one run in a store. Written in a thread: training waits only for the one before."""

    def __init__(self, store: BlobStore, recipe: str) -> None:
        self._store, self._recipe = store, recipe
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None

    def save(
        self,
        manifest: Manifest,
        tensors: Mapping[str, Mapping[str, Tensor]],
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin to write a checkpoint of tensors by file. `before` runs in the thread, ahead of the manifest.

        An error of the one before comes out here, or in `wait`.
        """
        # Shared storage (tied tensors) is written out twice: safetensors refuses it. Clones also let training go on.
        held = {
            name: {key: value.detach().to("cpu", copy=True).contiguous() for key, value in of.items()}
            for name, of in tensors.items()
        }
        self.wait()
        self._writing = self._writer.submit(self._write, manifest, held, before)

    def wait(self) -> None:
        """Until what was begun is committed."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def close(self) -> None:
        self._writer.shutdown(wait=True)

    def newest(self, stage: str | None = None, *, read: bool = True) -> Manifest | None:
        """The furthest committed checkpoint whose files are whole; of parts of a stage, if one is named.

        Raises OtherRecipe where another recipe wrote it. A damaged one is passed over, and said. read: its files are
        read and hashed, to be sure.
        """
        found = [m for m in self.all() if m.part == (stage is not None) and (stage is None or m.stage == stage)]
        for manifest in sorted(found, key=lambda m: (m.place, m.step), reverse=True):
            if manifest.recipe != self._recipe:
                raise OtherRecipe(
                    f"{self._store.uri(FOLDER)} was written by another recipe: take another --out, or that recipe"
                )
            if not read or self._whole(manifest):
                return manifest
            log.warning("checkpoint.damaged", checkpoint=manifest.name)
        return None

    def all(self) -> Iterator[Manifest]:
        """Every committed checkpoint, in no order."""
        keys = [stat.key for stat in patiently(lambda: list(self._store.list(f"{FOLDER}/")))]
        for key in keys:
            if key.endswith(f"/{MANIFEST}"):
                try:
                    yield read_manifest(self._store, key)
                except Missing:
                    continue

    def load(self, manifest: Manifest) -> dict[str, dict[str, Tensor]]:
        return load(self._store, f"{FOLDER}/{manifest.name}", manifest)

    def _whole(self, manifest: Manifest) -> bool:
        try:
            for name, about in manifest.files.items():
                key = f"{FOLDER}/{manifest.name}/{about['file']}"
                if patiently(lambda key=key: self._store.digest(key)).sha256 != about["sha256"]:
                    log.warning("checkpoint.wrong_hash", checkpoint=manifest.name, file=name)
                    return False
        except Missing:
            return False
        return True

    def _write(self, manifest: Manifest, tensors: dict[str, dict[str, Tensor]], before: Callable[[], None]) -> None:
        folder, token, files = f"{FOLDER}/{manifest.name}", secrets.token_hex(4), {}
        with tempfile.TemporaryDirectory(prefix="dubfarm-checkpoint-") as scratch:
            for name, of in tensors.items():
                path = Path(scratch) / f"{name}-{token}.safetensors"
                safetensors.torch.save_file(of, path)
                blob = patiently(lambda path=path: self._store.put_file(path, f"{folder}/{path.name}"))
                files[name] = {"file": path.name, "sha256": blob.sha256, "size_bytes": blob.size_bytes}
                path.unlink()
        before()
        text = json.dumps({**asdict(manifest), "files": files}, indent=2) + "\n"
        patiently(lambda: self._store.put_bytes(text.encode(), f"{folder}/{MANIFEST}"))
        self._forget_old(manifest)

    def _forget_old(self, newest: Manifest) -> None:
        """Keep the ends of stages and the last few of all others; a folder's manifest goes first."""
        others = [m for m in self.all() if not m.ended and m.part == newest.part]
        if newest.part:
            others = [m for m in others if m.stage == newest.stage]
        for manifest in sorted(others, key=lambda m: (m.place, m.step), reverse=True)[KEEP:]:
            self.forget(manifest)

    def forget(self, manifest: Manifest) -> None:
        prefix = f"{FOLDER}/{manifest.name}/"
        patiently(lambda: self._store.delete(f"{prefix}{MANIFEST}"))
        for stat in patiently(lambda: list(self._store.list(prefix))):
            patiently(lambda key=stat.key: self._store.delete(key))


def begin_with(store: BlobStore, recipe: str, cast: nn.Module) -> None:
    """Let a run that has no checkpoint yet begin its first stage with these networks (`recipe`: its recipe_key)."""
    checkpoints = Checkpoints(store, recipe)
    if checkpoints.newest(read=False) is None:
        checkpoints.save(Manifest(recipe, "begin", 0, Place(0, 0)), {CAST: cast.state_dict()})
        checkpoints.wait()
    checkpoints.close()


def read_manifest(store: BlobStore, key: str) -> Manifest:
    """Raises Missing, or ValueError where it is no manifest."""
    try:
        data = json.loads(patiently(lambda: store.get_bytes(key)))
        return Manifest(**{**data, "place": Place(**data["place"])})
    except (TypeError, KeyError) as error:
        raise ValueError(f"{key} is not a checkpoint's manifest: {error}") from None


def load(store: BlobStore, folder: str, manifest: Manifest) -> dict[str, dict[str, Tensor]]:
    """Tensors by file of the checkpoint under that key."""
    tensors = {}
    with tempfile.TemporaryDirectory(prefix="dubfarm-checkpoint-") as scratch:
        for name, about in manifest.files.items():
            path = Path(scratch) / about["file"]
            blob = patiently(lambda path=path, about=about: store.get_file(f"{folder}/{about['file']}", path))
            if blob.sha256 != about["sha256"]:
                raise ValueError(f"{folder}/{about['file']} is not what its manifest says: {blob.sha256}")
            tensors[name] = safetensors.torch.load_file(path)
    return tensors


def of_optimiser(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of an optimiser as tensors."""
    tensors = {}
    for number, state in optimiser.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"{number}/{key}"] = torch.as_tensor(value)
    return tensors


def into_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The reverse; nothing saved leaves it as it is."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split("/")
        state.setdefault(int(number), {})[name] = value
    if state:
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def into_cast(cast: nn.Module, tensors: Mapping[str, Tensor], *, whole: bool = True) -> None:
    """Fill a cast, or if not `whole` those tensors that were saved. ValueError names what does not fit."""
    there = cast.state_dict()
    strange = [key for key, value in tensors.items() if key not in there or there[key].shape != value.shape]
    if whole:
        strange += sorted(there.keys() - tensors.keys())
    if strange:
        raise ValueError(f"the checkpoint's networks are not this recipe's: {strange[0]}")
    with torch.no_grad():
        for key, value in tensors.items():
            there[key].copy_(value)
