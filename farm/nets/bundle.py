"""A bundle: one version of the four networks as a folder, a manifest and four safetensors files.

The manifest holds every file's SHA-256 and everything that rendering needs to know about the weights; the SHA-256 of
the manifest therefore stands for the whole bundle.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from farm.domain.factor import Factor
from farm.errors import Rejected
from farm.nets import untrained
from farm.nets.appearance import AppearanceEncoder
from farm.nets.audio import AudioEncoder
from farm.nets.generator import Generator
from farm.nets.manifest import FILES, MANIFEST, Manifest
from farm.nets.motion import MotionEncoder
from farm.nets.networks import Networks, build_empty, fill
from farm.nets.sizes import Sizes


@dataclass(frozen=True)
class Bundle:
    """A version in memory: networks in eval mode, without gradients, on one device."""

    manifest: Manifest
    sha256: str
    device: torch.device
    dtype: torch.dtype
    networks: Networks

    @property
    def sizes(self) -> Sizes:
        return self.manifest.sizes

    @property
    def gains(self) -> Mapping[Factor, float]:
        return self.manifest.gains

    @property
    def appearance(self) -> AppearanceEncoder:
        return self.networks.appearance

    @property
    def motion(self) -> MotionEncoder:
        return self.networks.motion

    @property
    def audio(self) -> AudioEncoder:
        return self.networks.audio

    @property
    def generator(self) -> Generator:
        return self.networks.generator


def load(
    folder: Path, device: torch.device, expect_sha256: str | None = None, *, dtype: torch.dtype = torch.float32
) -> Bundle:
    """Read a bundle, checking every hash, key and shape.

    expect_sha256: that of the manifest, as the job pinned it. dtype: what the networks compute in; inputs must have it.
    Raises Rejected: bundle_missing, bundle_corrupt, manifest_invalid, sizes_invalid, weights_*.
    """
    content = _read(folder / MANIFEST)
    sha256 = _check_sha256(MANIFEST, content, expect_sha256)
    manifest = Manifest.from_bytes(content)
    try:
        networks = build_empty(manifest.sizes)
    except (ValueError, RuntimeError, OverflowError, ZeroDivisionError) as error:
        raise Rejected("sizes_invalid", f"no networks have these sizes: {error}") from error
    for name, network in networks.named().items():
        file = FILES[name]
        content = _read(folder / file)
        _check_sha256(file, content, manifest.files[file])
        fill(network, _tensors(file, content), file)
        _settle(network, device, dtype)
    return Bundle(manifest, sha256, device, dtype, networks)


def save(folder: Path, manifest: Manifest, networks: Networks) -> Manifest:
    """Write a bundle; returns the manifest with the files' hashes. The folder appears whole or not at all.

    Raises Rejected("bundle_exists") if the folder is there and not empty.
    """
    if manifest.sizes != networks.sizes:
        raise ValueError("the manifest's sizes are not those of the networks")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        files: dict[str, str] = {}
        for name, network in networks.named().items():
            content = safetensors.torch.save({key: _plain(tensor) for key, tensor in network.state_dict().items()})
            (unfinished / FILES[name]).write_bytes(content)
            files[FILES[name]] = hashlib.sha256(content).hexdigest()
        manifest = dataclasses.replace(manifest, files=files)
        (unfinished / MANIFEST).write_bytes(manifest.to_bytes())
        unfinished.chmod(0o755)
        _move(unfinished, folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return manifest


def seeded(folder: Path, sizes: Sizes, seed: int, name: str) -> Manifest:
    """Write an untrained bundle: its pictures are no faces, but are bounded and follow every code."""
    manifest = Manifest(name=name, sizes=sizes, licence="Apache-2.0", trained=False, created_by="seeded", seed=seed)
    return save(folder, manifest, untrained.networks(sizes, seed))


def manifest_sha256(folder: Path) -> str:
    """What `load` expects as expect_sha256."""
    return hashlib.sha256(_read(folder / MANIFEST)).hexdigest()


def _settle(network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    # Convolutions with channels last are the faster ones on every device that we render on.
    network.to(device=device, dtype=dtype).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    network.eval().requires_grad_(False)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Rejected("bundle_missing", f"{path.name} is not in {path.parent}") from error


def _check_sha256(file: str, content: bytes, expected: str | None) -> str:
    found = hashlib.sha256(content).hexdigest()
    if expected is not None and found != expected:
        raise Rejected("bundle_corrupt", f"{file}: its SHA-256 is {found}, not {expected}")
    return found


def _tensors(file: str, content: bytes) -> Mapping[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise Rejected("weights_unreadable", f"{file}: {error}") from error


def _plain(tensor: Tensor) -> Tensor:
    """As the file keeps it: float32 (or the integer it is), contiguous, on the CPU."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).contiguous()


def _move(unfinished: Path, folder: Path) -> None:
    try:
        os.rename(unfinished, folder)
    except OSError as error:
        if folder.exists():
            raise Rejected("bundle_exists", f"{folder} is there already") from error
        raise
