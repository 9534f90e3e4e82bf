"""Uploads: an asset is made, its bytes land under `keys.upload(asset_id)`, and it is completed.

The order for callers: create (transaction) -> client PUTs the bytes -> take_in (no transaction: reads the bytes) ->
complete (transaction).
"""

from __future__ import annotations

from farm.db.session import Session
from farm.domain.asset import Asset
from farm.domain.order import Blob
from farm.storage.blobs import BlobStore


def create(session: Session, tenant_id: str, filename: str | None = None, content_type: str | None = None) -> Asset:
    """A pending asset: its bytes go to `keys.upload(asset.id)`."""
    raise NotImplementedError


def take_in(store: BlobStore, asset_id: str, max_bytes: int) -> Blob:
    """Hash the uploaded bytes and move them to `keys.input(sha256)`. Repeatable.

    Rejected: asset_bytes_missing, asset_empty, asset_too_large.
    """
    raise NotImplementedError


def complete(session: Session, tenant_id: str, asset_id: str, blob: Blob) -> Asset:
    """Mark the asset ready. Repeatable with the same bytes; Rejected("asset_already_complete") with others,
    Rejected("not_found")."""
    raise NotImplementedError
