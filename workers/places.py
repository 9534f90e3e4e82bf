"""Where training runs compute: this machine, or a Ray cluster. Both know an attempt by what it was started with."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import httpx

from farm import log
from farm.domain.reconcile import Life, Seen
from farm.domain.run import Attempt
from farm.embedded import process
from farm.errors import Transient

logger = log.get(__name__)

FARM, RUN, ATTEMPT, SUBMISSION = "DUBFARM_TRAINS_FOR", "DUBFARM_RUN", "DUBFARM_ATTEMPT", "DUBFARM_SUBMISSION"
"""What every process of an attempt has in its environment: whose it is is asked of the process, never remembered."""
TRAINER: Final = ("-m", "trainer", "run")
KILL_S: Final = 10.0
_UNTOLD: Final = ("DATABASE_URL", "BROKER_URL", "DUBFARM_API_FD", "DUBFARM_API_PORT")
"""A trainer has no business with these."""


@dataclass(frozen=True)
class Order:
    """An attempt to start. arguments: of the trainer. computes: by itself, not by Ray workers, which ask for what they
    need; needs_gpu: on a GPU."""

    attempt: Attempt
    arguments: Sequence[str]
    computes: bool = True
    needs_gpu: bool = False


@dataclass(frozen=True)
class Going:
    """Something that runs: of which run, and which attempt's it says that it is."""

    run_id: str
    token: str
    submission_id: str


class Place(Protocol):
    """Every method may raise Transient; none does anything twice for one attempt."""

    host: str | None
    """Of the attempts that are its own; None: a cluster's."""
    halts: bool
    """Whether it can halt an attempt and let it go on."""

    def start(self, order: Order) -> None: ...

    def look(self, attempt: Attempt) -> Seen:
        """Whether it runs; without its report."""
        ...

    def end(self, going: Going) -> None:
        """For good. Harmless when nothing is there."""
        ...

    def halt(self, attempt: Attempt, halted: bool) -> None: ...

    def running(self) -> tuple[Going, ...]:
        """All attempts of this farm that run here."""
        ...

    def close(self) -> None:
        """The launcher ends."""
        ...


def machine() -> str:
    """This machine until it boots anew (a container is one too)."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{os.uname().nodename}/{boot.read_text().strip()[:8] if boot.exists() else 'here'}"


# --- this machine --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Process:
    pid: int
    going: Going
    line: str

    @property
    def is_trainer(self) -> bool:
        return " ".join(TRAINER) in self.line


class LocalPlace:
    """Attempts as child processes, at low priority, that end with us: SIGTERM reaches them when our thread dies, and
    they leave a checkpoint. Call it from one long-lived thread."""

    halts = True

    def __init__(self, farm_id: str, logs: Path, *, threads: int = 1, niceness: int = 15) -> None:
        self.host: str | None = machine()
        self._farm_id, self._logs, self._threads, self._niceness = farm_id, logs, threads, niceness
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._thread: int | None = None

    def start(self, order: Order) -> None:
        assert self._thread in (None, threading.get_ident()), "children die with the thread that started them"
        self._thread = threading.get_ident()
        attempt = order.attempt
        # Whatever an earlier attempt left behind goes first: nothing runs twice.
        others = [found for found in self._processes() if found.going.run_id == attempt.run_id]
        if any(found.going.token == attempt.token for found in others):
            return
        self._kill(others)
        marks = {
            FARM: self._farm_id,
            RUN: attempt.run_id,
            ATTEMPT: attempt.token,
            SUBMISSION: attempt.submission_id,
        }
        threads = {
            "OMP_NUM_THREADS": str(self._threads),
            "OMP_WAIT_POLICY": "PASSIVE",
            "MKL_NUM_THREADS": str(self._threads),
        }
        environment = {name: value for name, value in told_of_the_store(os.environ).items() if name not in _UNTOLD}
        command = [sys.executable, *TRAINER, *order.arguments]
        child = process.spawn(
            command,
            self._logs / f"{attempt.submission_id}.log",
            env={**environment, "PYTHONPATH": _package(), **threads, **marks},
            death_signal=signal.SIGTERM,
        )
        self._children[attempt.token] = child
        try:
            nice = max(self._niceness, os.getpriority(os.PRIO_PROCESS, 0))
            os.setpriority(os.PRIO_PROCESS, child.pid, nice)
        except OSError as error:
            logger.warning("training runs at full priority", error=str(error))

    def look(self, attempt: Attempt) -> Seen:
        child = self._children.get(attempt.token)
        code = child.poll() if child is not None else None
        mine = [found for found in self._processes() if found.going.token == attempt.token]
        if child is None and any(found.is_trainer for found in mine):
            return Seen(Life.ALIVE)  # a child of an earlier us, which SIGTERM has reached
        if child is not None and code is None:
            return Seen(Life.ALIVE)
        if mine:  # what a trainer that is gone left behind (Ray's own processes)
            self._kill(mine)
        detail = "its processes ended without a word" if code is None else f"the trainer ended with {code}"
        tail = process.tail(self._logs / f"{attempt.submission_id}.log", 3) if code not in (0, 3) else ""
        return Seen(Life.GONE, None, code, f"{detail}{': ' + tail[-500:] if tail else ''}")

    def end(self, going: Going) -> None:
        self._kill([found for found in self._processes() if found.going.token == going.token])

    def halt(self, attempt: Attempt, halted: bool) -> None:
        number = signal.SIGSTOP if halted else signal.SIGCONT
        for found in self._processes():
            if found.going.token == attempt.token:
                _send(found.pid, number)

    def running(self) -> tuple[Going, ...]:
        return tuple(dict.fromkeys(found.going for found in self._processes()))

    def close(self) -> None:
        """Ask the children to stop where they are; they leave a checkpoint, and the next launcher goes on from it."""
        for token, child in self._children.items():
            if child.poll() is None:
                for found in self._processes():
                    if found.going.token == token:
                        _send(found.pid, signal.SIGCONT)
                process.end(child, ((signal.SIGTERM, 20.0),))
        self._kill(self._processes())

    def _kill(self, found: Sequence[_Process]) -> None:
        """Gone when this returns. Raises Transient("training_not_ended")."""
        pids = {one.pid for one in found}
        for pid in pids:
            _send(pid, signal.SIGKILL)
        until = time.monotonic() + KILL_S
        while pids:
            for child in self._children.values():
                child.poll()
            pids &= {one.pid for one in self._processes()}
            if pids and time.monotonic() > until:
                raise Transient("training_not_ended", f"processes {sorted(pids)} of a training run do not end")
            if pids:
                time.sleep(0.05)

    def _processes(self) -> list[_Process]:
        """All processes of this farm's attempts, whoever started them; a zombie has no environment any more."""
        found: list[_Process] = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal():
                continue
            try:
                raw = (folder / "environ").read_bytes()
                if FARM.encode() not in raw:
                    continue
                pairs = (pair.partition("=") for pair in raw.decode(errors="replace").split("\0"))
                marks = {name: value for name, _, value in pairs if name.startswith("DUBFARM_")}
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if marks.get(FARM) == self._farm_id and marks.get(ATTEMPT):
                going = Going(marks.get(RUN, ""), marks[ATTEMPT], marks.get(SUBMISSION, ""))
                found.append(_Process(int(folder.name), going, line))
        return found


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _package() -> str:
    root = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))


# --- a Ray cluster ---------------------------------------------------------------------------------------------------

_LIVING: Final = frozenset({"PENDING", "RUNNING"})


class RayPlace:
    """Attempts as Ray Jobs, over the REST interface of the cluster's dashboard (`http://head:8265`).

    Spoken with httpx rather than Ray's client: three calls, and the control worker needs no Ray of the cluster's very
    version. A submission id is taken once: a second submission is refused by the cluster.
    https://docs.ray.io/en/latest/cluster/running-applications/job-submission/rest.html
    """

    halts = False

    def __init__(self, address: str, farm_id: str, environment: Mapping[str, str], token: str | None = None) -> None:
        """environment: of the jobs. token: of the cluster, which asks for one unless RAY_AUTH_MODE=disabled."""
        self.host: str | None = None
        self._farm_id, self._environment = farm_id, dict(environment)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        timeout = httpx.Timeout(15.0, connect=5.0)
        self._http = httpx.Client(base_url=address.rstrip("/"), timeout=timeout, headers=headers)

    def start(self, order: Order) -> None:
        attempt = order.attempt
        marks = {FARM: self._farm_id, RUN: attempt.run_id, ATTEMPT: attempt.token, SUBMISSION: attempt.submission_id}
        body = {
            "submission_id": attempt.submission_id,
            "entrypoint": shlex.join(["python", *TRAINER, *order.arguments]),
            "metadata": marks,
            "runtime_env": {"env_vars": {**self._environment, **marks}},
        }
        if order.computes:  # else the head would take it, which may be too small to compute
            body |= {"entrypoint_num_cpus": 1, **({"entrypoint_num_gpus": 1} if order.needs_gpu else {})}
        answer = self._ask("POST", "/api/jobs/", json=body)
        if not answer.is_success and self._get(attempt.submission_id) is None:
            raise Transient("ray_refused", f"Ray answered {answer.status_code}: {answer.text[-500:]}")

    def look(self, attempt: Attempt) -> Seen:
        try:
            job = self._get(attempt.submission_id)
        except Transient as error:
            return Seen(Life.UNKNOWN, detail=error.detail)
        if job is None:
            return Seen(Life.GONE, detail="the cluster does not know it (its head has started anew)")
        if job.get("status") in _LIVING:
            return Seen(Life.ALIVE)
        code = job.get("driver_exit_code")
        message = f"Ray: {job.get('status')} {str(job.get('message') or '')[-500:]}"
        return Seen(Life.GONE, None, code if isinstance(code, int) else None, message)

    def end(self, going: Going) -> None:
        self._ask("POST", f"/api/jobs/{going.submission_id}/stop")

    def halt(self, attempt: Attempt, halted: bool) -> None:
        raise NotImplementedError("a cluster's attempts make room by stopping")

    def running(self) -> tuple[Going, ...]:
        answer = self._ask("GET", "/api/jobs/")
        if not answer.is_success:
            raise Transient("ray_refused", f"Ray answered {answer.status_code}")
        return tuple(
            Going(marks.get(RUN, ""), marks.get(ATTEMPT, ""), job["submission_id"])
            for job in answer.json()
            if (marks := job.get("metadata") or {}).get(FARM) == self._farm_id
            and job.get("status") in _LIVING
            and job.get("submission_id")
        )

    def close(self) -> None:
        self._http.close()

    def _get(self, submission_id: str) -> dict[str, Any] | None:
        answer = self._ask("GET", f"/api/jobs/{submission_id}")
        if answer.status_code == 404:
            return None
        if not answer.is_success:
            raise Transient("ray_refused", f"Ray answered {answer.status_code}")
        return answer.json()

    def _ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise Transient("ray_unavailable", f"the Ray cluster does not answer: {error}") from error
        if answer.status_code in (401, 403):
            raise Transient("ray_token_refused", "the Ray cluster wants a token: set RAY_AUTH_TOKEN to its own")
        return answer


def told_of_the_store(environment: Mapping[str, str]) -> dict[str, str]:
    """With the farm's S3 server under the name that boto3, and so the trainer, looks for it by."""
    endpoint = environment.get("STORAGE_ENDPOINT_URL")
    return {**({"AWS_ENDPOINT_URL_S3": endpoint} if endpoint else {}), **environment}


def ray_token(environment: Mapping[str, str]) -> str | None:
    """The cluster's token, from where Ray itself looks for it."""
    if token := environment.get("RAY_AUTH_TOKEN"):
        return token.strip()
    file = Path(environment.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    return file.read_text().strip() if file.is_file() else None
