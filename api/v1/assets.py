"""Assets: bytes handed in beforehand, kept once for the same SHA-256."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import anyio.from_thread
from fastapi import APIRouter, Request
from pydantic import Field, StringConstraints
from starlette.responses import Response

from api import errors
from api.deps import AFarm, APage, Farm, IdempotencyKey, Raw, Reader, Submitter, create_once
from api.v1.answers import AssetAnswer, PageAnswer, UploadAnswer
from api.v1.batch_body import Strict, Text
from api.v1.paths import AssetId
from farm.db import assets as stored
from farm.db import media
from farm.db.session import Session
from farm.domain.asset import Asset, AssetStatus
from farm.domain.order import Blob
from farm.domain.tenant import Principal
from farm.errors import Rejected
from farm.flow import assets, tenants
from farm.flow.idempotency import Answer
from farm.storage import keys

router = APIRouter(prefix="/v1/assets", tags=["assets"])

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class AssetBody(Strict):
    """All optional: with `sha256`, bytes that you uploaded before are not asked for again."""

    filename: Annotated[Text, StringConstraints(min_length=1, max_length=255)] | None = None
    content_type: Annotated[Text, StringConstraints(max_length=255)] | None = None
    size_bytes: int | None = Field(default=None, ge=1, le=2**50)
    sha256: Sha256 | None = None


class CompleteBody(Strict):
    sha256: Sha256 | None = Field(default=None, description="Checked against the bytes that arrived.")


def _asset(session: Session, who: Principal, asset_id: str) -> Asset:
    asset = stored.get(session, who.tenant_id, asset_id)
    if asset is None:
        raise errors.not_found("asset", asset_id)
    return asset


@router.post("", status_code=201, response_model=AssetAnswer)
def create_asset(
    request: Request,
    farm: AFarm,
    who: Submitter,
    raw: Raw,
    body: AssetBody | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Announce bytes: send them as `upload` says, then call `complete`. `upload` is null where they are here."""
    asked = body or AssetBody()
    if asked.size_bytes is not None and asked.size_bytes > farm.limits.max_bytes:
        raise errors.ApiProblem("asset_too_large", f"at most {farm.limits.max_bytes} bytes")

    def make(session: Session) -> Answer:
        asset = assets.create(session, who.tenant_id, asked.filename, asked.content_type)
        # Only the tenant's own bytes are found: a hash is no proof of having them.
        here = stored.blob_of(session, who.tenant_id, asked.sha256) if asked.sha256 is not None else None
        if here is None:
            tenants.check_quotas(session, who.tenant_id, stored_bytes=asked.size_bytes or 1)
        elif media.rely(session, here.key):
            asset = assets.complete(session, who.tenant_id, asset.id, here, actor=who.actor)
        upload = _upload(farm, request, asset, asked) if asset.status is AssetStatus.PENDING else None
        body = AssetAnswer.of(asset, upload).json_dict()
        return Answer(201, body, {"Location": f"/v1/assets/{asset.id}"})

    return create_once(farm, who, request, raw, idempotency_key, make)


def _upload(farm: Farm, request: Request, asset: Asset, asked: AssetBody) -> UploadAnswer:
    direct = farm.store.presign_put(keys.upload(asset.id), asked.size_bytes, asked.content_type)
    if direct is not None:
        return UploadAnswer(method=direct.method, url=direct.url, headers=direct.headers)
    base = (farm.public_url or str(request.base_url)).rstrip("/")
    return UploadAnswer(method="PUT", url=f"{base}/v1/assets/{asset.id}/bytes", headers={})


@router.get("", response_model=PageAnswer[AssetAnswer])
def list_assets(farm: AFarm, who: Reader, page: APage) -> PageAnswer[AssetAnswer]:
    """Your assets, newest first."""
    with farm.transaction() as session:
        found = stored.page(session, who.tenant_id, cursor=page.cursor, page_size=page.page_size)
    return PageAnswer(data=[AssetAnswer.of(asset) for asset in found.items], next_cursor=found.next_cursor)


@router.get("/{asset_id}", response_model=AssetAnswer)
def get_asset(farm: AFarm, who: Reader, asset_id: AssetId) -> AssetAnswer:
    with farm.transaction() as session:
        return AssetAnswer.of(_asset(session, who, asset_id))


@router.delete("/{asset_id}", status_code=202, response_model=AssetAnswer)
def delete_asset(farm: AFarm, who: Submitter, asset_id: AssetId) -> AssetAnswer:
    """Erase its bytes for good, but for where another of your assets or jobs has the same ones. Repeatable."""
    with farm.transaction() as session:
        return AssetAnswer.of(assets.delete(session, who.tenant_id, asset_id, actor=who.actor))


@router.put(
    "/{asset_id}/bytes",
    status_code=204,
    response_class=Response,
    openapi_extra={
        "requestBody": {
            "required": False,  # no bytes are bytes too, until `complete` says asset_empty
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
def put_bytes(request: Request, farm: AFarm, who: Submitter, asset_id: AssetId) -> Response:
    """The bytes of an asset, where the store is a local folder. Written through to disk as they come."""
    with farm.transaction() as session:
        asset = _asset(session, who, asset_id)
    if asset.status is not AssetStatus.PENDING:
        raise errors.ApiProblem("asset_already_complete", f"{asset_id} has its bytes")
    length = request.headers.get("content-length", "")
    too_large = errors.ApiProblem(
        "asset_too_large", f"at most {farm.limits.max_bytes} bytes", headers={"Connection": "close"}
    )
    if length.isdigit() and int(length) > farm.limits.max_bytes:
        raise too_large
    try:
        farm.store.put_stream(_arriving(request), keys.upload(asset_id), max_bytes=farm.limits.max_bytes)
    except Rejected as error:
        if error.code == "too_large":
            raise too_large from error
        raise
    return Response(status_code=204)


def _arriving(request: Request) -> Iterator[bytes]:
    """The body as it comes; read on the event loop, one part at a time, for the thread that writes it."""
    stream = request.stream()

    async def next_part() -> bytes | None:
        return await anext(stream, None)

    while (part := anyio.from_thread.run(next_part)) is not None:
        if part:
            yield part


def _taken_in(farm: Farm, who: Principal, asset_id: str) -> Blob:
    def reserve(key: str) -> None:
        with farm.transaction() as session:
            media.reserve(session, key)

    try:
        return assets.take_in(farm.store, asset_id, farm.limits.max_bytes, reserve)
    except Rejected as error:
        # Another request may have taken the bytes in while this one looked for them.
        with farm.transaction() as session:
            asset = _asset(session, who, asset_id)
        if error.code != "asset_bytes_missing" or asset.blob is None:
            raise
        return asset.blob


@router.post("/{asset_id}/complete", response_model=AssetAnswer)
def complete_asset(farm: AFarm, who: Submitter, asset_id: AssetId, body: CompleteBody | None = None) -> AssetAnswer:
    """Say that the bytes are sent: they are hashed and kept. Repeatable."""
    with farm.transaction() as session:
        asset = _asset(session, who, asset_id)
    blob = asset.blob or _taken_in(farm, who, asset_id)
    if body is not None and body.sha256 not in (None, blob.sha256):
        raise errors.ApiProblem("asset_sha256_mismatch", f"the bytes that arrived have SHA-256 {blob.sha256}")
    with farm.transaction() as session:
        return AssetAnswer.of(assets.complete(session, who.tenant_id, asset_id, blob, actor=who.actor))
