"""Uploads: an asset is made, its bytes land under `keys.upload(asset_id)`, and it is completed.

The order for callers: create (transaction) -> client PUTs the bytes -> take_in (no transaction: reads the bytes) ->
complete (transaction).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from farm.db import assets, media
from farm.db.session import Session
from farm.domain.asset import Asset, AssetStatus
from farm.domain.audit import Action
from farm.domain.ids import new_id
from farm.domain.order import Blob
from farm.domain.tenant import FARM, Actor
from farm.errors import Rejected
from farm.flow import audit, tenants
from farm.storage import keys
from farm.storage.blobs import BlobStore, Missing


def create(session: Session, tenant_id: str, filename: str | None = None, content_type: str | None = None) -> Asset:
    """A pending asset: its bytes go to `keys.upload(asset.id)`."""
    asset_id = new_id("ast")
    assets.add(session, asset_id, tenant_id, filename, content_type)
    return _get(session, tenant_id, asset_id)


def take_in(store: BlobStore, asset_id: str, max_bytes: int, reserve: Callable[[str], None]) -> Blob:
    """Hash the uploaded bytes and move them to `keys.input(sha256)`; `reserve` (farm.db.media) is called with that key
    before.

    Rejected: asset_bytes_missing (also once they were moved), asset_empty, asset_too_large.
    """
    upload, settled = keys.upload(asset_id), keys.upload_settled(asset_id, secrets.token_hex(8))
    try:
        size = store.stat(upload).size_bytes
        if size == 0:
            raise Rejected("asset_empty", "the uploaded file has no bytes")
        if size > max_bytes:
            raise Rejected("asset_too_large", f"the uploaded file has {size} bytes; the limit is {max_bytes}")
        # A copy that the client has no url for: bytes changed after they were hashed would poison the address.
        store.copy(upload, settled)
    except Missing:
        raise Rejected("asset_bytes_missing", "no bytes were uploaded for this asset") from None
    try:
        blob = store.digest(settled)
        if not 0 < blob.size_bytes <= max_bytes:
            raise Rejected(
                "asset_too_large", f"the uploaded file has {blob.size_bytes} bytes; the limit is {max_bytes}"
            )
        key = keys.input(blob.sha256)
        reserve(key)
        store.copy(settled, key)
    finally:
        store.delete(settled)
    store.delete(upload)
    return Blob(key, blob.size_bytes, blob.sha256)


def complete(session: Session, tenant_id: str, asset_id: str, blob: Blob, *, actor: Actor = FARM) -> Asset:
    """Mark the asset ready. Repeatable with the same bytes; Rejected("asset_already_complete") with others,
    Rejected("not_found", "asset_expired", "asset_bytes_missing", "quota_exceeded").

    Bytes that the tenant has uploaded before are kept once: the key is made of their hash.
    """
    asset = _get(session, tenant_id, asset_id, lock=True)
    if asset.status is AssetStatus.READY:
        if asset.blob != blob:
            raise Rejected("asset_already_complete", "this asset was completed with other bytes")
        return asset
    if asset.status is AssetStatus.EXPIRED:
        raise Rejected("asset_expired", "this asset was not completed in time; make another")
    if not media.rely(session, blob.key):
        raise Rejected("asset_bytes_missing", "the bytes were swept away meanwhile; send them again")
    if assets.blob_of(session, tenant_id, blob.sha256) is None:
        tenants.check_quotas(session, tenant_id, stored_bytes=blob.size_bytes)
    assets.set_ready(session, asset_id, blob)
    detail = {"size_bytes": blob.size_bytes, "sha256": blob.sha256}
    audit.record(session, actor, Action.ASSET_COMPLETED, asset_id, detail, tenant_id=tenant_id)
    return _get(session, tenant_id, asset_id)


def delete(session: Session, tenant_id: str, asset_id: str, *, actor: Actor = FARM) -> Asset:
    """Erase an asset's bytes, but for where another asset or job has them too. Repeatable.
    Rejected("not_found", "asset_in_use") (a job that has not ended needs it)."""
    asset = _get(session, tenant_id, asset_id, lock=True)
    if asset.status is not AssetStatus.EXPIRED:
        if media.is_asset_needed(session, asset_id):
            raise Rejected("asset_in_use", "a job that has not ended needs this asset")
        media.expire(session, [asset_id])
        audit.record(session, actor, Action.ASSET_DELETED, asset_id, tenant_id=tenant_id)
    return _get(session, tenant_id, asset_id)


def _get(session: Session, tenant_id: str, asset_id: str, *, lock: bool = False) -> Asset:
    asset = assets.get(session, tenant_id, asset_id, lock=lock)
    if asset is None:
        raise Rejected("not_found", f"there is no asset {asset_id}")
    return asset
