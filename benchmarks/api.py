"""`python -m benchmarks.api`: how fast the API accepts batches, over HTTP, beside a bare COPY of the same rows.

A real API process on an embedded Postgres (durable, as in production). A batch is timed from the first byte sent to the
202: validation, the batch, its jobs, their chunks and the idempotent answer, committed. The COPY writes the very rows
that such a batch left (batches, jobs, chunks) into tables of the same shape, indexes included, in one transaction.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any, Final, cast

import psycopg
from sqlalchemy.engine import make_url

from benchmarks import live
from benchmarks.report import Table, machine, note, show

SIZES: Final = (500, 10_000)
ROUNDS: Final = 5
COPIED: Final = ("batches", "jobs", "chunks")


def body(count: int) -> bytes:
    """As a studio sends it: own files, one voice each, settings on some."""
    items: list[dict[str, Any]] = []
    for n in range(count):
        item: dict[str, Any] = {
            "custom_id": f"episode-7/scene-{n:05d}",
            "kind": "dub",
            "video": {"uri": f"s3://b/garden/episode-7/scene-{n:05d}.mp4"},
            "audio": {"uri": f"s3://b/garden/es/episode-7/scene-{n:05d}.wav"},
            "sync_mode": "cut_off",
        }
        if n % 4 == 0:
            item["factors"] = {"expression": {"drive": "canonical", "gain": 0.8}, "eye": "source"}
            item["output"] = {"crf": 20}
        items.append(item)
    return json.dumps({"name": "episode 7", "metadata": {"show": "garden"}, "items": items}).encode()


def submit(farm: live.Live, content: bytes, number: int) -> str:
    """One batch; its id."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": f"benchmark-{number}-{len(content)}"}
    with farm.http() as http:
        answer = http.post("/v1/batches", content=content, headers=headers)
    if answer.status_code != 202:
        raise RuntimeError(f"{answer.status_code}: {answer.text[:500]}")
    return str(answer.json()["id"])


class Copy:
    """The rows of a batch, to be written again and again by a bare COPY."""

    def __init__(self, database: psycopg.Connection[Any], batch_id: str) -> None:
        self._database = database
        self._rows: dict[str, bytes] = {}
        self._columns: dict[str, str] = {}
        where = {
            "batches": "id = %s",
            "jobs": "batch_id = %s",
            "chunks": "job_id IN (SELECT id FROM jobs WHERE batch_id = %s)",
        }
        with database.transaction(), database.cursor() as cursor:
            for table in COPIED:
                # A generated column cannot be copied in: it is made again.
                cursor.execute(
                    "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute"
                    f" WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"
                )
                (self._columns[table],) = cursor.fetchone() or ("",)
                cursor.execute(f"CREATE TABLE IF NOT EXISTS copy_{table} (LIKE {table} INCLUDING ALL)")
                query = f"SELECT {self._columns[table]} FROM {table} WHERE {where[table]}".replace(
                    "%s", f"'{batch_id}'"
                )
                with cursor.copy(cast(Any, f"COPY ({query}) TO STDOUT")) as out:
                    self._rows[table] = b"".join(bytes(part) for part in out)

    def write(self) -> None:
        with self._database.transaction(), self._database.cursor() as cursor:
            for table in COPIED:
                with cursor.copy(cast(Any, f"COPY copy_{table} ({self._columns[table]}) FROM STDIN")) as into:
                    into.write(self._rows[table])

    def empty(self) -> None:
        with self._database.transaction():
            self._database.execute(f"TRUNCATE {', '.join(f'copy_{table}' for table in COPIED)}")


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    medians: dict[int, tuple[float, float]] = {}
    spread: dict[int, tuple[float, float]] = {}
    with live.api() as farm:
        url = make_url(farm.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as database:
            for size in SIZES:
                content = body(size)
                copy = Copy(database, submit(farm, content, -1))
                taken: list[tuple[float, float]] = []
                for number in range(rounds):
                    copy.empty()
                    posted = timed(lambda number=number, content=content: submit(farm, content, number))
                    taken.append((posted, timed(copy.write)))
                    note(f"{size} items: {taken[-1][0]:.2f} s, COPY {taken[-1][1]:.2f} s")
                medians[size] = (statistics.median(t[0] for t in taken), statistics.median(t[1] for t in taken))
                spread[size] = (min(t[0] for t in taken), max(t[0] for t in taken))
    rows = [
        (size, posted, *spread[size], len(body(size)) / 1e6, copied, posted / copied)
        for size, (posted, copied) in medians.items()
    ]
    title = f"Batches accepted over HTTP, median of {rounds} ({machine()})"
    columns = ("items", "s", "fastest", "slowest", "body MB", "bare COPY s", "times COPY")
    small, large = (medians[size] for size in SIZES)
    show(
        [Table(title, columns, rows)],
        {"batch_500_s": small[0], "batch_10000_s": large[0], "vs_copy": large[0] / large[1]},
    )


if __name__ == "__main__":
    main()
