"""Models: versions of their weights, and the aliases that name them. Who runs the farm changes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request
from pydantic import Field, StringConstraints
from starlette.responses import Response

from api import errors
from api.deps import AFarm, APage, Farm, IdempotencyKey, Operator, OperatorsTrainer, Raw, Reader, create_once, slice_of
from api.v1.answers import AliasAnswer, PageAnswer, VersionAnswer
from api.v1.batch_body import Strict
from api.v1.paths import AliasName, Model, VersionText
from farm.db import assets, versions
from farm.db.session import Session
from farm.domain.order import Blob
from farm.domain.tenant import Principal
from farm.domain.version import MODEL
from farm.errors import Problem, Rejected
from farm.flow import versions as verbs
from farm.flow.idempotency import Answer
from farm.storage import keys

router = APIRouter(prefix="/v1/models", tags=["models"])

MANIFEST: Final = "manifest.json"
MANIFEST_LIMIT: Final = 4 * 2**20
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class BundleFile(Strict):
    path: Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]
    asset_id: Annotated[str, StringConstraints(pattern=r"^ast_[0-9a-f]{32}$")]


class VersionBody(Strict):
    """A bundle, file by file, from completed assets: manifest.json and everything that it lists."""

    name: Name
    files: list[BundleFile] = Field(min_length=1, max_length=64)


class AliasBody(Strict):
    version: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]*$")] = Field(
        description="Its id or name."
    )
    force: bool = Field(default=False, description="Go below the gate. Versions without an evaluation have none yet.")


def _known(model: str) -> None:
    if model != MODEL:
        raise errors.not_found("model", model)


@router.get("/{model}/versions", response_model=PageAnswer[VersionAnswer])
def list_versions(farm: AFarm, who: Reader, model: Model, page: APage) -> PageAnswer[VersionAnswer]:
    """Newest first."""
    _known(model)
    with farm.transaction() as session:
        found = versions.listed(session, model)
        named = _names(session, model)
    start, stop, following = slice_of(found, page)
    answers = [VersionAnswer.of(version, named.get(version.id, [])) for version in found[start:stop]]
    return PageAnswer(data=answers, next_cursor=following)


def _names(session: Session, model: str) -> dict[str, list[str]]:
    named: dict[str, list[str]] = {}
    for alias in versions.aliases(session, model):
        named.setdefault(alias.version_id, []).append(alias.name)
    return named


@router.get("/{model}/versions/{version}", response_model=VersionAnswer)
def get_version(farm: AFarm, who: Reader, model: Model, version: VersionText) -> VersionAnswer:
    """By id, by name, or by an alias."""
    _known(model)
    with farm.transaction() as session:
        found = verbs.resolve(session, version, model)
        if found is None:
            raise errors.not_found("version", version)
        return VersionAnswer.of(found, _names(session, model).get(found.id, []))


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
    """Register uploaded weights. The files are checked against the manifest and copied to a place of their own."""
    _known(model)
    bundle = _bundle(farm, who, body.files)
    # Copies are named by content: repeating them after a cut harms nothing.
    for path, blob in bundle.files.items():
        farm.store.copy(blob.key, keys.bundle_file(bundle.key, path))

    def make(session: Session) -> Answer:
        version = verbs.register(
            session,
            name=body.name,
            bundle_key=bundle.key,
            bundle_sha256=bundle.files[MANIFEST].sha256,
            manifest=bundle.manifest,
            model=model,
            actor=who.actor,
        )
        answer = VersionAnswer.of(version, _names(session, model).get(version.id, []))
        return Answer(201, answer.json_dict(), {"Location": f"/v1/models/{model}/versions/{version.id}"})

    return create_once(farm, who, request, raw, idempotency_key, make)


@dataclass(frozen=True)
class _Bundle:
    key: str
    manifest: Mapping[str, Any]
    files: Mapping[str, Blob]


def _bundle(farm: Farm, who: Principal, listed: Sequence[BundleFile]) -> _Bundle:
    """The listed assets as a bundle; raises ApiProblem with everything that is wrong."""
    problems: list[Problem] = []
    files: dict[str, Blob] = {}
    for number, file in enumerate(listed):
        at = f"/files/{number}"
        with farm.transaction() as session:
            asset = assets.get(session, who.tenant_id, file.asset_id)
        if asset is None or asset.blob is None:
            code = "asset_not_found" if asset is None else "asset_not_ready"
            problems.append(Problem(code, f"{file.asset_id} is not an asset with its bytes", f"{at}/asset_id"))
            continue
        try:
            keys.bundle_file("b", file.path)
        except Rejected as error:
            problems.append(Problem(error.code, error.detail, f"{at}/path"))
            continue
        if file.path in files:
            problems.append(Problem("path_repeated", f"{file.path} is listed twice", f"{at}/path"))
        files[file.path] = asset.blob
    if MANIFEST not in files and not problems:
        problems.append(Problem("manifest_missing", f"a bundle has a {MANIFEST}", "/files"))
    if problems:
        raise errors.invalid(problems)
    manifest = _manifest(farm, files[MANIFEST])
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


def _manifest(farm: Farm, blob: Blob) -> Mapping[str, Any]:
    """Its JSON, as far as the farm itself relies on it; workers check the rest when they load the weights."""
    if blob.size_bytes > MANIFEST_LIMIT:
        raise errors.ApiProblem("manifest_invalid", f"a manifest has at most {MANIFEST_LIMIT} bytes")
    try:
        manifest = json.loads(farm.store.get_bytes(blob.key))
        wanted = manifest["files"]
        fits = (
            all(isinstance(path, str) and isinstance(sha256, str) for path, sha256 in wanted.items())
            and len(wanted) > 0
            and isinstance(manifest["trained"], bool)
            and isinstance(manifest["licence"], str)
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise errors.ApiProblem("manifest_invalid", f"{MANIFEST} is not a bundle's manifest: {error!r}") from error
    if not fits or b"\\u0000" in farm.store.get_bytes(blob.key):
        raise errors.ApiProblem("manifest_invalid", f"{MANIFEST} needs files, trained and licence")
    return manifest


@router.get("/{model}/aliases", response_model=PageAnswer[AliasAnswer])
def list_aliases(farm: AFarm, who: Reader, model: Model, page: APage) -> PageAnswer[AliasAnswer]:
    _known(model)
    with farm.transaction() as session:
        found = versions.aliases(session, model)
        start, stop, following = slice_of(found, page)
        data = [_alias(session, model, alias) for alias in found[start:stop]]
    return PageAnswer(data=data, next_cursor=following)


def _alias(session: Session, model: str, alias: versions.Alias) -> AliasAnswer:
    moves = versions.history(session, alias.name, model)
    return AliasAnswer(
        model=model,
        alias=alias.name,
        version=alias.version_id,
        previous=moves[0].previous_version_id if moves else None,
        updated_at=alias.updated_at,
    )


def _named(session: Session, model: str, alias: str) -> AliasAnswer:
    found = next(found for found in versions.aliases(session, model) if found.name == alias)
    return _alias(session, model, found)


@router.put("/{model}/aliases/{alias}", response_model=AliasAnswer)
def set_alias(farm: AFarm, who: Operator, model: Model, alias: AliasName, body: AliasBody) -> AliasAnswer:
    """Move an alias. Batches that were accepted before keep the version that they pinned."""
    _known(model)
    if not alias.replace("-", "").replace("_", "").isalnum() or not alias.isascii() or len(alias) > 50:
        raise errors.ApiProblem("alias_invalid", "an alias has 1 to 50 letters, digits, - and _")
    with farm.transaction() as session:
        version = verbs.resolve(session, body.version, model)
        if version is None:
            raise errors.invalid((Problem("version_not_found", f"no version {body.version}", "/version"),))
        verbs.promote(session, alias, version.id, actor=who.actor, model=model)
        return _named(session, model, alias)


@router.post("/{model}/aliases/{alias}/rollback", response_model=AliasAnswer)
def rollback_alias(farm: AFarm, who: Operator, model: Model, alias: AliasName) -> AliasAnswer:
    """Take the alias's newest promotion back."""
    _known(model)
    with farm.transaction() as session:
        try:
            verbs.rollback(session, alias, actor=who.actor, model=model)
        except Rejected as error:
            if error.code == "alias_not_found":
                raise errors.not_found("alias", alias) from error
            raise
        return _named(session, model, alias)
