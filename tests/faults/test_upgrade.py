"""A rolling upgrade from the version before the newest migration, under load: real old code, real new schema."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from farm.db import census, migrate
from farm.db.session import Database, connect
from farm.embedded import process
from farm.embedded.services import start_postgres, start_valkey
from tests.faults.balancer import balanced
from tests.faults.field import ROOT, environment, material, wait_for
from tests.faults.load import Caller

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
MOST_S = 600.0


def git(*arguments: str) -> str:
    ran = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    return ran.stdout.strip() if ran.returncode == 0 else ""


@pytest.fixture
def before(tmp_path: Path) -> Iterator[Path]:
    """The tree of the version before the newest migration was added."""
    added = git("log", "--diff-filter=A", "--format=%H", "-1", "--", "alembic/versions")
    if not added or not git("rev-parse", "--verify", f"{added}^"):
        pytest.skip("the version before is in the history, and this checkout has none")
    tree = tmp_path / "before"
    tree.mkdir()
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", f"{added}^"], capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(tree)], input=archive.stdout, check=True)
    yield tree
    shutil.rmtree(tree, ignore_errors=True)


class Fleet:
    """The farm's processes as an operator runs them, each from a tree of code."""

    def __init__(self, folder: Path, settings: dict[str, str], stack: ExitStack) -> None:
        self._folder, self._settings, self._stack = folder, settings, stack
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, tree: Path, arguments: Sequence[str], **settings: str) -> None:
        log = self._folder / f"{name}.log"
        env = {**self._settings, **settings, "PYTHONPATH": str(tree)}
        self._running[name] = process.spawn([sys.executable, *arguments], log, env=env, cwd=self._folder)
        self._stack.callback(process.end, self._running[name], ((signal.SIGTERM, 30.0),))

    def stop(self, name: str) -> None:
        process.end(self._running[name], ((signal.SIGTERM, 40.0),))

    def logs(self) -> str:
        return "\n".join(f"== {log.name}\n{process.tail(log, 30)}" for log in sorted(self._folder.glob("*.log")))


@contextmanager
def services(folder: Path) -> Iterator[tuple[str, str]]:
    postgres = start_postgres(folder / "postgres", durable=False)
    valkey = start_valkey(folder / "valkey")
    try:
        yield postgres.url, valkey.url
    finally:
        valkey.stop()
        postgres.stop()


def test_from_the_version_before_under_load(before: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        database_url, broker_url = stack.enter_context(services(tmp_path))
        storage = tmp_path / "blobs"
        storage.mkdir()
        items = material(tmp_path, frames=40)
        settings = environment(tmp_path) | {
            "DATABASE_URL": database_url,
            "BROKER_URL": broker_url,
            "STORAGE_URL": storage.as_uri(),
        }
        fleet = Fleet(tmp_path, settings, stack)
        key = old_setup(before, settings)
        ports = [process.free_port(), process.free_port()]
        door = stack.enter_context(balanced(ports))

        def start_api(number: int, tree: Path) -> None:
            fleet.start(f"api-{number}", tree, ["-m", "api"], DUBFARM_API_PORT=str(ports[number]))
            wait_for(f"http://127.0.0.1:{ports[number]}/readyz")

        def start_worker(number: int, tree: Path) -> None:
            cache = str(tmp_path / "cache" / str(number))
            fleet.start(f"worker-{number}", tree, ["-m", "workers"], DUBFARM_WORKER_CACHE_DIR=cache)

        def start_control(tree: Path) -> None:
            fleet.start("control", tree, ["-m", "workers", "--control", "--beat"])

        for number in (0, 1):
            start_api(number, before)
            start_worker(number, before)
        start_control(before)
        database = connect(database_url)
        stack.callback(database.close)
        with Caller(door, key, items) as caller, audited(database) as violations:
            caller.submit_soon()
            until(
                lambda: bool(rows(database, "select 1 from chunks where work = 'render' and status = 'leased'")), fleet
            )
            migrate.upgrade(database_url)
            caller.submit_soon()  # the old code on the new schema
            until(lambda: len(caller.batches) == 2, fleet)
            fleet.stop("control")
            start_control(ROOT)
            for number in (0, 1):
                fleet.stop(f"worker-{number}")
                start_worker(number, ROOT)
            for number in (0, 1):
                fleet.stop(f"api-{number}")
                start_api(number, ROOT)
            caller.submit_soon()
            until(lambda: len(caller.batches) == 3, fleet)
            until(lambda: not rows(database, "select 1 from jobs where finished_at is null"), fleet)
        print(f"{caller.requests} requests, {caller.resets} repeated, the slowest took {caller.slowest_s:.1f} s")
        assert caller.failed == [], fleet.logs()
        assert violations == []
        assert {status for (status,) in rows(database, "select status from jobs")} == {"succeeded"}, fleet.logs()
        lost = {reason for (reason,) in rows(database, "select reason from attempts where reason is not null")}
        assert lost <= {"preempted"}
        # Old and new code, before and after: the same video each time.
        shas = rows(database, "select distinct j.spec->>'custom_id', j.output->'blob'->>'sha256' from jobs j")
        assert len(shas) == len(items)


def old_setup(before: Path, settings: dict[str, str]) -> str:
    """Schema, model and key by the version before, as its own `dubfarm setup --new-key` makes them."""
    code = "from farm.embedded import first_start; from farm.settings import FarmSettings; s = FarmSettings(); \
            first_start.set_up(s, lambda line: None); print(first_start.new_key(s, 'studio'))"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**settings, "PYTHONPATH": str(before)},
        cwd=before,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()[-1]


def rows(database: Database, query: str) -> list[tuple[object, ...]]:
    with database.transaction() as session:
        return [tuple(row) for row in session.execute(sa.text(query))]


def until(happened: Callable[[], bool], fleet: Fleet) -> None:
    deadline = time.monotonic() + MOST_S
    while not happened():
        assert time.monotonic() < deadline, fleet.logs()
        time.sleep(0.1)


@contextmanager
def audited(database: Database) -> Iterator[list[str]]:
    found: list[str] = []
    stopped = threading.Event()

    def look() -> None:
        while not stopped.wait(0.5):
            with database.transaction() as session:
                found.extend(census.audit(session))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stopped.set()
        thread.join()
