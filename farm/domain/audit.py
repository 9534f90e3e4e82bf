"""What the audit log can say: who did what to which thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from farm.domain.tenant import Actor


class Action(StrEnum):
    KEY_CREATED = "key.created"
    KEY_REVOKED = "key.revoked"
    BATCH_SUBMITTED = "batch.submitted"
    BATCH_CANCELED = "batch.canceled"
    BATCH_PAUSED = "batch.paused"
    BATCH_RESUMED = "batch.resumed"
    BATCH_RETRIED = "batch.retried"
    BATCH_PRIORITY = "batch.priority_changed"
    JOB_CANCELED = "job.canceled"
    JOB_RETRIED = "job.retried"
    JOB_PRIORITY = "job.priority_changed"
    BATCH_DELETED = "batch.deleted"
    JOB_DELETED = "job.deleted"
    CONSENT_GIVEN = "training_consent.given"
    CONSENT_WITHDRAWN = "training_consent.withdrawn"
    ASSET_COMPLETED = "asset.completed"
    ASSET_DELETED = "asset.deleted"
    VERSION_REGISTERED = "version.registered"
    VERSION_EVALUATED = "version.evaluated"
    VERSION_UNUSABLE = "version.unusable"
    GATE_CHANGED = "model.gate_changed"
    CANARY_RULES_CHANGED = "model.canary_rules_changed"
    ALIAS_STAGED = "alias.staged"
    ALIAS_PROMOTED = "alias.promoted"
    ALIAS_ROLLED_BACK = "alias.rolled_back"
    CANARY_SHARED = "alias.share_changed"
    CANARY_STOPPED = "alias.canary_stopped"
    WORKER_DRAINED = "worker.drained"
    WORKER_RESUMED = "worker.resumed"
    WORKER_QUARANTINED = "worker.quarantined"
    WEBHOOK_CREATED = "webhook_endpoint.created"
    WEBHOOK_CHANGED = "webhook_endpoint.changed"
    WEBHOOK_DELETED = "webhook_endpoint.deleted"
    WEBHOOK_ROTATED = "webhook_endpoint.secret_rotated"
    WEBHOOK_REPLAYED = "webhook_endpoint.replayed"
    WEBHOOK_DISABLED = "webhook_endpoint.disabled"
    TENANT_CREATED = "tenant.created"
    TENANT_CHANGED = "tenant.changed"
    RUN_CREATED = "training_run.created"
    RUN_CANCELED = "training_run.canceled"
    RUN_RESUMED = "training_run.resumed"
    SCHEDULE_SET = "training_schedule.set"
    SCHEDULE_DELETED = "training_schedule.deleted"
    SCHEDULE_RUN_NOW = "training_schedule.run_now"


SHARED: Final = frozenset(
    {
        Action.VERSION_REGISTERED,
        Action.VERSION_EVALUATED,
        Action.VERSION_UNUSABLE,
        Action.GATE_CHANGED,
        Action.CANARY_RULES_CHANGED,
        Action.ALIAS_STAGED,
        Action.ALIAS_PROMOTED,
        Action.ALIAS_ROLLED_BACK,
        Action.CANARY_SHARED,
        Action.CANARY_STOPPED,
        Action.WORKER_DRAINED,
        Action.WORKER_RESUMED,
        Action.WORKER_QUARANTINED,
        Action.RUN_CREATED,
        Action.RUN_CANCELED,
        Action.RUN_RESUMED,
        Action.SCHEDULE_SET,
        Action.SCHEDULE_DELETED,
        Action.SCHEDULE_RUN_NOW,
    }
)
"""What is done to things that every tenant uses: the admins of the tenant that runs the farm read of it."""


@dataclass(frozen=True)
class AuditEntry:
    """`subject`: the id of what was acted on, or model/alias. `actor.key_id` is None for the farm itself, and where a
    shared thing was changed by another tenant."""

    id: int
    at: datetime
    actor: Actor
    action: str
    subject: str
    detail: Mapping[str, object]
