"""What a finished training run left behind becomes a version: files checked and copied first, then one transaction."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from farm.db.session import Database
from farm.domain import bundle
from farm.domain.bundle import EVALUATION, MANIFEST, MOST_TEXT, read_evaluation, read_manifest
from farm.domain.gate import Decision
from farm.domain.tenant import FARM, Actor
from farm.domain.version import MODEL, Lineage, ReportFile, Version
from farm.errors import Problem, Rejected
from farm.flow import versions
from farm.storage import keys
from farm.storage.blobs import BlobStore, Stat, open_store

STATUS: Final = "status.json"


@dataclass(frozen=True)
class Registered:
    """decision: what the gate says of the version beside the champion of now."""

    version: Version
    decision: Decision


def register(
    database: Database,
    store: BlobStore,
    out: str,
    *,
    name: str,
    model: str = MODEL,
    lineage: Lineage | None = None,
    endpoint_url: str | None = None,
    actor: Actor = FARM,
) -> Registered:
    """Make the bundle of a finished run a version (a candidate), with its evaluation and report.

    store: the farm's own. out: where the run wrote, or a bundle's own folder: `file:///folder` or `s3://bucket/prefix`
    (of the server `endpoint_url`). lineage: what the caller knows; recipe, seeds, checkpoints and dataset come from the
    run's files where it says nothing. May be repeated: the same bundle under the same name is the same version.

    Raises Rejected: "run_unfinished", "bundle_invalid" (with all problems: bundle_missing, bundle_incomplete,
    bundle_corrupt, manifest_invalid, evaluation_invalid), and those of `farm.flow.versions.register`. Transient when a
    store or the database is away.
    """
    source = open_store(out, endpoint_url)
    found = {stat.key: stat for stat in source.list("")}
    _check_finished(source, found)
    files = bundle.run_files(found)
    manifest, digest, evaluation = _documents(source, found, files.bundle)
    with tempfile.TemporaryDirectory(prefix="dubfarm-register-") as scratch:
        folder = _copy_bundle(source, store, files.bundle, manifest, digest, Path(scratch))
        reports = _copy_reports(source, store, digest, files.report, Path(scratch))
    with database.transaction() as session:
        version = versions.register(
            session,
            name=name,
            bundle_key=folder,
            bundle_sha256=digest,
            manifest=manifest,
            model=model,
            lineage=bundle.lineage(lineage or Lineage(), files, manifest, _json(source, found, bundle.RECIPE) or {}),
            evaluation=evaluation,
            reports=reports,
            actor=actor,
        )
        return Registered(version, versions.decide(session, version))


Found = Mapping[str, Stat]


def _check_finished(source: BlobStore, found: Found) -> None:
    """A folder without a status is somebody's own; a run's says how it ended."""
    state = (_json(source, found, STATUS) or {}).get("state", "succeeded")
    if state != "succeeded":
        raise Rejected("run_unfinished", f"the run is {state}: only one that succeeded is registered")


def _documents(source: BlobStore, found: Found, at: str) -> tuple[Mapping[str, Any], str, Mapping[str, Any] | None]:
    """Manifest, its SHA-256, and the evaluation where there is one; everything that is wrong with the bundle."""
    if at + MANIFEST not in found:
        raise Rejected("bundle_invalid", f"nothing at {at}{MANIFEST}", problems=(_missing(at),))
    problems: list[Problem] = []
    manifest: Mapping[str, Any] = {"files": {}}
    evaluation = None
    digest = source.digest(at + MANIFEST).sha256
    try:
        manifest = read_manifest(source.get_bytes(at + MANIFEST))
    except Rejected as error:
        problems += error.problems
    if EVALUATION in found:
        try:
            evaluation = read_evaluation(source.get_bytes(EVALUATION))
        except Rejected as error:
            problems += error.problems
    problems += _file_problems(source, found, at, manifest["files"])
    if problems:
        raise Rejected("bundle_invalid", "; ".join(p.detail for p in problems), problems=tuple(problems))
    return manifest, digest, evaluation


def _missing(at: str) -> Problem:
    return Problem("bundle_missing", f"there is no {at}{MANIFEST}: the run wrote no bundle")


def _file_problems(source: BlobStore, found: Found, at: str, files: Mapping[str, str]) -> Iterator[Problem]:
    for path, sha256 in sorted(files.items()):
        try:
            keys.bundle_file("b", path)
        except Rejected as error:
            yield from error.problems
            continue
        if at + path not in found:
            yield Problem("bundle_incomplete", f"the manifest lists {path}, which is not there")
        elif (its := source.digest(at + path).sha256) != sha256:
            yield Problem("bundle_corrupt", f"{path} has SHA-256 {its}, not {sha256}")


def _copy_bundle(
    source: BlobStore, store: BlobStore, at: str, manifest: Mapping[str, Any], digest: str, scratch: Path
) -> str:
    """The bundle's folder in the farm's store. Bytes are named by content and checked again as they pass: repeating
    this after a cut harms nothing, and nothing else can come under their names."""
    folder = keys.bundle(digest)
    for path, sha256 in {**manifest["files"], MANIFEST: digest}.items():
        part = scratch / "part"
        if source.get_file(at + path, part).sha256 != sha256:
            raise Rejected("bundle_corrupt", f"{path} changed while it was read")
        store.put_file(part, keys.bundle_file(folder, path))
    return folder


def _copy_reports(
    source: BlobStore, store: BlobStore, digest: str, kept: Sequence[str], scratch: Path
) -> Mapping[str, ReportFile]:
    evaluation = source.digest(EVALUATION).sha256 if EVALUATION in kept else "none"
    reports: dict[str, ReportFile] = {}
    for path in kept:
        part = scratch / "part"
        source.get_file(path, part)
        blob = store.put_file(part, keys.report(digest, evaluation, path))
        reports[path] = ReportFile(blob.key, blob.size_bytes, blob.sha256)
    return reports


def _json(source: BlobStore, found: Found, path: str) -> dict[str, Any] | None:
    if path not in found or found[path].size_bytes > MOST_TEXT:
        return None
    with suppress(ValueError):
        document = json.loads(source.get_bytes(path))
        return document if isinstance(document, dict) else None
    return None
