"""Wiring: settings to a render worker or a control worker, run by Celery in this process."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import warnings
from dataclasses import fields
from datetime import timedelta
from typing import Any, Final

from celery import Celery, signals
from celery.beat import EmbeddedService
from celery.exceptions import SecurityWarning

from farm import log, machine, queue
from farm.db.session import Database, connect
from farm.domain.ids import new_id
from farm.domain.limits import InputLimits
from farm.domain.quality import OnBreach, QualityLimits
from farm.domain.retention import Retention
from farm.errors import Rejected
from farm.flow.workers import WorkerFacts
from farm.media import confine
from farm.settings import (
    FarmSettings,
    InputSettings,
    QualitySettings,
    RetentionSettings,
    TrainSettings,
    WebhookSettings,
    WorkerSettings,
)
from farm.storage.blobs import BlobStore, open_store
from workers import tasks
from workers.canary import Canary
from workers.engine import Engine, Limits
from workers.inputs import Inputs
from workers.janitor import Janitor
from workers.launcher import Launcher, can_train_here, environment_of, farm_id
from workers.launcher import Terms as TrainTerms
from workers.places import LocalPlace, Place, RayPlace, ray_token
from workers.plan import PLAN_DEADLINE
from workers.relay import Relay
from workers.studio_setup import Setup, studio
from workers.worker import Terms, Worker
from workers.workshop import Workshop

SHUTDOWN_S: Final = 30.0
"""After so long a soft shutdown is a hard one; so it is at a second signal."""
CONTROL_CANARY_S: Final = 60.0
KILLED: Final = 1
DEAF: Final = 70
"""Exit status of a process whose consumer had gone deaf."""


def input_limits(settings: InputSettings) -> InputLimits:
    return InputLimits(**{field.name: getattr(settings, field.name) for field in fields(InputLimits)})


def check_sandbox(settings: InputSettings) -> None:
    """Rejected("sandbox_missing") where the sandbox is required and this machine lacks a lock of it."""
    if settings.sandbox == "required" and (lacking := confine.missing()):
        detail = f"this machine has no {' and no '.join(lacking)}, and DUBFARM_INPUT_SANDBOX is required"
        raise Rejected("sandbox_missing", detail)


def memory_limit(settings: WorkerSettings) -> int:
    """The engine's limit of resident memory: the setting, or four fifths of the machine's or its container's."""
    return settings.memory_bytes or machine.memory_bytes() * 4 // 5


def render_worker(
    farm: FarmSettings, inputs: InputSettings, settings: WorkerSettings, quality: QualitySettings
) -> tuple[Celery, Worker]:
    """A worker with its engine started and its row written. Raises Failed when the device cannot be had, and
    Rejected("sandbox_missing")."""
    check_sandbox(inputs)
    engine = Engine(
        studio(
            Setup(
                settings.device,
                settings.threads,
                bundle_bytes=settings.bundle_bytes,
                codecs=settings.codecs,
                precision=settings.precision,
                finds_batch=settings.batch_frames == "auto",
            )
        ),
        Limits(stall_s=settings.stall_s, memory_bytes=memory_limit(settings)),
    )
    info = engine.start()
    store = open_store(farm.storage_url, farm.storage_endpoint_url)
    shop = Workshop(
        engine,
        store,
        Inputs(settings.cache_dir, store, settings.cache_bytes),
        input_limits(inputs),
        farm.storage_endpoint_url,
        None if settings.batch_frames == "auto" else settings.batch_frames,
        settings.chunk_s,
        settings.chunk_frames,
        settings.deadline_s,
        settings.keeps_frame_hashes,
        QualityLimits(**quality.model_dump(exclude={"on_breach"}), on_breach=OnBreach(quality.on_breach)),
        settings.deterministic,
    )
    facts = WorkerFacts(
        settings.id or new_id("wrk"),
        socket.gethostname(),
        str(info["device"]),
        settings.queues,
        {"pid": os.getpid(), **info},
    )
    app = queue.celery_app(farm.broker_url, task_limit_s=(PLAN_DEADLINE + 1) * settings.deadline_s)
    terms = Terms(settings.queues, settings.lease_s, settings.heartbeat_s)
    worker = Worker(
        facts, connect(farm.database_url), shop, terms, lambda name, count: queue.send_work(app, name, count)
    )
    worker.start()
    return app, worker


def run_render_worker(
    farm: FarmSettings, inputs: InputSettings, settings: WorkerSettings, quality: QualitySettings
) -> None:
    app, worker = render_worker(farm, inputs, settings, quality)
    stopping = threading.Event()

    def stop(**_: Any) -> None:
        if stopping.is_set():
            kill()
        stopping.set()
        worker.stop()
        overdue = threading.Timer(SHUTDOWN_S, kill)
        overdue.daemon = True
        overdue.start()

    def kill() -> None:
        worker.kill()
        os._exit(KILLED)

    def end_deaf() -> None:
        worker.stop()
        while worker.is_busy:
            time.sleep(0.1)
        worker.leave()
        os._exit(DEAF)

    def waiting() -> int:
        return queue.waiting(farm.broker_url, settings.queues)

    canary = Canary(waiting, lambda: worker.is_busy, settings.canary_s, end_deaf)
    tasks.add_work(app, worker, canary.heard)
    # Celery's warm shutdown waits for the running task, which this makes a short wait.
    signals.worker_shutting_down.connect(stop)
    signals.worker_ready.connect(lambda **_: canary.start(), weak=False)
    try:
        _consume(app, "render", settings.queues)
    finally:
        canary.stop()
        worker.leave()


def run_control_worker(farm: FarmSettings, webhooks: WebhookSettings, *, with_beat: bool) -> None:
    """The consumer of ticks, the sender of webhooks, and the sweep of media past their time; `with_beat` also sends the
    ticks, from a thread that keeps no schedule file."""
    app = queue.celery_app(farm.broker_url)

    def waiting() -> int:
        return queue.waiting(farm.broker_url, [queue.CONTROL_QUEUE])

    # A tick that hangs is as bad as none, so that nobody is ever busy here.
    canary = Canary(waiting, lambda: False, CONTROL_CANARY_S, lambda: os._exit(DEAF), expects_messages=with_beat)
    database = connect(farm.database_url)
    tasks.add_tick(app, database, canary.heard)
    relay = webhook_relay(database, webhooks)
    relay.start()
    kept = Retention(**RetentionSettings().model_dump())
    store = open_store(farm.storage_url, farm.storage_endpoint_url)
    janitor = Janitor(database, store, kept)
    janitor.start()
    launcher = training_launcher(farm, database, store, TrainSettings())
    tasks.add_train(app, launcher.wake)
    launcher.start()
    beat = beat_service(app) if with_beat else None
    if beat is not None:
        beat.start()
    signals.worker_ready.connect(lambda **_: canary.start(), weak=False)
    try:
        _consume(app, "control", (queue.CONTROL_QUEUE,))
    finally:
        launcher.stop()
        janitor.stop()
        canary.stop()
        if beat is not None:
            beat.stop()
        relay.stop()


def webhook_relay(database: Database, settings: WebhookSettings) -> Relay:
    limits = InputLimits(schemes=settings.schemes, private_hosts=settings.private_hosts)
    return Relay(database, limits, timeout_s=settings.timeout_s, lease_s=settings.lease_s)


def training_launcher(farm: FarmSettings, database: Database, store: BlobStore, settings: TrainSettings) -> Launcher:
    """On the cluster that is named, else on this machine where the trainer is installed, else nowhere: runs wait then.
    Rejected("ray_address_invalid")."""
    terms = TrainTerms(
        at_once=settings.at_once,
        shares_with=settings.shares_with,
        yield_after=timedelta(seconds=settings.yield_after_s),
        render_priority=settings.render_priority,
        corpus=settings.corpus_dir,
        stall=timedelta(seconds=settings.stall_s),
        threads=settings.threads,
    )
    us = farm_id(farm.database_url)
    place: Place | None = None
    if settings.ray_address:
        if not settings.ray_address.startswith(("http://", "https://")):
            detail = f"RAY_ADDRESS is the dashboard's http://host:8265, not {settings.ray_address!r}"
            raise Rejected("ray_address_invalid", detail)
        place = RayPlace(settings.ray_address, us, environment_of(os.environ), ray_token(os.environ))
    elif settings.at_once > 0 and can_train_here():
        place = LocalPlace(us, settings.log_dir, threads=settings.threads, niceness=settings.niceness)
    return Launcher(database, store, place, terms, farm.storage_endpoint_url)


def run_beat(farm: FarmSettings) -> None:
    """Only the beat, in this thread, until the process is told to end."""
    app = queue.celery_app(farm.broker_url)
    app.Beat(scheduler="celery.beat:Scheduler", loglevel="WARNING", quiet=True).run()


def beat_service(app: Celery) -> Any:
    # The plain scheduler: its state is only when a tick was last sent, which nobody needs after a restart.
    return EmbeddedService(app, thread=True, scheduler_cls="celery.beat:Scheduler")


def _consume(app: Celery, kind: str, queues: tuple[str, ...]) -> None:
    log.get(__name__).info("worker starts", kind=kind, queues=queues)
    # Messages are JSON without arguments: what Celery says of root is about pickled ones.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    # A receiver keeps Celery from setting up logging itself, which would silence the farm's own lines.
    signals.setup_logging.connect(_own_lines)
    app.worker_main(
        [
            "--quiet",
            "worker",
            "--pool=threads",
            "--concurrency=1",
            f"--queues={','.join(queues)}",
            f"--hostname={kind}-{os.getpid()}@%h",
            "--without-gossip",
            "--without-mingle",
            "--loglevel=WARNING",
        ]
    )


def _own_lines(**_: Any) -> None:
    """Every chunk is a line of the log; of the libraries only what is wrong."""
    for library in ("celery", "kombu", "httpx"):
        logging.getLogger(library).setLevel(logging.WARNING)
