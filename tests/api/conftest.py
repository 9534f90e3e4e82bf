"""A live API on loopback over the run's real Postgres and store."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from api.__main__ import Server, config
from api.app import create_app
from farm import queue
from farm.cli import app as command
from farm.client import Client
from farm.db import migrate
from farm.db.session import Database, connect
from farm.domain.limits import InputLimits
from farm.domain.tenant import Actor, Scope
from farm.flow import keys, versions
from farm.rates import Limiter
from farm.storage.blobs import BlobStore, open_store
from farm.storage.s3 import connect as connect_s3
from tests.api.hands import Hands

OPERATORS = "the tenant that runs the farm"


@dataclass(frozen=True)
class Api:
    """`url` of a running server, and the handles that it works with."""

    url: str
    database: Database
    store: BlobStore
    input_root: Path
    stopping: threading.Event

    def key(self, tenant: str, *scopes: Scope) -> str:
        with self.database.transaction() as session:
            tenant_id = keys.ensure_tenant(session, tenant)
            return keys.create(session, tenant_id, "test", scopes or (Scope.ADMIN,)).text

    def http(self, key: str | None, **headers: str) -> httpx.Client:
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        return httpx.Client(base_url=self.url, headers=headers, timeout=120)

    def hands(self) -> Hands:
        return Hands(self.database, self.store)


Starter = Callable[..., Api]


@dataclass(frozen=True)
class Dubfarm:
    """The command `dubfarm`, in this process, against a live API."""

    api: Api
    key: str
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object) -> tuple[int, Any]:
        """With --json: (exit code, what it answered last)."""
        code, out, _ = self.run(*arguments, "--json")
        documents = [json.loads(line) for line in out.splitlines()]
        return code, documents[-1] if documents else None

    def shown(self, *arguments: object) -> tuple[int, str]:
        """As people see it: (exit code, both streams)."""
        code, out, err = self.run(*arguments)
        return code, out + err

    def run(self, *arguments: object) -> tuple[int, str, str]:
        self.capsys.readouterr()
        code = command.run([*map(str, arguments), "--server", self.api.url, "--key", self.key])
        out, err = self.capsys.readouterr()
        return code, out, err


@pytest.fixture(scope="session")
def api_database_url(new_database: Callable[[], str]) -> str:
    """A database of the API tests' own: other tests empty theirs while our servers run."""
    url = new_database()
    migrate.upgrade(url)
    return url


@pytest.fixture(scope="session")
def s3_store(own_s3_url: str) -> BlobStore:
    """A bucket on an S3 server on loopback."""
    connect_s3(own_s3_url).create_bucket(Bucket="api-tests")
    return open_store("s3://api-tests/prefix", own_s3_url)


@pytest.fixture(scope="session")
def start_api(
    api_database_url: str,
    broker_url: str,
    storage_url: str,
    storage_endpoint_url: str | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., Api]]:
    """Start API servers; all share the database, and the run's store unless another is given."""
    database = connect(api_database_url)
    with database.transaction() as session:
        version = versions.register(
            session,
            name="api-tests",
            bundle_key="bundles/api-tests",
            bundle_sha256="0" * 64,
            manifest={"name": "api-tests", "trained": False, "licence": "Apache-2.0", "files": {}},
        )
        versions.promote(session, "champion", version.id, actor=Actor("tests"))
        keys.ensure_tenant(session, OPERATORS)  # the first tenant runs the farm, so no test's own does
    celery = queue.celery_app(broker_url)
    ends: list[Callable[[], None]] = []

    def start(
        *,
        broker: str | None = None,
        max_bytes: int = 1 << 22,
        body_limit: int | None = None,
        store: BlobStore | None = None,
        database_of: Database | None = None,
        limiter: Limiter | None = None,
    ) -> Api:
        inputs = tmp_path_factory.mktemp("inputs")
        blobs = store or open_store(storage_url, storage_endpoint_url)
        app_celery = celery if broker is None else queue.celery_app(broker)
        stopping = threading.Event()
        limits = InputLimits(
            schemes=("https", "s3", "file"), file_roots=(inputs,), s3_buckets=("b",), max_bytes=max_bytes
        )
        app = create_app(
            database_of or database,
            blobs,
            limits,
            lambda name, count: queue.send_work(app_celery, name, count),
            lambda: queue.ping(broker or broker_url),
            limiter=limiter,
            stopping=stopping,
            **({} if body_limit is None else {"body_limit": body_limit}),
        )
        listening = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = Server(config(app, "127.0.0.1", 0), stopping)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()

        def end() -> None:
            stopping.set()
            server.should_exit = True
            thread.join()
            listening.close()

        ends.append(end)
        return Api(url, database, blobs, inputs, stopping)

    # Not structlog's default: on a terminal-less run it takes 20 s to draw a traceback with all local variables.
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(),
        ],
        # Nor its stdout, where the commands under test answer: the server logs when it likes.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
    yield start
    structlog.reset_defaults()
    for end in ends:
        end()
    database.close()


@pytest.fixture(scope="session")
def api(start_api: Callable[..., Api]) -> Api:
    return start_api()


@contextmanager
def admin_of(api: Api, tenant: str) -> Iterator[str]:
    """An admin key. What is left unfinished is canceled, out of others' way."""
    key = api.key(tenant)
    yield key
    with Client(api.url, key) as client:
        for batch in client.batches(status="running"):
            client.cancel_batch(batch.id)


@pytest.fixture
def key(api: Api, request: pytest.FixtureRequest) -> Iterator[str]:
    """An admin key of a tenant of the test's own."""
    with admin_of(api, f"tenant of {request.node.nodeid}") as key:
        yield key


@pytest.fixture
def operator(api: Api) -> Iterator[Client]:
    """With an admin key of the tenant that runs the farm."""
    with admin_of(api, OPERATORS) as key, Client(api.url, key, retries=0) as client:
        yield client


@pytest.fixture
def dubfarm(api: Api, key: str, capsys: pytest.CaptureFixture[str]) -> Dubfarm:
    """The command `dubfarm` with a key of the test's."""
    return Dubfarm(api, key, capsys)


@pytest.fixture
def http(api: Api, key: str) -> Iterator[httpx.Client]:
    with api.http(key) as client:
        yield client


@pytest.fixture
def client(api: Api, key: str) -> Iterator[Client]:
    with Client(api.url, key) as client:
        yield client


@pytest.fixture
def hands(api: Api) -> Hands:
    return api.hands()
