"""Celery: the app, its settings, and sending wake-ups. No task bodies here.

Redis holds nothing that matters: a message says "there is work on queue Q", and whoever gets it claims in Postgres.
"""

from __future__ import annotations

from typing import Final

from celery import Celery

WORK_TASK: Final = "farm.work"
TICK_TASK: Final = "farm.tick"
CONTROL_QUEUE: Final = "control"


def celery_app(broker_url: str, *, task_limit_s: float = 3600.0, tick_s: float = 2.0) -> Celery:
    """A Celery app with the farm's settings. task_limit_s: longer than the longest chunk may take."""
    raise NotImplementedError


def send_work(app: Celery, queue: str, count: int) -> int:
    """Top up `queue` to `count` pending wake-ups; returns how many were sent. Call after the commit.

    A broker that is down is logged and answered with 0: the tick repairs it. Never raises.
    """
    raise NotImplementedError


def ping(broker_url: str) -> None:
    """Raises Transient("broker_unavailable") unless the broker answers."""
    raise NotImplementedError
