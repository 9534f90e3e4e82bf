"""The tables. Only farm.db reads or writes them; everybody else sees nouns of farm.domain.

What is copied downwards, and why: a chunk carries what a claim sorts and filters by (queue, priority, job_number,
held), so that handing out one of a million waiting chunks reads one index entry and joins nothing.
"""

from farm.db.rows.base import Row
from farm.db.rows.chunks import AttemptRow, ChunkRow, MetricRow, ShareRow
from farm.db.rows.conditions import has_failed, has_succeeded, is_held, is_leased, is_ready, is_waiting
from farm.db.rows.fleet import WorkerRow
from farm.db.rows.jobs import BatchRow, EventRow, JobRow
from farm.db.rows.media import AssetRow, ConsentRow, InputRow, MediaUseRow
from farm.db.rows.models import AliasMoveRow, AliasRow, ModelRow, StagingRow, VersionRow
from farm.db.rows.tenants import ApiKeyRow, AuditRow, IdempotencyRow, TenantRow
from farm.db.rows.training import FiringRow, RunAttemptRow, RunEventRow, RunPointRow, RunRow, ScheduleRow
from farm.db.rows.webhooks import WebhookDeliveryRow, WebhookEndpointRow, WebhookEventRow, WebhookTryRow

__all__ = [
    "AliasMoveRow",
    "AliasRow",
    "ApiKeyRow",
    "AssetRow",
    "AttemptRow",
    "AuditRow",
    "BatchRow",
    "ChunkRow",
    "ConsentRow",
    "EventRow",
    "FiringRow",
    "IdempotencyRow",
    "InputRow",
    "JobRow",
    "MediaUseRow",
    "MetricRow",
    "ModelRow",
    "Row",
    "RunAttemptRow",
    "RunEventRow",
    "RunPointRow",
    "RunRow",
    "ScheduleRow",
    "ShareRow",
    "StagingRow",
    "TenantRow",
    "VersionRow",
    "WebhookDeliveryRow",
    "WebhookEndpointRow",
    "WebhookEventRow",
    "WebhookTryRow",
    "WorkerRow",
    "has_failed",
    "has_succeeded",
    "is_held",
    "is_leased",
    "is_ready",
    "is_waiting",
]
