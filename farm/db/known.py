"""What earlier plans found out about a tenant's assets: nobody opens them again to guess at a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import text

from farm.db.session import Session
from farm.domain.document import from_document
from farm.domain.media import MediaFacts


@dataclass(frozen=True)
class Known:
    """An asset of an earlier job of the same kind. facts: of that job's picture; frames: of its output."""

    facts: MediaFacts
    frames: int


def leading(session: Session, tenant_id: str, kind: str, role: str, asset_ids: Sequence[str]) -> Mapping[str, Known]:
    """By asset: an earlier job of the tenant that had its bytes as `role` ("source" or "voice")."""
    # Laterally, so that a video that ten thousand jobs used is looked up once.
    query = text(
        "SELECT a.id, j.source_facts, j.frames_total FROM assets a CROSS JOIN LATERAL ("
        "  SELECT j.plan -> 'source_facts' AS source_facts, j.frames_total FROM media_uses u"
        "  JOIN jobs j ON j.id = u.job_id WHERE u.media = a.blob_key AND j.tenant_id = :tenant AND j.kind = :kind"
        "  AND j.plan -> :role ->> 'key' = a.blob_key LIMIT 1) AS j"
        " WHERE a.tenant_id = :tenant AND a.id = ANY(:assets)"
    )
    sent = {"tenant": tenant_id, "kind": kind, "role": role, "assets": list(asset_ids)}
    return {id: Known(from_document(MediaFacts, facts), frames) for id, facts, frames in session.execute(query, sent)}
