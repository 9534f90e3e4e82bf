"""The dispatcher: settings that keep messages from being lost or repeated, and sending that never fails its caller."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
import redis
from celery import Celery
from kombu.entity import Exchange, Queue

from farm import queue
from farm.errors import Transient


@pytest.fixture
def app(broker_url: str) -> Iterator[Celery]:
    app = queue.celery_app(broker_url, task_limit_s=100)
    yield app
    app.close()


@pytest.fixture
def name(app: Celery, broker_url: str) -> Iterator[str]:
    name = f"test-{secrets.token_hex(4)}"
    app.conf.task_queues = [*app.conf.task_queues, Queue(name, Exchange(name), routing_key=name)]
    yield name
    with redis.Redis.from_url(broker_url) as client:
        client.delete(name)


def _length(broker_url: str, name: str) -> int:
    with redis.Redis.from_url(broker_url) as client:
        return int(client.llen(name))  # pyright: ignore[reportArgumentType]


def test_visibility_is_longer_than_the_longest_task_in_all_three_places(app: Celery) -> None:
    assert app.conf.broker_transport_options["visibility_timeout"] > 100
    assert app.conf.result_backend_transport_options["visibility_timeout"] > 100
    assert app.conf.visibility_timeout > 100


def test_settings_that_matter(app: Celery) -> None:
    want = {
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "task_ignore_result": True,
        "result_backend": None,
        "worker_enable_remote_control": False,
        "broker_connection_max_retries": None,
    }
    assert {key: app.conf[key] for key in want} == want
    assert app.conf.broker_transport_options["socket_timeout"] > 0


def test_wakeups_are_topped_up_not_piled_up(app: Celery, name: str, broker_url: str) -> None:
    assert queue.send_work(app, name, 3) == 3
    assert queue.send_work(app, name, 3) == 0
    assert queue.send_work(app, name, 5) == 2
    assert _length(broker_url, name) == 5
    with redis.Redis.from_url(broker_url) as client:
        client.delete(name)  # a flushed broker
    assert queue.send_work(app, name, 2) == 2


def test_broker_that_is_down_is_not_the_callers_trouble() -> None:
    gone = queue.celery_app("redis://127.0.0.1:9/0")
    assert queue.send_work(gone, "render", 2) == 0
    with pytest.raises(Transient, match="broker_unavailable"):
        queue.ping("redis://127.0.0.1:9/0")
    gone.close()


def test_ping(broker_url: str) -> None:
    queue.ping(broker_url)
