"""`dubfarm doctor`: what would keep a farm from working here, and what to do about it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import util
from pathlib import Path

import typer
from rich.markup import escape

from farm import machine
from farm.cli import options
from farm.cli.connect import target
from farm.cli.exits import Exit, explained
from farm.cli.terminal import terminal
from farm.client import ApiError, Client
from farm.embedded import address
from farm.errors import Rejected, Transient

LEAST_FREE = 5 * 2**30
VOLTA = (7, 0)


@dataclass(frozen=True)
class Finding:
    """status: ok, warn (works, but) or fail."""

    check: str
    status: str
    detail: str
    fix: str = ""


def doctor(
    server: options.Server = None, key: options.Key = None, data: options.Data = None, json: options.Json = False
) -> None:
    """Check this machine, the services and the farm. Exit 5 when something must be repaired."""
    terminal.begin(json)
    folder = data or address.default_data_dir()
    findings: list[Finding] = []
    marks = {"ok": "[green]ok  [/green]", "warn": "[yellow]warn[/yellow]", "fail": "[red]fail[/red]"}
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "python": python,
        "torch": torch,
        "ffmpeg": ffmpeg,
        "face networks": face_networks,
        "sandbox": sandbox,
        "data folder": lambda: data_dir(folder),
        "services": services,
        "port": lambda: port(folder),
        "farm": lambda: the_farm(server, key, folder),
    }
    for name, check in checks.items():
        for finding in _guarded(name, check):
            findings.append(finding)
            _tell(finding, marks)
    failed = any(finding.status == "fail" for finding in findings)
    terminal.answer({"ok": not failed, "checks": findings})
    if failed:
        raise typer.Exit(Exit.SERVER)


def _tell(finding: Finding, marks: dict[str, str]) -> None:
    terminal.say(f"{marks[finding.status]} {finding.check}: {escape(finding.detail)}")
    if finding.fix:
        terminal.say(f"     -> {escape(finding.fix)}")


def _guarded(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:  # a broken installation breaks in many ways; the other checks still run
        told = explained(error)
        detail = told.detail if told else f"{type(error).__name__}: {error}"
        yield Finding(name, "fail", detail, told.fix if told else "")


def python() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{sys.version.split()[0]} at {sys.executable}")


def torch() -> Iterator[Finding]:
    if util.find_spec("torch") is None:
        yield Finding("torch", "warn", "not installed: no worker can run here", "pip install 'dubfarm[workers]'")
        return
    import torch as library

    if not library.cuda.is_available():
        yield Finding("torch", "ok", f"{library.__version__}, CPU ({machine.cores()} cores)")
        return
    arches = library.cuda.get_arch_list()
    for index in range(library.cuda.device_count()):
        major, minor = library.cuda.get_device_capability(index)
        name = f"{library.__version__}, cuda:{index} {library.cuda.get_device_name(index)} (sm_{major}{minor})"
        # A cubin runs on its own major version from its minor on; PTX (compute_) on everything newer.
        runs = any(
            (kind == "sm" and number // 10 == major and number % 10 <= minor)
            or (kind == "compute" and number <= major * 10 + minor)
            for kind, number in (_arch(arch) for arch in arches)
        )
        if runs:
            yield Finding("torch", "ok", name)
        else:
            index_url = "cu126" if (major, minor) == VOLTA else "cu130"
            fix = f"pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/{index_url}"
            yield Finding("torch", "fail", f"{name}: this build has only {', '.join(arches)}", fix)


def _arch(text: str) -> tuple[str, int]:
    kind, _, number = text.partition("_")
    digits = "".join(c for c in number if c.isdigit())
    return kind, int(digits or 0)


def ffmpeg() -> Iterator[Finding]:
    if util.find_spec("imageio_ffmpeg") is None:
        yield Finding("ffmpeg", "warn", "not installed: no worker can run here", "pip install 'dubfarm[workers]'")
        return
    import imageio_ffmpeg

    binary = imageio_ffmpeg.get_ffmpeg_exe()
    run = subprocess.run([binary, "-hide_banner", "-encoders"], capture_output=True, text=True, check=False, timeout=60)
    missing = [name for name in ("libx264", "libx265", "aac") if name not in run.stdout]
    if run.returncode != 0 or missing:
        why = f"{binary} lacks {', '.join(missing)}" if missing else f"{binary} does not run"
        yield Finding("ffmpeg", "fail", why, "unset IMAGEIO_FFMPEG_EXE, or let it name a full build")
    else:
        yield Finding("ffmpeg", "ok", binary)


def face_networks() -> Iterator[Finding]:
    import farm

    weights = sorted((Path(farm.__file__).parent / "face" / "weights").glob("*.safetensors"))
    if weights:
        yield Finding("face networks", "ok", ", ".join(path.stem for path in weights))
    else:
        yield Finding("face networks", "fail", "the package's weights are missing", "install dubfarm again")


def sandbox() -> Iterator[Finding]:
    from farm.media import confine

    lacking = confine.missing()
    held = ", ".join(lock for lock in confine.LOCKS if lock not in lacking)
    if not lacking:
        yield Finding("sandbox", "ok", f"users' files are read behind {held}")
        return
    status = "fail" if os.environ.get("DUBFARM_INPUT_SANDBOX") == "required" else "warn"
    fix = "use Linux 5.13 or newer, or run workers in containers of their own (docs/decisions/media-sandbox.md)"
    yield Finding("sandbox", status, f"users' files are read behind {held} only: no {', no '.join(lacking)}", fix)


def data_dir(folder: Path) -> Iterator[Finding]:
    there = folder
    while not there.exists():
        there = there.parent
    if not os.access(there, os.W_OK):
        yield Finding("data folder", "fail", f"{folder} cannot be written", "choose another: --data or DUBFARM_DATA")
        return
    free = shutil.disk_usage(there).free
    detail = f"{folder}, {free / 2**30:.0f} GiB free"
    if free < LEAST_FREE:
        yield Finding("data folder", "warn", detail, "inputs, segments and outputs live there: make room")
    else:
        yield Finding("data folder", "ok", detail)


def services() -> Iterator[Finding]:
    """Each of the three outside services where named, else whether the embedded one could start."""
    database, broker = os.environ.get("DATABASE_URL"), os.environ.get("BROKER_URL")
    if database:
        yield _reach("DATABASE_URL", lambda: _ping_database(database))
    else:
        yield _binary("Postgres", "postgres")
    if broker:
        yield _reach("BROKER_URL", lambda: _ping_broker(broker))
    else:
        yield _binary("Valkey", "valkey")
    if url := os.environ.get("STORAGE_URL"):
        yield _reach("STORAGE_URL", lambda: _ping_storage(url))


def _reach(name: str, ping: Callable[[], None]) -> Finding:
    try:
        ping()
    except (Transient, Rejected) as error:
        return Finding(name, "fail", error.detail, f"correct {name}, or unset it to use the embedded service")
    return Finding(name, "ok", "answers")


def _ping_database(url: str) -> None:
    from farm.db.session import connect

    database = connect(url, pool_size=1, timeout_s=10)
    try:
        database.ping()
    finally:
        database.close()


def _ping_broker(url: str) -> None:
    from farm import queue

    queue.ping(url)


def _ping_storage(url: str) -> None:
    from farm.storage.blobs import open_store

    next(iter(open_store(url, os.environ.get("STORAGE_ENDPOINT_URL")).list("doctor/")), None)


def _binary(name: str, which: str) -> Finding:
    from farm.embedded.services import postgres_binaries, valkey_binary

    try:
        path = postgres_binaries() / "postgres" if which == "postgres" else valkey_binary()
    except Rejected as error:
        return Finding(name, "warn", error.detail)
    return Finding(name, "ok", f"embedded, {path}")


def port(folder: Path) -> Iterator[Finding]:
    running = address.running(folder)
    if running is not None:
        yield Finding("farm", "ok", f"running at {running.url} (pid {running.pid})")
        return
    from farm.embedded.farm import PORT

    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", PORT)) == 0
    if taken:
        yield Finding("port", "warn", f"{PORT} is taken; dubfarm up will choose another", "or give --port")
    else:
        yield Finding("port", "ok", f"{PORT} is free")


def the_farm(server: str | None, key: str | None, folder: Path) -> Iterator[Finding]:
    found = target(server, key, folder)
    if found is None:
        yield Finding("server", "ok", "no farm is running (dubfarm up starts one)")
        return
    with Client(found.url, found.key, retries=0, timeout_s=10) as client:
        if not client.ready():
            yield Finding("server", "fail", f"{found.url} is not ready", "look into its logs, and at /readyz")
            return
        yield Finding("server", "ok", f"{found.url} is ready")
        try:
            next(client.batches(), None)
        except ApiError as error:
            yield Finding("API key", "fail", error.detail, "give a key of this farm with --key or DUBFARM_KEY")
            return
        yield Finding("API key", "ok", "accepted")
        champion = next((v for v in client.versions() if "champion" in v.aliases), None)
        if champion is None:
            yield Finding("model", "fail", "no champion", "dubfarm models import-official FOLDER --promote")
        elif not champion.trained:
            yield Finding("model", "warn", f"{champion.name} is untrained", "README.md, 'Official weights'")
        else:
            yield Finding("model", "ok", champion.name)
        workers = [worker for worker in client.workers() if worker.status not in ("gone", "lost")]
        if workers:
            yield Finding("workers", "ok", ", ".join(f"{w.id} ({w.device}, {w.status})" for w in workers))
        else:
            yield Finding("workers", "warn", "none: batches wait", "start one: python -m workers (or dubfarm up)")
