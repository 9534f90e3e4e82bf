"""A real API process on an embedded Postgres and Valkey of its own, for as long as a block lasts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from farm.db import migrate
from farm.db.session import connect
from farm.domain.tenant import Actor, Scope
from farm.embedded.services import start_postgres, start_valkey
from farm.flow import keys, versions

ROOT = Path(__file__).resolve().parent.parent
START_S = 120.0


@dataclass
class Live:
    """`key`: of an admin of the tenant that runs the farm. `log`: what the process writes."""

    url: str
    key: str
    database_url: str
    log: Path
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Also again, after it was killed."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen([sys.executable, "-m", "api"], env=self.environment, cwd=ROOT, stderr=out)
        _wait(self.url, self.process, self.log)

    def http(self, key: str | None = None, timeout_s: float = 120.0) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s)


@contextmanager
def api(settings: Mapping[str, str] | None = None, *, durable: bool = True) -> Iterator[Live]:
    """`python -m api` with a champion, a key and, but for `settings`, the settings of production (no rate limit)."""
    with tempfile.TemporaryDirectory(prefix="dubfarm-live-") as name:
        folder = Path(name)
        postgres = start_postgres(folder / "postgres", durable=durable)
        valkey = start_valkey(folder / "valkey")
        try:
            migrate.upgrade(postgres.url)
            key = _first_key(postgres.url)
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            environment = {
                **os.environ,
                "DATABASE_URL": postgres.url,
                "BROKER_URL": valkey.url,
                "STORAGE_URL": (folder / "blobs").as_uri(),
                "DUBFARM_API_PORT": str(port),
                "DUBFARM_API_RATE_PER_S": "1000000",
                "DUBFARM_API_RATE_BURST": "1000000",
                "DUBFARM_INPUT_S3_BUCKETS": '["b"]',
                "PYTHONPATH": str(ROOT),
                **(settings or {}),
            }
            farm = Live(f"http://127.0.0.1:{port}", key, postgres.url, folder / "api.log", environment)
            farm.start()
            try:
                yield farm
            finally:
                farm.process.terminate()
                farm.process.wait(60)
        finally:
            valkey.stop()
            postgres.stop()


def _first_key(url: str) -> str:
    database = connect(url, pool_size=1)
    try:
        with database.transaction() as session:
            manifest = {"name": "live", "trained": False, "licence": "Apache-2.0", "files": {}}
            version = versions.register(
                session, name="live", bundle_key="bundles/live", bundle_sha256="0" * 64, manifest=manifest
            )
            versions.promote(session, "champion", version.id, actor=Actor("live"))
            return keys.create(session, keys.ensure_tenant(session, "live"), "live", [Scope.ADMIN]).text
    finally:
        database.close()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while True:
        try:
            if httpx.get(f"{url}/readyz", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"the API did not come up: {log.read_text()[-2000:]}")
        time.sleep(0.1)
