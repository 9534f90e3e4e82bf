"""Training attempts as Ray Jobs: a real head with its dashboard, killed and started anew."""

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

from farm.domain.reconcile import Life
from farm.domain.run import Attempt
from farm.embedded.process import free_port
from farm.errors import Transient
from workers.launcher import environment_of
from workers.places import Going, Order, RayPlace, ray_token

PATIENCE_S = 300.0
ATTEMPT = Attempt("run_" + "1" * 32, 1, "a-token", None, datetime.now(UTC))


class Head:
    """`ray start --head` in a session of its own: nothing else that is Ray's on this machine is touched."""

    def __init__(self, folder: Path) -> None:
        self.port, self.dashboard, self.folder = free_port(), free_port(), folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        ray = str(Path(sys.executable).with_name("ray"))
        command = [ray, "start", "--head", f"--port={self.port}", f"--dashboard-port={self.dashboard}"]
        command += ["--dashboard-host=127.0.0.1", "--node-ip-address=127.0.0.1", "--num-cpus=2", "--num-gpus=0"]
        command += [f"--temp-dir={self.folder}", "--disable-usage-stats", "--object-store-memory=80000000"]
        # Not --block, which ends all of it when the server of Ray's client is slow to come up.
        command += [f"--ray-client-server-port={free_port()}"]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with (self.folder / "head.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, "PATH": path}
            )

    def kill(self) -> None:
        """SIGKILL of all of it, its jobs' drivers too."""
        assert self._process is not None
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                line = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
                if str(self.folder).encode() in line and int(folder.name) != os.getpid():
                    os.kill(int(folder.name), signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


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
    place = RayPlace(f"http://127.0.0.1:{head.dashboard}", "a farm", {"PYTHONPATH": os.getcwd()}, token)
    assert place.look(ATTEMPT).life is Life.UNKNOWN, "nobody answers yet"
    until(lambda: place.look(ATTEMPT).life is Life.GONE, "answering")
    corpus = ["--data", str(tmp_path / "corpus"), "--set", "stages.readout.steps=100000"]
    order = Order(ATTEMPT, ["--recipe", "smoke", "--out", str(tmp_path / "out"), *corpus])
    until(lambda: place.start(order) is None, "submitted")
    place.start(order)  # refused by Ray, and no mistake of ours
    (going,) = place.running()
    assert going == Going(ATTEMPT.run_id, "a-token", ATTEMPT.submission_id)
    other = RayPlace(f"http://127.0.0.1:{head.dashboard}", "another farm", {}, token)
    assert other.running() == ()
    until((tmp_path / "out" / "status.json").exists, "training")
    assert place.look(ATTEMPT).life is Life.ALIVE

    head.kill()
    assert place.look(ATTEMPT).life is Life.UNKNOWN
    head.start()
    until(lambda: place.look(ATTEMPT).life is not Life.UNKNOWN, "back")
    until(lambda: place.look(ATTEMPT).life is Life.GONE, "gone with its head")

    second = Attempt(ATTEMPT.run_id, 2, "another-token", None, datetime.now(UTC))
    until(lambda: place.start(Order(second, order.arguments)) is None, "submitted")
    until(lambda: place.look(second).life is Life.ALIVE, "running")
    place.end(Going(second.run_id, second.token, second.submission_id))
    until(lambda: place.look(second).life is Life.GONE, "ended")
    assert place.running() == ()


def test_a_clusters_trainer_is_told_of_the_store_and_of_nothing_else() -> None:
    ours = {"STORAGE_ENDPOINT_URL": "http://s3:8333", "AWS_ACCESS_KEY_ID": "a", "DATABASE_URL": "postgresql://secret"}
    told = {"STORAGE_ENDPOINT_URL": "http://s3:8333", "AWS_ACCESS_KEY_ID": "a", "AWS_ENDPOINT_URL_S3": "http://s3:8333"}
    assert environment_of(ours) == told, "trainer.out asks boto3's name for the server"
    assert environment_of({**ours, "AWS_ENDPOINT_URL_S3": "http://other"})["AWS_ENDPOINT_URL_S3"] == "http://other"
    assert environment_of({"AWS_ACCESS_KEY_ID": "a"}) == {"AWS_ACCESS_KEY_ID": "a"}
