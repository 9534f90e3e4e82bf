"""What tests share: a database, a broker and a store, embedded ones unless the environment names others.

DATABASE_URL, BROKER_URL and STORAGE_URL (+ STORAGE_ENDPOINT_URL) point the same suite at outside services. In an
outside Postgres the tests make databases of their own and drop them in the end; in an outside store, a prefix.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Before torch is imported anywhere, child processes included: tiny networks lose more to waiting for a second thread
# than it gives, most of all on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What our own S3 server takes; and boto3 looks no further for credentials of whoever runs the tests.
if not os.environ.get("STORAGE_URL", "").startswith("s3://"):
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}

import pytest
import sqlalchemy as sa

from farm.db import migrate
from farm.db.rows import Row
from farm.db.session import Database, connect, driver_url
from farm.storage.blobs import BlobStore, open_store


@pytest.fixture(scope="session", autouse=True)
def _nobody_stays() -> Iterator[None]:
    """No process that a test started, not even an orphan's child, outlives the run."""
    if sys.platform != "linux":
        yield
        return
    become_subreaper = 36  # PR_SET_CHILD_SUBREAPER: orphans become our children instead of init's
    ctypes.CDLL(None).prctl(become_subreaper, 1, 0, 0, 0)
    yield
    deadline = time.monotonic() + 180
    while left := _children():
        assert time.monotonic() < deadline, f"left running: {left}"
        time.sleep(0.1)


def _children() -> list[str]:
    """pid and command line of our children, zombies and multiprocessing's own helper apart."""
    found: list[str] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            line = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if parent == os.getpid() and line and "multiprocessing.resource_tracker" not in line:
            found.append(f"{stat.parent.name} {line}")
    return found


@pytest.fixture(scope="session")
def database_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Url of a database on a server where more databases may be made."""
    outside = os.environ.get("DATABASE_URL")
    if outside:
        yield driver_url(outside)
        return
    from farm.embedded.services import start_postgres

    service = start_postgres(tmp_path_factory.mktemp("postgres"), durable=False)
    yield service.url
    service.stop()


@pytest.fixture(scope="session")
def new_database(database_server: str) -> Iterator[Callable[[], str]]:
    """Makes empty databases without a schema; drops them all in the end."""
    engine = sa.create_engine(database_server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    names: list[str] = []

    def make() -> str:
        names.append(f"dubfarm_test_{secrets.token_hex(4)}")
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {names[-1]}"))
        return sa.engine.make_url(database_server).set(database=names[-1]).render_as_string(hide_password=False)

    yield make
    with engine.connect() as connection:
        for name in names:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="session")
def database_url(new_database: Callable[[], str]) -> str:
    """A fresh database at the newest schema; tests that write use the fixture `database`, which empties it first."""
    url = new_database()
    migrate.upgrade(url)
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The test database, empty."""
    database = connect(database_url)
    with database.transaction() as session:
        session.execute(sa.text(EMPTIED))
    yield database
    database.close()


# Rows are few: to delete them takes a tenth of what TRUNCATE does, which makes every table and index anew.
EMPTIED = f"""do $$ declare s record; begin
{"".join(f"delete from {table.name}; " for table in reversed(Row.metadata.sorted_tables))}
for s in select sequencename as name from pg_sequences where schemaname = 'public' and last_value is not null loop
    execute format('alter sequence %I restart', s.name);
end loop; end $$"""


@pytest.fixture(scope="session")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    outside = os.environ.get("BROKER_URL")
    if outside:
        yield outside
        return
    from farm.embedded.services import start_valkey

    service = start_valkey(tmp_path_factory.mktemp("valkey"))
    yield service.url
    service.stop()


@pytest.fixture(scope="session")
def storage_endpoint_url() -> str | None:
    return os.environ.get("STORAGE_ENDPOINT_URL")


@pytest.fixture(scope="session")
def storage_url(tmp_path_factory: pytest.TempPathFactory, storage_endpoint_url: str | None) -> Iterator[str]:
    """A store of this run's own: a folder, or a prefix of an outside store, emptied in the end."""
    outside = os.environ.get("STORAGE_URL")
    if not outside:
        yield tmp_path_factory.mktemp("blobs").as_uri()
        return
    url = f"{outside.rstrip('/')}/test-{secrets.token_hex(4)}"
    yield url
    store = open_store(url, storage_endpoint_url)
    for found in list(store.list("")):
        store.delete(found.key)


@pytest.fixture
def store(storage_url: str, storage_endpoint_url: str | None) -> BlobStore:
    return open_store(storage_url, storage_endpoint_url)


@pytest.fixture(scope="session")
def own_s3_url() -> Iterator[str]:
    """An S3 server in this process, whatever the environment names; it takes any credentials."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
