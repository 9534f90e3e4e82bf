"""Celery: the app, its settings, and sending wake-ups. No task bodies here.

Redis holds nothing that matters: a message says "there is work on queue Q", and whoever gets it claims in Postgres.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Final

import redis
from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import KombuError

from farm import log
from farm.domain.placement import QUEUES
from farm.errors import Transient

WORK_TASK: Final = "farm.work"
TICK_TASK: Final = "farm.tick"
TRAIN_TASK: Final = "farm.train"
CONTROL_QUEUE: Final = "control"
SOCKET_S: Final = 5.0

_log = log.get(__name__)


def celery_app(broker_url: str, *, task_limit_s: float = 3600.0, tick_s: float = 2.0) -> Celery:
    """A Celery app with the farm's settings. task_limit_s: longer than the longest chunk may take."""
    app = Celery("dubfarm", broker=broker_url, set_as_current=False)
    # Nothing renews visibility while a task runs: a shorter one hands the same message out again and again. Celery and
    # kombu read it in different places.
    visibility = {"visibility_timeout": int(task_limit_s) + 600}
    sockets = {
        "socket_timeout": SOCKET_S,
        "socket_connect_timeout": SOCKET_S,
        "socket_keepalive": True,
        "health_check_interval": 15,
        "retry_on_timeout": True,
    }
    app.conf.update(
        broker_transport_options={**visibility, **sockets},
        result_backend_transport_options=visibility,
        visibility_timeout=visibility["visibility_timeout"],
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=SOCKET_S,
        broker_pool_limit=4,
        redis_socket_timeout=SOCKET_S,
        redis_socket_connect_timeout=SOCKET_S,
        result_backend=None,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure_or_timeout=True,
        task_track_started=False,
        task_send_sent_event=False,
        task_publish_retry=False,
        task_serializer="json",
        accept_content=["json"],
        task_default_queue=CONTROL_QUEUE,
        task_create_missing_queues=True,
        task_queues=[Queue(name, Exchange(name), routing_key=name) for name in (*QUEUES, CONTROL_QUEUE)],
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_soft_shutdown_timeout=20.0,
        worker_enable_soft_shutdown_on_idle=False,
        worker_hijack_root_logger=False,
        beat_schedule={
            "tick": {
                "task": TICK_TASK,
                "schedule": tick_s,
                # A tick that nobody took in time is of no use: the next one does the same.
                "options": {"queue": CONTROL_QUEUE, "expires": max(10.0, 5 * tick_s)},
            },
            "train": {
                "task": TRAIN_TASK,
                "schedule": tick_s,
                "options": {"queue": CONTROL_QUEUE, "expires": max(10.0, 5 * tick_s)},
            },
        },
        enable_utc=True,
        timezone="UTC",
    )
    return app


def send_work(app: Celery, queue: str, count: int) -> int:
    """Top up `queue` to `count` pending wake-ups; returns how many were sent. Call after the commit.

    A broker that is down is logged and answered with 0: the tick repairs it. Never raises.
    """
    try:
        missing = count - _pending(str(app.conf.broker_url), queue)
        for _ in range(missing):
            app.send_task(WORK_TASK, queue=queue, retry=False, ignore_result=True)
    except (redis.RedisError, KombuError, OSError) as error:
        _log.warning("wake-ups not sent, the next tick sends them", queue=queue, count=count, error=str(error))
        return 0
    return max(0, missing)


def waiting(broker_url: str, queues: Iterable[str]) -> int:
    """Messages on `queues` that nobody has taken yet. Raises Transient("broker_unavailable")."""
    try:
        return sum(_pending(broker_url, queue) for queue in queues)
    except (redis.RedisError, OSError) as error:
        raise Transient("broker_unavailable", str(error)) from None


def ping(broker_url: str) -> None:
    """Raises Transient("broker_unavailable") unless the broker answers."""
    try:
        _client(broker_url).ping()
    except (redis.RedisError, OSError) as error:
        raise Transient("broker_unavailable", str(error)) from None


def _pending(broker_url: str, queue: str) -> int:
    """Messages that no worker has taken yet: kombu keeps a queue as a list of its name."""
    length: Any = _client(broker_url).llen(queue)
    return int(length)


@cache
def _client(broker_url: str) -> redis.Redis:
    return redis.Redis.from_url(
        broker_url, socket_timeout=SOCKET_S, socket_connect_timeout=SOCKET_S, health_check_interval=15
    )
