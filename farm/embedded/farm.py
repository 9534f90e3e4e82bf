"""The one-machine farm: everything a studio runs on a fleet, as child processes of one command on one folder."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import httpx

import farm
from farm import machine
from farm.embedded import address, first_start, process
from farm.embedded.address import Address
from farm.embedded.services import Service, hold, start_postgres, start_valkey
from farm.embedded.supervisor import App, Running, Supervisor
from farm.errors import Rejected, Transient
from farm.settings import FarmSettings

PORT = 8700
API_READY_S = 90.0
STAGES = {"postgres": 0, "valkey": 1, "api": 2, "control": 3, "worker": 3}
"""What ends together; higher numbers first."""


class EmbeddedFarm:
    """Postgres, Valkey, API, control and workers on one data folder.

    Each of DATABASE_URL, BROKER_URL and STORAGE_URL that is set in `environment` is used instead of an own service.
    port None: 8700 when free, else any. Only one farm at a time may hold a folder.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        workers: int = 1,
        host: str = "127.0.0.1",
        port: int | None = None,
        file_roots: Sequence[Path] = (),
        say: Callable[[str], None] = lambda line: None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self.logs = self.data_dir / "logs"
        self._workers = workers
        self._host = host
        self._port = port
        self._file_roots = tuple(file_roots)
        self._say = say
        self._environment = dict(os.environ if environment is None else environment)
        self._supervisor = Supervisor(say)
        self._watch: threading.Thread | None = None
        self._lock: IO[bytes] | None = None
        self._listening: socket.socket | None = None
        self.address: Address | None = None

    def __enter__(self) -> Address:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Address:
        """Bring everything up and return once the API answers. Raises Rejected (folder or port in use), Transient (a
        child does not come up; its log's end is in the message); nothing is left running then."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._lock = _hold(self.data_dir)
        try:
            return self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> Address:
        self._listening = self._listen()
        port = self._listening.getsockname()[1]
        environment = self._services()
        self._say("preparing the database")
        settings = FarmSettings(
            database_url=environment["DATABASE_URL"],
            broker_url=environment["BROKER_URL"],
            storage_url=environment["STORAGE_URL"],
            storage_endpoint_url=environment.get("STORAGE_ENDPOINT_URL"),
        )
        first_start.set_up(settings, self._say, self.logs)
        key = first_start.owner_key(settings, address.read(self.data_dir))

        shown = "127.0.0.1" if self._host in ("0.0.0.0", "::") else self._host
        url = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
        # Ours while the API comes and goes: who connects in between waits instead of being refused.
        api = {"DUBFARM_API_FD": str(self._listening.fileno()), "DUBFARM_API_PORT": str(port)}
        self._say("starting the API")
        self._app("api", ["-m", "api"], environment | api, API_STOP, (self._listening.fileno(),))
        self._app("control", ["-m", "workers", "--control", "--beat"], environment, CONTROL_STOP)
        for number in range(1, self._workers + 1):
            self._app(f"worker-{number}", ["-m", "workers"], self._for_worker(environment, number), WORKER_STOP)
        self._watch = threading.Thread(target=self._supervisor.watch, name="supervisor", daemon=True)
        self._watch.start()
        self._wait_for_api(url)
        self.address = Address(
            url, key, os.getpid(), environment["DATABASE_URL"], environment["BROKER_URL"], environment["STORAGE_URL"]
        )
        address.write(self.data_dir, self.address)
        return self.address

    def wait(self) -> None:
        """Until SIGINT or SIGTERM; then end everything. A second signal hastens. SIGHUP renews every process in turn.
        From the main thread only."""
        asked = threading.Event()
        renewal = threading.Event()

        def on_signal(_number: int, _frame: object) -> None:
            if asked.is_set():
                self.hasten()
            asked.set()

        earlier = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        earlier[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: renewal.set())
        try:
            while not asked.wait(0.5):
                if renewal.is_set():
                    renewal.clear()
                    self.renew()
            self._say("stopping: workers hand back their chunks first (once more to hasten)")
            self.stop()
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def processes(self) -> dict[str, int]:
        """Pids of what runs now: postgres, valkey, api, control, worker-1, worker-2, …"""
        return self._supervisor.pids()

    def renew(self) -> None:
        """Restart every process, one after another, workers first, while the farm goes on: to take up a new version of
        the code, or new settings of a service. A worker hands its chunk back, requests wait at the door."""
        for name in sorted(self._supervisor.pids(), key=lambda name: STAGES[name.split("-")[0]], reverse=True):
            self._say(f"restarting {name}")
            try:
                self._supervisor.renew(name)
                if name == "api" and self.address is not None:
                    self._wait_for_api(self.address.url)
            except Transient as error:
                self._say(f"{name}: {error.detail}")

    def hasten(self) -> None:
        """Do not wait for anybody any more while stopping."""
        self._supervisor.hasten.set()

    def stop(self) -> None:
        """Workers first and softly, then API, Valkey, Postgres; bounded. Harmless to call twice."""
        self._supervisor.stop()
        if self._watch is not None:
            self._watch.join()
            self._watch = None
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _services(self) -> dict[str, str]:
        """The children's environment, with our own Postgres, Valkey and folder where nothing else is named."""
        environment = {name: value for name, value in self._environment.items() if not name.startswith("PG")}
        if not environment.get("DATABASE_URL"):
            self._say("starting Postgres")
            environment["DATABASE_URL"] = self._service("postgres", start_postgres)
        if not environment.get("BROKER_URL"):
            self._say("starting Valkey")
            environment["BROKER_URL"] = self._service("valkey", start_valkey)
        if not environment.get("STORAGE_URL"):
            blobs = self.data_dir / "blobs"
            blobs.mkdir(exist_ok=True)
            environment["STORAGE_URL"] = blobs.as_uri()
        inputs = self.data_dir / "inputs"
        inputs.mkdir(exist_ok=True)
        roots = [str(root.expanduser().resolve()) for root in (inputs, *self._file_roots)]
        environment.setdefault("DUBFARM_INPUT_SCHEMES", '["https", "s3", "file"]')
        environment.setdefault("DUBFARM_INPUT_FILE_ROOTS", json.dumps(roots))
        # Training shares the machine with the workers, and makes room for them.
        environment.setdefault("DUBFARM_TRAIN_SHARES_WITH", '["render"]')
        environment.setdefault("DUBFARM_TRAIN_LOG_DIR", str(self.logs / "training"))
        environment.setdefault("DUBFARM_TRAIN_CORPUS_DIR", str(self.data_dir / "corpus"))
        # On a farm of one machine, receivers are on that machine too.
        environment.setdefault("DUBFARM_WEBHOOK_SCHEMES", '["https", "http"]')
        environment.setdefault("DUBFARM_WEBHOOK_PRIVATE_HOSTS", '["127.0.0.1", "localhost"]')
        # The package may lie in a folder that is not installed; children run elsewhere, where nothing can shadow it.
        package = str(Path(farm.__file__).resolve().parent.parent)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package, environment.get("PYTHONPATH")]))
        return environment

    def _service(self, name: str, start: Callable[..., Service]) -> str:
        """Start one and keep it running: always on the same port, which the other children know."""
        folder, log = self.data_dir / name, self.logs / f"{name}.log"
        first: list[Service] = []

        def again() -> Running:
            service = start(folder, port=first[0].port if first else None, log=log)
            first.append(service)
            return service

        self._supervisor.add(name, again, STAGES[name])
        return first[0].url

    def _app(
        self,
        name: str,
        arguments: list[str],
        environment: Mapping[str, str],
        stop: Sequence[tuple[int, float]],
        pass_fds: Sequence[int] = (),
    ) -> None:
        def start() -> Running:
            log = self.logs / f"{name}.log"
            command = [sys.executable, *arguments]
            return App(process.spawn(command, log, env=environment, cwd=self.data_dir, pass_fds=pass_fds), stop)

        self._supervisor.add(name, start, STAGES[name.split("-")[0]])

    def _for_worker(self, environment: Mapping[str, str], number: int) -> dict[str, str]:
        """One worker's share of the machine, and a cache of its own."""
        threads = max(1, machine.cores() // self._workers)
        shares = {
            "OMP_NUM_THREADS": str(threads),
            "DUBFARM_WORKER_THREADS": str(threads),
            "DUBFARM_WORKER_MEMORY_BYTES": str(machine.memory_bytes() * 4 // 5 // self._workers),
            "DUBFARM_WORKER_CACHE_DIR": str(self.data_dir / "cache" / f"worker-{number}"),
        }
        return {**shares, **environment}  # what the user says himself wins

    def _listen(self) -> socket.socket:
        """The API's door: on the port that was asked for, else on 8700 when free, else on any."""
        if self._port is not None:
            if (door := _door(self._host, self._port)) is None:
                raise Rejected("port_in_use", f"port {self._port} on {self._host} is taken; choose another with --port")
            return door
        door = _door(self._host, PORT) or _door(self._host, 0)
        assert door is not None
        return door

    def _wait_for_api(self, url: str) -> None:
        deadline, earlier = time.monotonic() + API_READY_S, self._supervisor.deaths("api")
        while time.monotonic() < deadline and self._supervisor.deaths("api") < earlier + 3:
            try:
                if httpx.get(f"{url}/readyz", timeout=5).is_success:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        raise process.not_started("The API", self.logs / "api.log")


API_STOP = ((signal.SIGTERM, 15.0),)
CONTROL_STOP = ((signal.SIGTERM, 40.0),)
"""A run on this machine leaves a checkpoint first."""
WORKER_STOP = ((signal.SIGTERM, 20.0),)
BACKLOG = 1024


def _hold(data_dir: Path) -> IO[bytes]:
    """The folder's lock. Tried again for a moment: `address.is_held` takes it for an instant to look."""
    deadline = time.monotonic() + 1.0
    while True:
        try:
            return hold(data_dir / address.LOCK, "farm")
        except Rejected:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _door(host: str, port: int) -> socket.socket | None:
    """A socket that listens; None where the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((host, port))
        door.listen(BACKLOG)
    except OSError as error:
        door.close()
        if isinstance(error, socket.gaierror):
            raise Rejected("host_unknown", f"--host {host}: {error}") from None
        return None
    return door


__all__ = ["Address", "EmbeddedFarm", "Rejected", "Transient"]
