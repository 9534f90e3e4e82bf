"""What a scrape of /metrics holds (docs/observability.md): totals over all tenants, no names."""

from __future__ import annotations

from collections.abc import Mapping

from farm.db import metrics, outbox, runs, workers
from farm.db.session import Session
from farm.domain.chunk import Reason
from farm.domain.measure import Histogram, Page


def of_the_farm(session: Session, page: Page) -> None:
    """The farm's own numbers: a few rows, however many chunks there are."""
    _queues(session, page)
    _fleet(session, page)
    _totals(session, page)
    _training(session, page)
    webhooks = outbox.lag(session)
    page.gauge("webhooks_pending", "Webhook messages to be delivered, up to 100,000.", [({}, webhooks["pending"])])
    page.gauge(
        "webhooks_overdue_seconds", "How long the oldest due webhook message waits.", [({}, webhooks["overdue_s"])]
    )
    stored = metrics.storage(session)
    page.gauge(
        "storage_bytes",
        "Bytes of ready assets and of kept outputs, sampled once a minute.",
        [({"kind": kind}, size) for kind, size in stored.items()],
    )


def _queues(session: Session, page: Page) -> None:
    queues = workers.queues(session)
    page.gauge(
        "queue_chunks",
        "Chunks in a queue by state, each counted up to 100,000.",
        [
            ({"queue": q.queue, "state": state}, count)
            for q in queues
            for state, count in (("waiting", q.waiting), ("delayed", q.delayed), ("held", q.held), ("leased", q.leased))
        ],
    )
    page.gauge(
        "queue_oldest_waiting_seconds",
        "Age of the oldest chunk that could start.",
        [({"queue": q.queue}, q.oldest_waiting_s or 0.0) for q in queues],
    )


def _fleet(session: Session, page: Page) -> None:
    fleet = workers.listed(session)
    states = {"alive": 0, "busy": 0, "lost": 0, "draining": 0, "quarantined": 0}
    for worker in fleet:
        states["alive" if worker.alive else "lost"] += 1
        states["busy"] += worker.chunk_id is not None
        states["draining"] += worker.draining
        states["quarantined"] += worker.quarantined_until is not None
    page.gauge("workers", "Workers by state.", [({"state": state}, count) for state, count in states.items()])
    page.gauge(
        "frames_per_second",
        "Frames rendered a second, all living workers together.",
        [({}, sum(worker.frames_per_s for worker in fleet if worker.alive and worker.chunk_id))],
    )


def _training(session: Session, page: Page) -> None:
    counts = runs.counts(session)
    page.gauge("training_runs", "Training runs by status.", [({"status": s}, n) for s, n in counts.items()])
    going = runs.going(session)
    for name, about, values in (
        (
            "training_progress",
            "Share of the stage that is done.",
            [({"run": g.id, "stage": g.standing.stage or ""}, g.done) for g in going],
        ),
        (
            "training_samples_per_second",
            "Samples trained on a second.",
            [({"run": g.id}, g.standing.samples_per_s or 0.0) for g in going],
        ),
        (
            "training_goodput",
            "Share of a run's time that went into steps that count.",
            [({"run": g.id}, g.standing.goodput or 0.0) for g in going],
        ),
        (
            "training_seconds_since_progress",
            "Since a step was last done.",
            [({"run": g.id}, g.since_progress_s) for g in going],
        ),
    ):
        page.gauge(name, about, values)
    hours, attempts = runs.spent(session)
    page.counter("training_gpu_hours_total", "GPU-hours of training attempts that ended.", [({}, hours)])
    page.counter("training_attempts_total", "Training attempts that ended.", [({}, attempts)])


def _totals(session: Session, page: Page) -> None:
    totals, behind_s = metrics.totals(session)
    page.gauge(
        "jobs_open", "Jobs that have not ended.", [({"state": s}, n) for s, n in metrics.open_jobs(session).items()]
    )
    page.counter("jobs_ended_total", "Jobs that ended.", [({"status": s}, n) for s, n in totals.jobs.items()])
    page.histogram("job_seconds", "From the submission of a job to its end.", [({}, totals.job_seconds)])
    page.counter(
        "attempts_total",
        "Attempts at chunks that ended.",
        [({"work": w, "outcome": o, "reason": r}, n) for (w, o, r), n in totals.attempts.items()],
    )
    page.counter(
        "media_readers_lost_total",
        "Attempts whose process that reads media ended before its answer.",
        [({"code": code}, count) for code, count in totals.readers.items()],
    )
    lost = sum(count for (_, _, reason), count in totals.attempts.items() if reason == Reason.WORKER_LOST)
    page.counter("leases_lost_total", "Leases that ran out.", [({}, lost)])
    page.histogram(
        "attempt_seconds", "From the claim of a chunk to the end of the attempt.", _by_work(totals.attempt_seconds)
    )
    page.histogram(
        "claim_wait_seconds", "From when a chunk could start to its first claim.", _by_work(totals.wait_seconds)
    )
    page.counter(
        "stage_seconds_total",
        "Busy seconds of a chunk's stages; stages run side by side.",
        [({"work": w, "stage": s}, n) for (w, s), n in totals.stage_seconds.items()],
    )
    page.counter("frames_rendered_total", "Frames of chunks that succeeded.", [({}, totals.frames)])
    page.gauge("metrics_behind_seconds", "How old the counters above are.", [({}, behind_s)])


def _by_work(histograms: Mapping[str, Histogram]) -> list[tuple[dict[str, str], Histogram]]:
    return [({"work": work}, value) for work, value in histograms.items()]
