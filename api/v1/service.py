"""Whether the service lives, whether it can work, and its numbers."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from starlette.responses import JSONResponse, PlainTextResponse, Response

from api.deps import AFarm
from farm.db import census, workers
from farm.errors import Transient
from farm.storage.blobs import Missing

router = APIRouter(tags=["service"])

_PROBE_KEY = "readyz"


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "Something is away; the answer says what."}})
def readyz(farm: AFarm) -> Response:
    """Database, storage and broker answer. Without the broker work still starts, at the control worker's tick."""

    def storage() -> None:
        try:
            farm.store.stat(_PROBE_KEY)
        except Missing:
            return

    checks: dict[str, Callable[[], None]] = {
        "database": farm.database.ping,
        "storage": storage,
        "broker": farm.broker_check,
    }
    found: dict[str, str] = {}
    for name, check in checks.items():
        try:
            check()
            found[name] = "ok"
        except Transient as error:
            found[name] = error.code
    ready = all(state == "ok" for state in found.values()) and not farm.stopping.is_set()
    return JSONResponse({"status": "ok" if ready else "unavailable", "checks": found}, 200 if ready else 503)


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(farm: AFarm) -> PlainTextResponse:
    """Prometheus text format 0.0.4: totals over all tenants, no names."""
    with farm.transaction() as session:
        queues = workers.queues(session)
        fleet = workers.listed(session)
        jobs_by_status = census.jobs_by_status(session)
        chunks_by_status = census.chunks_by_status(session)
    lines: list[str] = []

    def gauge(name: str, text: str, rows: list[tuple[str, float]]) -> None:
        lines.extend((f"# HELP {name} {text}", f"# TYPE {name} gauge"))
        lines.extend(f"{name}{labels} {value:g}" for labels, value in rows)

    gauge(
        "dubfarm_queue_chunks",
        "Chunks in a queue by state.",
        [
            (f'{{queue="{q.queue}",state="{state}"}}', count)
            for q in queues
            for state, count in (("waiting", q.waiting), ("delayed", q.delayed), ("held", q.held), ("leased", q.leased))
        ],
    )
    gauge(
        "dubfarm_queue_oldest_waiting_seconds",
        "Age of the oldest chunk that could start.",
        [(f'{{queue="{q.queue}"}}', q.oldest_waiting_s or 0.0) for q in queues],
    )
    gauge("dubfarm_jobs", "Jobs by status.", [(f'{{status="{s}"}}', n) for s, n in jobs_by_status.items()])
    gauge("dubfarm_chunks", "Chunks by status.", [(f'{{status="{s}"}}', n) for s, n in chunks_by_status.items()])
    states = {"alive": 0, "lost": 0, "draining": 0, "quarantined": 0}
    for worker in fleet:
        states["alive" if worker.alive else "lost"] += 1
        states["draining"] += worker.draining
        states["quarantined"] += worker.quarantined_until is not None
    gauge("dubfarm_workers", "Workers by state.", [(f'{{state="{s}"}}', n) for s, n in states.items()])
    gauge(
        "dubfarm_frames_per_second",
        "Frames rendered a second, all living workers together.",
        [("", sum(worker.frames_per_s for worker in fleet if worker.alive and worker.chunk_id))],
    )
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")
