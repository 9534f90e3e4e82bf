"""Versions of models: weights with where they came from, what was measured of them and what the gate says."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request
from pydantic import Field, StringConstraints
from starlette.responses import Response

from api import errors
from api.deps import AFarm, APage, Farm, IdempotencyKey, OperatorsTrainer, Raw, Reader, create_once, slice_of
from api.v1.answers import PageAnswer, VersionAnswer
from api.v1.batch_body import Strict
from api.v1.paths import Model, VersionText
from farm.db import assets, versions
from farm.db.session import Session
from farm.domain.bundle import EVALUATION, MANIFEST, MOST_TEXT, REPORT_FILE, read_evaluation, read_manifest
from farm.domain.order import Blob
from farm.domain.tenant import Principal
from farm.domain.version import MODEL, Lineage, ReportFile
from farm.errors import Problem, Rejected
from farm.flow import versions as verbs
from farm.flow.idempotency import Answer
from farm.storage import keys

router = APIRouter(prefix="/v1/models", tags=["models"])

REPORT_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The file.", "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
}
ReportName = Annotated[str, Path(examples=["evaluation.json"])]
Short = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class BundleFile(Strict):
    path: Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]
    asset_id: Annotated[str, StringConstraints(pattern=r"^ast_[0-9a-f]{32}$")]


class LineageBody(Strict):
    """Where weights came from."""

    recipe: Short | None = None
    overrides: dict[str, Any] = Field(default_factory=dict, max_length=200)
    code_version: Short | None = None
    dataset_version: Short | None = None
    seeds: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field(default_factory=list, max_length=100)
    parent: Short | None = Field(default=None, description="The version that training went on from: its id or name.")
    run: Short | None = None
    checkpoints: list[Short] = Field(default_factory=list, max_length=1000)


class VersionBody(Strict):
    """A bundle, file by file, from completed assets: manifest.json and everything that it lists. `report`: files about
    it (evaluation.json, which the gate reads; report.html, report.md, recipe.json, plots/*.png, grids/*.png)."""

    name: Name
    files: list[BundleFile] = Field(min_length=1, max_length=64)
    report: list[BundleFile] = Field(default_factory=list, max_length=200)
    lineage: LineageBody | None = None


def known(model: str) -> None:
    if model != MODEL:
        raise errors.not_found("model", model)


@router.get("/{model}/versions", response_model=PageAnswer[VersionAnswer])
def list_versions(farm: AFarm, who: Reader, model: Model, page: APage) -> PageAnswer[VersionAnswer]:
    """Newest first."""
    known(model)
    with farm.transaction() as session:
        found = versions.listed(session, model)
        named = names(session, model)
    start, stop, following = slice_of(found, page)
    answers = [VersionAnswer.of(version, named.get(version.id, [])) for version in found[start:stop]]
    return PageAnswer(data=answers, next_cursor=following)


def names(session: Session, model: str) -> dict[str, list[str]]:
    named: dict[str, list[str]] = {}
    for alias in versions.aliases(session, model):
        named.setdefault(alias.version_id, []).append(alias.name)
    return named


@router.get("/{model}/versions/{version}", response_model=VersionAnswer)
def get_version(farm: AFarm, who: Reader, model: Model, version: VersionText) -> VersionAnswer:
    """By id, by name, or by an alias."""
    known(model)
    with farm.transaction() as session:
        found = verbs.resolve(session, version, model)
        if found is None:
            raise errors.not_found("version", version)
        return VersionAnswer.of(found, names(session, model).get(found.id, []))


@router.post("/{model}/versions", status_code=201, response_model=VersionAnswer)
def register_version(
    request: Request,
    farm: AFarm,
    who: OperatorsTrainer,
    model: Model,
    body: VersionBody,
    raw: Raw,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Register uploaded weights. The files are checked against the manifest and copied to a place of their own. The
    same weights under the same name are the same version, with a newer evaluation where one is given."""
    known(model)
    bundle = _bundle(farm, who, body.files)
    evaluation, reports = _report(farm, who, body.report, bundle)
    # Copies are named by content: repeating them after a cut harms nothing.
    for path, blob in bundle.files.items():
        farm.store.copy(blob.key, keys.bundle_file(bundle.key, path))
    for blob, file in reports.values():
        farm.store.copy(blob.key, file.key)

    def make(session: Session) -> Answer:
        version = verbs.register(
            session,
            name=body.name,
            bundle_key=bundle.key,
            bundle_sha256=bundle.files[MANIFEST].sha256,
            manifest=bundle.manifest,
            model=model,
            lineage=_lineage(session, model, body.lineage),
            evaluation=evaluation,
            reports={name: file for name, (_, file) in reports.items()},
            actor=who.actor,
        )
        answer = VersionAnswer.of(version, names(session, model).get(version.id, []))
        return Answer(201, answer.json_dict(), {"Location": f"/v1/models/{model}/versions/{version.id}"})

    return create_once(farm, who, request, raw, idempotency_key, make)


@dataclass(frozen=True)
class _Bundle:
    key: str
    manifest: Mapping[str, Any]
    files: Mapping[str, Blob]


def _lineage(session: Session, model: str, body: LineageBody | None) -> Lineage:
    if body is None:
        return Lineage()
    parent = body.parent
    if parent is not None:
        found = verbs.resolve(session, parent, model)
        if found is None:
            raise errors.invalid((Problem("version_not_found", f"no version {parent}", "/lineage/parent"),))
        parent = found.id
    known = body.model_dump(exclude={"parent", "seeds", "checkpoints"})
    return Lineage(parent=parent, seeds=tuple(body.seeds), checkpoints=tuple(body.checkpoints), **known)


def _blobs(
    farm: Farm, who: Principal, listed: Sequence[BundleFile], at: str, problems: list[Problem]
) -> dict[str, Blob]:
    """The bytes of listed assets, by path; adds what is wrong with the list to `problems`."""
    files: dict[str, Blob] = {}
    for number, file in enumerate(listed):
        here = f"{at}/{number}"
        with farm.transaction() as session:
            asset = assets.get(session, who.tenant_id, file.asset_id)
        if asset is None or asset.blob is None:
            code = "asset_not_found" if asset is None else "asset_not_ready"
            problems.append(Problem(code, f"{file.asset_id} is not an asset with its bytes", f"{here}/asset_id"))
            continue
        try:
            keys.bundle_file("b", file.path)
        except Rejected as error:
            problems.append(Problem(error.code, error.detail, f"{here}/path"))
            continue
        if file.path in files:
            problems.append(Problem("path_repeated", f"{file.path} is listed twice", f"{here}/path"))
        files[file.path] = asset.blob
    return files


def _bundle(farm: Farm, who: Principal, listed: Sequence[BundleFile]) -> _Bundle:
    """The listed assets as a bundle; raises ApiProblem with everything that is wrong."""
    problems: list[Problem] = []
    files = _blobs(farm, who, listed, "/files", problems)
    if MANIFEST not in files and not problems:
        problems.append(Problem("manifest_missing", f"a bundle has a {MANIFEST}", "/files"))
    if problems:
        raise errors.invalid(problems)
    manifest = read_manifest(_text(farm, files[MANIFEST], "manifest_invalid"))
    wanted: Mapping[str, str] = manifest["files"]
    for path in sorted(wanted.keys() - files.keys()):
        problems.append(Problem("bundle_incomplete", f"the manifest lists {path}", "/files"))
    for number, file in enumerate(listed):
        if file.path == MANIFEST:
            continue
        if file.path not in wanted:
            problems.append(
                Problem("path_not_in_manifest", f"the manifest has no {file.path}", f"/files/{number}/path")
            )
        elif wanted[file.path] != files[file.path].sha256:
            detail = f"{file.path} has SHA-256 {files[file.path].sha256}, not {wanted[file.path]}"
            problems.append(Problem("bundle_corrupt", detail, f"/files/{number}/asset_id"))
    if problems:
        raise errors.invalid(problems)
    return _Bundle(keys.bundle(files[MANIFEST].sha256), manifest, files)


def _report(
    farm: Farm, who: Principal, listed: Sequence[BundleFile], bundle: _Bundle
) -> tuple[Mapping[str, Any] | None, Mapping[str, tuple[Blob, ReportFile]]]:
    """The evaluation, and where each file of the report comes from and goes to."""
    problems: list[Problem] = []
    files = _blobs(farm, who, listed, "/report", problems)
    for number, file in enumerate(listed):
        if not REPORT_FILE.fullmatch(file.path):
            detail = f"{file.path} is no file of a report"
            problems.append(Problem("path_refused", detail, f"/report/{number}/path"))
    if problems:
        raise errors.invalid(problems)
    evaluation = files.get(EVALUATION)
    read = None if evaluation is None else read_evaluation(_text(farm, evaluation, "evaluation_invalid"))
    digest = "none" if evaluation is None else evaluation.sha256
    manifest = bundle.files[MANIFEST].sha256
    return read, {
        path: (blob, ReportFile(keys.report(manifest, digest, path), blob.size_bytes, blob.sha256))
        for path, blob in files.items()
    }


def _text(farm: Farm, blob: Blob, code: str) -> bytes:
    if blob.size_bytes > MOST_TEXT:
        raise Rejected(code, f"it has at most {MOST_TEXT} bytes")
    return farm.store.get_bytes(blob.key)


@router.get("/{model}/versions/{version}/report/{file:path}", response_class=Response, responses=REPORT_ANSWERS)
def get_report_file(farm: AFarm, who: Reader, model: Model, version: VersionText, file: ReportName) -> Response:
    """One file of a version's evaluation report."""
    known(model)
    with farm.transaction() as session:
        found = verbs.resolve(session, version, model)
    kept = None if found is None else found.reports.get(file)
    if kept is None:
        raise errors.not_found("report file", file)
    kind = mimetypes.guess_type(file)[0] or "text/plain"
    # A report is somebody's HTML: it may show itself, and do nothing.
    quiet = {"Content-Security-Policy": "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"}
    return Response(farm.store.get_bytes(kept.key), media_type=kind, headers={**quiet, "Cache-Control": "no-store"})
