"""What tests share: a database, a broker and a store, embedded ones unless the environment names others.

DATABASE_URL, BROKER_URL and STORAGE_URL (+ STORAGE_ENDPOINT_URL) point the same suite at outside services. In an
outside Postgres the tests make a database of their own and drop it in the end; in an outside store, a prefix.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from farm.db import migrate
from farm.db.rows import Row
from farm.db.session import Database, connect, driver_url
from farm.storage.blobs import BlobStore, open_store


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
def database_url(database_server: str) -> Iterator[str]:
    """A fresh database at the newest schema; tests that write use the fixture `database`, which empties it first."""
    name = f"dubfarm_test_{secrets.token_hex(4)}"
    engine = sa.create_engine(database_server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    url = sa.engine.make_url(database_server).set(database=name).render_as_string(hide_password=False)
    migrate.upgrade(url)
    yield url
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The test database, empty."""
    database = connect(database_url)
    tables = ", ".join(table.name for table in Row.metadata.sorted_tables)
    with database.transaction() as session:
        session.execute(sa.text(f"TRUNCATE {tables} RESTART IDENTITY"))
    yield database
    database.close()


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
def storage_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of this run's own: a folder, or a prefix of an outside bucket."""
    outside = os.environ.get("STORAGE_URL")
    if outside:
        return f"{outside.rstrip('/')}/test-{secrets.token_hex(4)}"
    return tmp_path_factory.mktemp("blobs").as_uri()


@pytest.fixture
def store(storage_url: str, storage_endpoint_url: str | None) -> BlobStore:
    return open_store(storage_url, storage_endpoint_url)
