"""What of a folder on this machine is sent to register a version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.domain import bundle
from farm.domain.document import to_document
from farm.domain.version import Lineage


@dataclass(frozen=True)
class RunFolder:
    """bundle, report: files by the name that they are registered under. lineage: the document that the API takes."""

    bundle: Mapping[str, Path]
    report: Mapping[str, Path]
    lineage: dict[str, Any]


def read(folder: Path) -> RunFolder:
    """Of a finished run's folder (with `bundle/`), or of a bundle's own, where evaluation and recipe lie beside the
    weights. What is wrong with them the farm says."""
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    found = bundle.run_files(paths)
    report = {name: paths[name] for name in found.report}
    manifest = _json(paths.get(found.bundle + bundle.MANIFEST))
    if found.bundle:
        inside = {
            name.removeprefix(found.bundle): path for name, path in paths.items() if name.startswith(found.bundle)
        }
    else:
        listed = manifest.get("files")
        kept = {*(listed if isinstance(listed, dict) else {})}
        beside = {*report, "curves.json"} - kept
        inside = {name: path for name, path in paths.items() if name not in beside}
    lineage = bundle.lineage(Lineage(), found, manifest, _json(paths.get(bundle.RECIPE)))
    return RunFolder(inside, report, to_document(lineage))


def _json(path: Path | None) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        document = json.loads(path.read_bytes()) if path is not None else {}
        return document if isinstance(document, dict) else {}
    return {}
