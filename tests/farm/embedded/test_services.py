"""The embedded servers: found again, refused twice, gone with their farm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
import redis

from farm.embedded import process
from farm.embedded.services import start_postgres, start_valkey
from farm.errors import Rejected

CRASHING_FARM = """
import os, signal, sys
from pathlib import Path
from farm.embedded.services import start_postgres, start_valkey
folder = Path(sys.argv[1])
postgres, valkey = start_postgres(folder / "postgres"), start_valkey(folder / "valkey")
print(postgres.pid, valkey.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def query(url: str, text: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        cursor = connection.execute(text)  # pyright: ignore[reportArgumentType, reportCallIssue]
        return cursor.fetchall() if cursor.description else []


def gone(pid: int) -> bool:
    """An orphan may stay a zombie until init looks: that has no command line."""
    return not process.command_line(pid)


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 120
    while not gone(pid):
        assert time.monotonic() < deadline, f"{pid} is still there: {process.command_line(pid)}"
        time.sleep(0.05)


def test_postgres_keeps_its_data_and_refuses_a_second_owner(tmp_path: Path) -> None:
    folder = tmp_path / ("long " * 30) / "postgres"  # longer than a unix socket's path may be, and with spaces
    first = start_postgres(folder, durable=False)
    try:
        query(first.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        with pytest.raises(Rejected, match="in use"):
            start_postgres(folder)
    finally:
        first.stop()
    first.stop()
    assert gone(first.pid)

    # A postmaster.pid left by a crash, its pid now somebody else's.
    (folder / "data" / "postmaster.pid").write_text(
        f"{os.getppid()}\n{folder / 'data'}\n0\n1\n\n127.0.0.1\n1 1\nready\n"
    )
    again = start_postgres(folder, durable=False)
    try:
        assert query(again.url, "SELECT answer FROM kept") == [(42,)]
        assert query(again.url, "SELECT current_setting('server_encoding'), current_setting('TimeZone')") == [
            ("UTF8", "UTC")
        ]
    finally:
        again.stop()


def test_postgres_of_another_version_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("15\n")
    with pytest.raises(Rejected, match="made by Postgres 15"):
        start_postgres(tmp_path)


def test_valkey_wants_its_password(tmp_path: Path) -> None:
    server = start_valkey(tmp_path)
    try:
        with redis.Redis.from_url(server.url) as client:
            assert client.set("key", "value")
        with redis.Redis(port=server.port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.get("key")
        assert (tmp_path / "password").stat().st_mode & 0o077 == 0
        password = (tmp_path / "password").read_text()
        assert password not in process.command_line(server.pid)
    finally:
        server.stop()
    assert gone(server.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
def test_servers_die_with_a_killed_farm_and_start_again(tmp_path: Path) -> None:
    farm = subprocess.run(
        [sys.executable, "-c", CRASHING_FARM, tmp_path], capture_output=True, text=True, check=False, timeout=120
    )
    assert farm.returncode == -signal.SIGKILL, farm.stderr
    pids = [int(word) for word in farm.stdout.split()]
    assert len(pids) == 2
    for pid in pids:
        wait_until_gone(pid)
    again = start_postgres(tmp_path / "postgres", durable=False)
    try:
        assert query(again.url, "SELECT 1") == [(1,)]
    finally:
        again.stop()
