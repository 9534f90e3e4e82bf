"""Training attempts as Ray Jobs: a real head with its dashboard, killed and started anew; so is who looks after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from farm.db.session import Database
from farm.domain.reconcile import Life
from farm.domain.run import OPEN, Attempt, Outcome, RunSpec, RunStatus
from farm.embedded.process import free_port
from farm.errors import Transient
from farm.storage.blobs import open_store
from tests.workers.test_launcher import STAGES, Farm
from trainer.status import read_status
from workers.launcher import environment_of
from workers.places import Going, Order, RayPlace, ray_token

PATIENCE_S = 300.0
OURS = "DUBFARM_TEST_HEAD"
ATTEMPT = Attempt("run_" + "1" * 32, 1, "a-token", None, datetime.now(UTC))


class Head:
    """`ray start --head` in a session of its own: nothing else that is Ray's on this machine is touched."""

    def __init__(self, folder: Path) -> None:
        self.port, self.dashboard, self.folder = free_port(), free_port(), folder
        self.url = f"http://127.0.0.1:{self.dashboard}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        ray = str(Path(sys.executable).with_name("ray"))
        command = [ray, "start", "--head", f"--port={self.port}", f"--dashboard-port={self.dashboard}"]
        # A GPU by name: what asks for one gets its number, and computes on the CPU all the same.
        command += ["--dashboard-host=127.0.0.1", "--node-ip-address=127.0.0.1", "--num-cpus=2", "--num-gpus=1"]
        command += [f"--temp-dir={self.folder}", "--disable-usage-stats", "--object-store-memory=80000000"]
        # Not --block, which ends all of it when the server of Ray's client is slow to come up.
        command += [f"--ray-client-server-port={free_port()}"]
        ours = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", OURS: str(self.folder)}
        ours |= {"PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
        with (self.folder / "head.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **ours}
            )

    def kill(self) -> None:
        """SIGKILL of all of it, its jobs' drivers too, as if the machine had died."""
        assert self._process is not None
        found = self._processes()
        while found:
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.poll()
            found = self._processes()
        self._process.wait()

    def _processes(self) -> set[int]:
        """What it started: what has its environment, which some of Ray's write over, and the children of such."""
        found, parents = set[int](), dict[int, int]()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                pid, stat = int(folder.name), (folder / "stat").read_text().rpartition(")")[2].split()
                if stat[0] != "Z":
                    parents[pid] = int(stat[1])
                    if f"{OURS}={self.folder}".encode() in (folder / "environ").read_bytes():
                        found.add(pid)
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return found


@pytest.fixture
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    # Ray's sockets lie under it, and their paths are short.
    folder = Path(f"/tmp/ray-{os.getpid()}")
    folder.mkdir(exist_ok=True)
    made = Head(folder)
    made.start()
    yield made
    made.kill()


def until(met: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with suppress(Transient):
            if met():
                return
        assert time.monotonic() < deadline, f"not {what}"
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_job_is_started_once_and_found_again(head: Head, tmp_path: Path) -> None:
    token = ray_token(os.environ)
    place = RayPlace(head.url, "a farm", {}, token)
    assert place.look(ATTEMPT).life is Life.UNKNOWN, "nobody answers yet"
    until(lambda: place.look(ATTEMPT).life is Life.GONE, "answering")
    corpus = ["--data", str(tmp_path / "corpus"), "--set", "stages.readout.steps=100000"]
    order = Order(ATTEMPT, ["--recipe", "smoke", "--out", str(tmp_path / "out"), *corpus], needs_gpu=True)
    until(lambda: place.start(order) is None, "submitted")
    place.start(order)  # refused by Ray, and no mistake of ours
    (going,) = place.running()
    assert going == Going(ATTEMPT.run_id, "a-token", ATTEMPT.submission_id)
    other = RayPlace(head.url, "another farm", {}, token)
    assert other.running() == ()
    until((tmp_path / "out" / "status.json").exists, "training")
    assert place.look(ATTEMPT).life is Life.ALIVE
    assert environments(ATTEMPT.token) == [{"CUDA_VISIBLE_DEVICES": "0"}], "it has the GPU that it asked for"

    head.kill()
    assert place.look(ATTEMPT).life is Life.UNKNOWN
    head.start()
    until(lambda: place.look(ATTEMPT).life is not Life.UNKNOWN, "back")
    until(lambda: place.look(ATTEMPT).life is Life.GONE, "gone with its head")

    second = Attempt(ATTEMPT.run_id, 2, "another-token", None, datetime.now(UTC))
    until(lambda: place.start(Order(second, order.arguments)) is None, "submitted")
    until(lambda: environments(second.token), "running")
    assert place.look(second).life is Life.ALIVE
    assert environments(second.token) == [{"CUDA_VISIBLE_DEVICES": "unset"}], "it asked for none"
    place.end(Going(second.run_id, second.token, second.submission_id))
    until(lambda: place.look(second).life is Life.GONE, "ended")
    assert place.running() == ()
    until(lambda: not environments(second.token), "ended in truth")
    place.close()
    other.close()


def environments(token: str) -> list[dict[str, str]]:
    """What Ray gave each trainer of an attempt."""
    found: list[dict[str, str]] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (folder / "cmdline").read_bytes().split(b"\0")
            pairs = (pair.partition("=") for pair in (folder / "environ").read_bytes().decode().split("\0"))
            environment = {name: value for name, _, value in pairs}
            if b"trainer" in line and b"python" in line[0] and environment.get("DUBFARM_ATTEMPT") == token:
                found.append({"CUDA_VISIBLE_DEVICES": environment.get("CUDA_VISIBLE_DEVICES", "unset")})
    return found


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_run_outlives_the_machine_of_its_driver_and_the_celery_worker(
    head: Head, database: Database, database_url: str, broker_url: str, tmp_path: Path
) -> None:
    """SIGKILL of the whole head, its job's driver with it, then of the control worker, each amid the run."""
    farm = Farm(database, database_url, tmp_path)
    ours = {
        "DATABASE_URL": database_url,
        "BROKER_URL": broker_url,
        "STORAGE_URL": farm.store_url,
        "RAY_ADDRESS": head.url,
        "DUBFARM_TRAIN_AT_ONCE": "2",
        "DUBFARM_TRAIN_CORPUS_DIR": str(tmp_path / "corpus"),
    }
    try:
        farm.watch()
        control = farm.start("-m", "workers", "--control", "--beat", **ours)
        short = {f"stages.{stage}.steps": 3 for stage in STAGES} | {"stages.readout.steps": 120, "corpus.clips": 8}
        run_id = farm.run(RunSpec("smoke", overrides={**short, "checkpoint_every": 2})).id
        out = open_store((tmp_path / "blobs" / "training" / run_id).as_uri())
        farm.until(run_id, lambda view: view.status is RunStatus.RUNNING and view.standing.step > 30, "training")

        head.kill()
        assert farm.trainers() == [], "the driver died with its machine"
        status = read_status(out)
        assert status is not None
        names = [stat.key.split("/") for stat in out.list("checkpoints/")]
        committed = max(int(name[1].rpartition("-")[2]) for name in names if name[-1] == "manifest.json")
        assert committed > 20
        until(lambda: "training not looked after" in (tmp_path / "launcher.log").read_text(), "noticed")
        view = farm.view(run_id)
        assert (view.status, view.attempts_total) == (RunStatus.RUNNING, 1), "nobody can tell: nothing is concluded"
        head.start()
        farm.until(run_id, lambda view: view.attempts_total == 2, "found lost")
        until(lambda: (now := read_status(out)) and now["attempt"] != status["attempt"] and now["step"], "resumed")
        resumed = read_status(out)
        assert resumed is not None
        assert (resumed["stage"], resumed["step"] > committed) == ("readout", True), (resumed, committed)
        (trainer,) = farm.trainers()

        control.kill()
        control.wait()
        assert farm.trainers() == [trainer], "a cluster's run does not need us"
        farm.start("-m", "workers", "--control", "--beat", **ours)
        view = farm.until(run_id, lambda view: view.status not in OPEN, "finished")
        assert view.status is RunStatus.SUCCEEDED, view
        assert view.version_id is not None
        assert [attempt.outcome for attempt in view.attempts] == [Outcome.LOST, Outcome.SUCCEEDED]
        assert farm.most_at_once == 1, farm.crowd
        lines = out.get_bytes("curves.jsonl").decode().splitlines()
        steps = [tuple(line.split(",")[:2]) for line in lines]
        assert len(steps) == len(set(steps)) == 120 + 3 * 5, "every step is there once, whatever was done again"
    finally:
        farm.end()


def test_a_clusters_trainer_is_told_of_the_store_and_of_nothing_else() -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c"}
    ours = {"STORAGE_ENDPOINT_URL": "http://s3:8333", "AWS_REGION": "eu-1", "DATABASE_URL": "postgresql://secret"}
    told = {"STORAGE_ENDPOINT_URL": "http://s3:8333", "AWS_REGION": "eu-1", "AWS_ENDPOINT_URL_S3": "http://s3:8333"}
    assert environment_of({**ours, **keys}) == told, "trainer.out asks boto3's name for the server; keys stay here"
    assert environment_of({**ours, "AWS_ENDPOINT_URL_S3": "http://other"})["AWS_ENDPOINT_URL_S3"] == "http://other"
    assert environment_of(keys) == {}
