"""A version: registered weights of a model, found by id or by alias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MODEL: Final = "pdfgc"
CHAMPION: Final = "champion"
CANARY: Final = "canary"


@dataclass(frozen=True)
class Version:
    """`bundle_sha256` is that of manifest.json, which itself lists the SHA-256 of every weight file."""

    id: str
    model: str
    name: str
    bundle_key: str
    bundle_sha256: str
    manifest: Mapping[str, object]
    trained: bool
    licence: str
