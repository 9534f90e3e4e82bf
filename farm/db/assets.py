"""Assets as their tenant reads them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import Text, any_, insert, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from farm.db import cursor as cursors
from farm.db.rows import AssetRow, is_ready
from farm.db.session import Session
from farm.domain.asset import Asset, AssetStatus
from farm.domain.order import Blob
from farm.domain.views import Page


def get(session: Session, tenant_id: str, asset_id: str, *, lock: bool = False) -> Asset | None:
    query = select(AssetRow).where(AssetRow.tenant_id == tenant_id, AssetRow.id == asset_id)
    if lock:
        query = query.with_for_update()
    row = session.scalar(query.execution_options(populate_existing=True))
    return None if row is None else _asset(row)


def page(session: Session, tenant_id: str, *, cursor: str | None = None, page_size: int = 100) -> Page[Asset]:
    """Newest first."""
    query = select(AssetRow).where(AssetRow.tenant_id == tenant_id).order_by(AssetRow.id.desc())
    if cursor is not None:
        query = query.where(AssetRow.id < str(cursors.decode("assets", cursor)))
    rows = session.scalars(query.limit(cursors.limit(page_size)).execution_options(populate_existing=True))
    return cursors.page([_asset(row) for row in rows], page_size, "assets", lambda asset: asset.id)


def add(session: Session, asset_id: str, tenant_id: str, filename: str | None, content_type: str | None) -> None:
    values = {"filename": filename, "content_type": content_type, "status": AssetStatus.PENDING}
    session.execute(insert(AssetRow).values(id=asset_id, tenant_id=tenant_id, **values))


def set_ready(session: Session, asset_id: str, blob: Blob) -> None:
    session.execute(
        update(AssetRow)
        .where(AssetRow.id == asset_id)
        .values(status=AssetStatus.READY, blob_key=blob.key, size_bytes=blob.size_bytes, sha256=blob.sha256)
    )


def blob_of(session: Session, tenant_id: str, sha256: str) -> Blob | None:
    """The tenant's stored bytes with this hash, if any asset of theirs has them."""
    query = (
        select(AssetRow.blob_key, AssetRow.size_bytes, AssetRow.sha256)
        .where(AssetRow.tenant_id == tenant_id, AssetRow.sha256 == sha256, is_ready)
        .limit(1)
    )
    row = session.execute(query).one_or_none()
    return None if row is None else Blob(*row)


def _asset(row: AssetRow) -> Asset:
    ready = row.blob_key is not None and row.size_bytes is not None and row.sha256 is not None
    return Asset(
        id=row.id,
        tenant_id=row.tenant_id,
        status=AssetStatus(row.status),
        filename=row.filename,
        content_type=row.content_type,
        blob=Blob(row.blob_key, row.size_bytes, row.sha256) if ready else None,  # pyright: ignore[reportArgumentType]
        created_at=row.created_at,
    )


def statuses(
    session: Session, tenant_id: str, ids: Collection[str], *, hold: bool = False
) -> Mapping[str, AssetStatus]:
    """Of those of the ids that are the tenant's. hold: none of them expires until the transaction ends."""
    query = select(AssetRow.id, AssetRow.status).where(
        AssetRow.tenant_id == tenant_id, AssetRow.id == any_(literal(list(ids), ARRAY(Text)))
    )
    if hold:
        query = query.order_by(AssetRow.id).with_for_update(read=True, key_share=True)
    return {row.id: AssetStatus(row.status) for row in session.execute(query)}
