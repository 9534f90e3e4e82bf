"""The canary: who is blamed for silence, and a real Celery worker whose consumer is deaf ends itself."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from farm import queue
from farm.errors import Transient
from workers.app import DEAF
from workers.canary import Canary

ROOT = Path(__file__).resolve().parents[2]
DEAF_CONTROL = """
from kombu.transport import redis
redis.Channel._brpop_start = lambda self, timeout=None: None  # connected, and never asks: what the reconnect bug leaves
from workers import app
app.CONTROL_CANARY_S = 2.0
from farm.settings import FarmSettings, WebhookSettings
app.run_control_worker(FarmSettings(), WebhookSettings(), with_beat=False)
"""


def fires(waiting: Callable[[], int], *, busy: bool = False, expects: bool = False) -> Callable[[float], bool]:
    ended = threading.Event()
    canary = Canary(waiting, lambda: busy, 0.1, ended.set, expects_messages=expects)
    canary.start()

    def wait(seconds: float) -> bool:
        try:
            return ended.wait(seconds)
        finally:
            canary.stop()

    return wait


def unreachable() -> int:
    raise Transient("broker_unavailable", "away")


def test_messages_that_wait_on_an_idle_process_end_it() -> None:
    assert fires(lambda: 3)(120)
    assert fires(lambda: 0, expects=True)(120)


@pytest.mark.parametrize(
    "quiet",
    [fires(lambda: 0), fires(lambda: 3, busy=True), fires(unreachable), fires(unreachable, expects=True)],
    ids=["nothing waits", "busy", "broker away", "broker away, ticks expected"],
)
def test_others_are_left_alone(quiet: Callable[[float], bool]) -> None:
    assert not quiet(0.5)


def test_a_message_heard_resets_the_patience() -> None:
    ended = threading.Event()
    canary = Canary(lambda: 3, lambda: False, 0.5, ended.set)
    canary.start()
    for _ in range(20):
        canary.heard()
        assert not ended.wait(0.05)
    assert ended.wait(120)


def test_a_deaf_worker_ends_itself(broker_url: str, database_url: str, storage_url: str, tmp_path: Path) -> None:
    app = queue.celery_app(broker_url)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": database_url,
        "BROKER_URL": broker_url,
        "STORAGE_URL": storage_url,
    }
    app.send_task(queue.TICK_TASK, queue=queue.CONTROL_QUEUE)
    try:
        ran = subprocess.run(
            [sys.executable, "-c", DEAF_CONTROL], env=environment, capture_output=True, text=True, timeout=120
        )
    finally:
        with app.connection_for_write() as connection:
            connection.default_channel.queue_purge(queue.CONTROL_QUEUE)
    assert ran.returncode == DEAF, ran.stderr
    assert "takes none" in ran.stdout + ran.stderr
