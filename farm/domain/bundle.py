"""A bundle's manifest and an evaluation as the farm itself reads them: JSON that somebody sent. Pure.

Workers check the rest of a manifest when they load the weights (farm.nets.manifest).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from farm.domain.version import Lineage
from farm.errors import Rejected

MANIFEST: Final = "manifest.json"
EVALUATION: Final = "evaluation.json"
MOST_TEXT: Final = 4 * 2**20
"""Bytes of a manifest or an evaluation."""


def read_manifest(content: bytes) -> Mapping[str, Any]:
    """Raises Rejected("manifest_invalid")."""
    if len(content) > MOST_TEXT:
        raise Rejected("manifest_invalid", f"a manifest has at most {MOST_TEXT} bytes")
    try:
        manifest = json.loads(content)
        files = manifest["files"]
        fits = (
            len(files) > 0
            and all(isinstance(path, str) and isinstance(sha256, str) for path, sha256 in files.items())
            and isinstance(manifest["trained"], bool)
            and isinstance(manifest["licence"], str)
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Rejected("manifest_invalid", f"{MANIFEST} is not a bundle's manifest: {error!r}") from error
    if not fits or b"\\u0000" in content:
        raise Rejected("manifest_invalid", f"{MANIFEST} needs files, trained and licence")
    return manifest


def read_evaluation(content: bytes) -> Mapping[str, Any]:
    """Numbers that are none (NaN, Infinity) become null: the gate then says that they are missing.

    Raises Rejected("evaluation_invalid").
    """
    if len(content) > MOST_TEXT:
        raise Rejected("evaluation_invalid", f"an evaluation has at most {MOST_TEXT} bytes")
    try:
        document = _finite(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise Rejected("evaluation_invalid", f"{EVALUATION} is not JSON: {error!r}") from error
    if not isinstance(document, dict) or b"\\u0000" in content:
        raise Rejected("evaluation_invalid", f"{EVALUATION} is not a JSON object")
    return document


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --- a run's folder ------------------------------------------------------------------------------------------------

BUNDLE: Final = "bundle/"
CHECKPOINTS: Final = "checkpoints/"
RECIPE: Final = "recipe.json"
REPORT_FILE: Final = re.compile(r"(evaluation\.json|recipe\.json|report\.(html|md)|(plots|grids)/[\w.-]+\.(png|svg))")
"""What of a run's folder is kept beside a version, for people."""
MOST_REPORT_FILES: Final = 200


@dataclass(frozen=True)
class RunFiles:
    """bundle: prefix of the bundle's files. report: paths of the report's."""

    bundle: str
    report: tuple[str, ...]
    checkpoints: tuple[str, ...]


def run_files(paths: Iterable[str]) -> RunFiles:
    """What is what in a run's folder, or in a bundle's own folder (with manifest.json at its top)."""
    known = sorted(paths)
    is_run = MANIFEST not in known and any(path.startswith(BUNDLE) for path in known)
    report = [path for path in known if REPORT_FILE.fullmatch(path)][:MOST_REPORT_FILES]
    named = (path.removeprefix(CHECKPOINTS).partition("/")[0] for path in known if path.startswith(CHECKPOINTS))
    return RunFiles(BUNDLE if is_run else "", tuple(report), tuple(dict.fromkeys(named)))


def lineage(known: Lineage, files: RunFiles, manifest: Mapping[str, Any], recipe: Mapping[str, Any]) -> Lineage:
    """What is known, completed from a run's files: the corpus' content address stands in the manifest's `source`."""
    seeds = [seed for seed in (manifest.get("seed"), recipe.get("seed")) if isinstance(seed, int)]
    corpus = re.search(r"corpus ([0-9a-f]{8,64})", str(manifest.get("source", "")))
    name = recipe.get("name")
    return replace(
        known,
        recipe=known.recipe or (name if isinstance(name, str) else None),
        seeds=known.seeds or tuple(dict.fromkeys(seeds)),
        dataset_version=known.dataset_version or (corpus.group(1) if corpus else None),
        checkpoints=known.checkpoints or files.checkpoints,
    )
