"""A bundle's manifest and an evaluation as the farm itself reads them: JSON that somebody sent. Pure.

Workers check the rest of a manifest when they load the weights (farm.nets.manifest).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

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
