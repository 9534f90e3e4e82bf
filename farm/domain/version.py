"""A version: registered weights of a model, where they came from, and how it is found: by id, name or alias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from farm.domain.gate import Decision

MODEL: Final = "pdfgc"
CHAMPION: Final = "champion"
CANARY: Final = "canary"
GATED: Final = frozenset({CHAMPION, CANARY})
"""Aliases that jobs get without naming a version: the gate stands before them."""


@dataclass(frozen=True)
class Lineage:
    """Where weights came from, as far as it is known.

    code_version: of the trainer. dataset_version: content address of what was trained on. parent: the version that
    training went on from. run: the training run's id. checkpoints: by name.
    """

    recipe: str | None = None
    overrides: Mapping[str, object] = field(default_factory=dict)
    code_version: str | None = None
    dataset_version: str | None = None
    seeds: tuple[int, ...] = ()
    parent: str | None = None
    run: str | None = None
    checkpoints: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportFile:
    """A file of the evaluation report in the store, for people and plots."""

    key: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Version:
    """`bundle_sha256` is that of manifest.json, which itself lists the SHA-256 of every weight file.

    evaluation: the JSON that the gate reads; None: never evaluated. reports: by file name. gate: what the gate last
    said of it. unusable: why no worker can render with it, once one has found so.
    """

    id: str
    model: str
    name: str
    bundle_key: str
    bundle_sha256: str
    manifest: Mapping[str, object]
    trained: bool
    licence: str
    lineage: Lineage = field(default_factory=Lineage)
    evaluation: Mapping[str, object] | None = None
    reports: Mapping[str, ReportFile] = field(default_factory=dict)
    gate: Decision | None = None
    unusable: str | None = None
