"""A plain Celery task that does nothing, on a worker like the farm's own: what a message alone costs."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

from celery import Celery

from farm.queue import celery_app

_QUEUE = "noop"


def _app(broker_url: str, done: Any) -> Celery:
    app = celery_app(broker_url)

    @app.task(name="benchmarks.noop")
    def noop() -> None:
        with done.get_lock():
            done.value += 1

    return app


def _consume(broker_url: str, done: Any) -> None:
    arguments = ["--quiet", "worker", "--pool=threads", "--concurrency=1", f"--queues={_QUEUE}", "--loglevel=ERROR"]
    _app(broker_url, done).worker_main([*arguments, "--without-gossip", "--without-mingle"])


def noops_per_s(broker_url: str, count: int) -> float:
    """Messages a second from first to last, sending apart."""
    context = multiprocessing.get_context("spawn")
    done = context.Value("i", 0)
    app = _app(broker_url, done)
    for _ in range(count):
        app.send_task("benchmarks.noop", queue=_QUEUE, ignore_result=True)
    worker = context.Process(target=_consume, args=(broker_url, done), daemon=True)
    worker.start()
    try:
        started = None
        while done.value < count:
            if started is None and done.value:
                started = time.perf_counter(), done.value
            time.sleep(0.005)
        assert started is not None
        return (count - started[1]) / (time.perf_counter() - started[0])
    finally:
        worker.terminate()
        worker.join()
