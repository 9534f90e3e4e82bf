"""A POST whose API process is killed is either not there at all, or there with its idempotent answer."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest
import sqlalchemy as sa

from benchmarks import live
from farm.db.session import Database, connect

ITEMS: Final = 1500
WHOLE: Final = (1, 1, ITEMS, ITEMS)
TABLES: Final = ("idempotency_keys", "batches", "jobs", "chunks")
COUNTS: Final = ", ".join(f"(SELECT count(*) FROM {table})" for table in TABLES)
WRITING: Final = """SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_xid IS NOT NULL AND query ILIKE '%jobs%'"""
"""Transactions that have written and are at the jobs now."""
PATIENCE_S: Final = 120.0


def content() -> bytes:
    video, audio = {"uri": "https://example.com/v.mp4"}, {"uri": "https://example.com/a.wav"}
    items = [{"custom_id": f"c{k}", "kind": "dub", "video": video, "audio": audio} for k in range(ITEMS)]
    return json.dumps({"items": items}).encode()


@pytest.fixture(scope="module")
def farm() -> Iterator[live.Live]:
    with live.api(durable=False) as farm:
        yield farm


@pytest.fixture
def database(farm: live.Live) -> Iterator[Database]:
    database = connect(farm.database_url, pool_size=1)
    yield database
    database.close()


def ask(database: Database, query: str) -> tuple[int, ...]:
    with database.transaction() as session:
        return tuple(session.execute(sa.text(query)).one())


def until(what: Callable[[], bool], so: str) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < ends, so
        time.sleep(0.002)


@contextmanager
def sent(farm: live.Live, body: bytes, key: str) -> Iterator[None]:
    """The request on its way, on a connection that reads no answer."""
    parts = urlsplit(farm.url)
    head = (
        f"POST /v1/batches HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {farm.key}\r\n"
        f"Idempotency-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with closing(socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_S)) as connection:
        connection.sendall(head.encode() + body)
        yield


def repeated(farm: live.Live, body: bytes, key: str) -> httpx.Response:
    """As a client does: again while the first one counts as running (the database may not know yet that it died)."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    ends = time.monotonic() + PATIENCE_S
    with farm.http() as http:
        while True:
            answer = http.post("/v1/batches", content=body, headers=headers)
            if answer.status_code != 409 or time.monotonic() > ends:
                return answer
            time.sleep(0.1)


@pytest.mark.parametrize("moment", ["while it writes", "once it has committed"])
def test_a_killed_submission_is_whole_or_not_there(farm: live.Live, database: Database, moment: str):
    body, key = content(), moment
    before = ask(database, f"SELECT {COUNTS}")
    whole = tuple(n + k for n, k in zip(before, WHOLE, strict=True))
    with sent(farm, body, key):
        if moment == "while it writes":
            until(lambda: ask(database, WRITING)[0] > 0, "nobody wrote")
        else:
            until(lambda: ask(database, f"SELECT {COUNTS}") == whole, "it never committed")
        farm.process.kill()
        farm.process.wait()
    left = ask(database, f"SELECT {COUNTS}")
    assert left in (before, whole), "a part of it was committed"
    farm.start()
    answer = repeated(farm, body, key)
    assert answer.status_code == 202, answer.text
    assert answer.json()["counts"]["total"] == ITEMS
    assert ask(database, f"SELECT {COUNTS}") == whole, "exactly one batch, however often it was asked for"
    if left == whole:
        assert answer.headers["idempotent-replayed"] == "true"
    again = repeated(farm, body, key)
    assert (again.headers["idempotent-replayed"], again.json()["id"]) == ("true", answer.json()["id"])
    with farm.http() as http:
        assert http.get(answer.headers["location"]).json()["counts"]["total"] == ITEMS
