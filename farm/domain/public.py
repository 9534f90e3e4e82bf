"""What the outside sees of batches and jobs: plain values, alike in API answers and webhooks (docs/api.md)."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from farm.domain.batch import Rights
from farm.domain.media import AudioFacts, MediaFacts, VideoFacts
from farm.domain.order import Output, PlanRecord
from farm.domain.run import AttemptView, Dataset, RunView
from farm.domain.views import BatchView, JobView


def batch(view: BatchView) -> dict[str, Any]:
    c = view.counts
    return {
        "id": view.id,
        "status": view.status.value,
        "name": view.name,
        "priority": view.priority,
        "model": view.model,
        "model_version": view.version_id,
        "metadata": dict(view.metadata),
        "asked_by": view.asked_by,
        "deadline": view.deadline,
        "counts": {
            "total": c.total,
            "queued": c.queued,
            "running": c.running,
            "succeeded": c.succeeded,
            "failed": c.failed,
            "canceled": c.canceled,
        },
        "progress": view.progress,
        "eta": view.eta,
        "created_at": view.created_at,
        "updated_at": view.updated_at,
        "started_at": view.started_at,
        "finished_at": view.finished_at,
    }


def job(view: JobView) -> dict[str, Any]:
    return {
        "id": view.id,
        "batch_id": view.batch_id,
        "custom_id": view.custom_id,
        "kind": view.kind.value,
        "status": view.status.value,
        "status_reason": view.status_reason,
        "phase": view.phase.value if view.phase else None,
        "priority": view.priority,
        "sync_mode": view.spec.sync_mode.value,
        "progress": {"frames_done": view.frames_done, "frames_total": view.frames_total},
        "eta": view.eta,
        "waiting_reason": view.waiting_reason,
        "model_version": view.version_id,
        "cohort": view.cohort,
        "media": _media(view.plan) if view.plan else None,
        "scores": dict(view.scores),
        "flags": list(view.flags),
        "error": error(view.error_code, view.error_detail),
        "output": output(view.output, view.output_erased_at),
        "rights": rights(view.rights),
        "deleted_at": view.deleted_at,
        "created_at": view.created_at,
        "updated_at": view.updated_at,
        "started_at": view.started_at,
        "finished_at": view.finished_at,
    }


def error(code: str | None, detail: str | None) -> dict[str, str] | None:
    return {"code": code, "detail": detail or ""} if code else None


def rights(given: Rights | None) -> dict[str, Any] | None:
    if given is None:
        return None
    return {"basis": given.basis, "statement": given.statement, "reference": given.reference}


def output(made: Output | None, expired_at: datetime | None) -> dict[str, Any] | None:
    if made is None:
        return None
    return {
        "uri": made.uri,
        "sha256": made.blob.sha256,
        "size_bytes": made.blob.size_bytes,
        "frames": made.frames,
        "duration_s": made.duration_s,
        "expired_at": expired_at,
    }


def _media(plan: PlanRecord) -> dict[str, Any]:
    return {"source": _file(plan.source_facts), "voice": _file(plan.voice_facts), "faces_found": plan.faces_found}


def _file(facts: MediaFacts) -> dict[str, Any]:
    return {
        "container": facts.container,
        "size_bytes": facts.size_bytes,
        "video": _video(facts.video) if facts.video else None,
        "audio": _audio(facts.audio) if facts.audio else None,
    }


def _video(facts: VideoFacts) -> dict[str, Any]:
    return {
        "codec": facts.codec,
        "width": facts.width,
        "height": facts.height,
        "rotation": facts.rotation,
        "sample_aspect": _fraction(facts.sample_aspect),
        "frame_rate": _fraction(facts.frame_rate),
        "frames": facts.frames,
        "duration_s": float(facts.duration_s),
        "is_vfr": facts.is_vfr,
        "pixel_format": facts.pixel_format,
        "bit_depth": facts.bit_depth,
        "full_range": facts.full_range,
        "color_space": facts.color_space,
    }


def _audio(facts: AudioFacts) -> dict[str, Any]:
    return {
        "codec": facts.codec,
        "sample_rate_hz": facts.sample_rate_hz,
        "channels": facts.channels,
        "layout": facts.layout,
        "duration_s": float(facts.duration_s),
    }


def _fraction(value: Fraction) -> str:
    return f"{value.numerator}/{value.denominator}"


def in_json(value: Any) -> Any:
    """The same with times as RFC 3339 in UTC, as `json.dumps` takes it."""
    if isinstance(value, dict):
        return {key: in_json(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [in_json(part) for part in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value


def run(view: RunView) -> dict[str, Any]:
    """A training run, as the API answers it and as webhooks tell it."""
    standing, spec = view.standing, view.spec
    return {
        "id": view.id,
        "status": view.status.value,
        "status_reason": view.status_reason,
        "recipe": spec.recipe,
        "dataset": dataset(spec.dataset),
        "overrides": dict(spec.overrides),
        "resume_from": spec.resume_from,
        "scaling": {"workers": spec.scaling.workers, "use_gpu": spec.scaling.use_gpu},
        "on_success": spec.on_success.value,
        "priority": spec.priority,
        "preempt": spec.preempt,
        "schedule": view.schedule,
        "fired_for": view.fired_for,
        "stage": standing.stage,
        "stage_number": standing.stage_number,
        "stages": standing.stages,
        "step": standing.step,
        "steps": standing.steps,
        "samples_per_s": standing.samples_per_s,
        "eta_s": standing.eta_s,
        "losses": dict(standing.losses),
        "goodput": standing.goodput,
        "gpu_hours": view.gpu_hours,
        "yielding": view.yielding,
        "waiting_reason": view.waiting_reason,
        "alerts": list(view.alerts),
        "attempts": view.attempts_total,
        "attempt": attempt(view.attempts[-1]) if view.attempts else None,
        "error": {"code": view.error.code, "detail": view.error.detail} if view.error is not None else None,
        "model_version": view.version_id,
        "asked_by": view.asked_by,
        "created_at": view.created_at,
        "updated_at": view.updated_at,
        "started_at": view.started_at,
        "progress_at": view.progress_at,
        "finished_at": view.finished_at,
    }


def dataset(given: Dataset) -> str | dict[str, Any]:
    if given.uri is None:
        return "puppets"
    return {"uri": given.uri, "manifest_sha256": given.manifest_sha256}


def attempt(view: AttemptView) -> dict[str, Any]:
    return {
        "number": view.number,
        "submission_id": view.submission_id,
        "host": view.host,
        "outcome": view.outcome.value,
        "reason": view.reason,
        "stage": view.stage,
        "step": view.step,
        "gpu_hours": view.gpu_hours,
        "started_at": view.started_at,
        "finished_at": view.finished_at,
    }
