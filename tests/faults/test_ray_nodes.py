"""Training across machines: a Ray head and two nodes, a network namespace each; one's plug is pulled while they train.

The recipe `smoke` by its own command. Times are printed, none is asserted: run it with `-s` (make nodes).
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.faults import cable
from tests.faults.switch import Machine, machines
from trainer import curves
from trainer.recipes import smoke

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT: Final = Path(__file__).resolve().parents[2]
PATIENCE_S: Final = 500.0
SPEC: Final = yaml.safe_load((ROOT / "infra" / "kuberay" / "raycluster.yaml").read_text())["spec"]


def settings(group: Mapping[str, Any]) -> list[str]:
    """What `ray start` is begun with to run under the settings that KubeRay's manifest gives this kind of machine."""
    (container,) = group["template"]["spec"]["containers"]
    return ["env", *(f"{entry['name']}={entry['value']}" for entry in container["env"])]


class Cluster:
    """A head without a processor for training, and nodes that are kept running as a service manager would."""

    def __init__(self, folder: Path, head: Machine, nodes: Sequence[Machine]) -> None:
        self.folder, self.head, self.nodes = folder, head, nodes
        self._temp = Path(f"/tmp/rn{secrets.token_hex(4)}")  # Ray's sockets lie under it, and their paths are short
        self._temp.mkdir()
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "eth0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "45",  # so long a group of the old size is waited for
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        self._stopped = threading.Event()
        self._started: list[subprocess.Popen[bytes]] = []
        self.starts = dict.fromkeys((node.address for node in nodes), 0)

    def start(self) -> None:
        ray = ["ray", "start", "--block", "--object-store-memory=80000000"]
        here = [f"--node-ip-address={self.head.address}", "--port=6379", f"--temp-dir={self._temp}", "--num-cpus=0"]
        self.run(
            self.head, "head", *settings(SPEC["headGroupSpec"]), *ray, "--head", *here, "--include-dashboard=false"
        )
        for node in self.nodes:
            there = [f"--address={self.head.address}:6379", f"--node-ip-address={node.address}", "--num-cpus=1"]
            command = [*settings(SPEC["workerGroupSpecs"][0]), *ray, *there]
            threading.Thread(target=self._keep, args=(node, command), daemon=True).start()
        deadline = time.monotonic() + PATIENCE_S
        while not all("Ray runtime started" in self.log(f"node-{node.address}") for node in self.nodes):
            assert time.monotonic() < deadline, self.log("head")
            time.sleep(0.2)

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def run(self, machine: Machine, log: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{log}.log").open("ab") as out:
            process = subprocess.Popen(
                [*machine.prefix, *command], env=self._environment, stdout=out, stderr=out, start_new_session=True
            )
        self._started.append(process)
        return process

    def _keep(self, node: Machine, command: Sequence[str]) -> None:
        while not self._stopped.wait(2.0):
            process = self.run(node, f"node-{node.address}", *command)
            self.starts[node.address] += 1
            process.wait()

    def stop(self) -> None:
        self._stopped.set()
        for machine in (self.head, *self.nodes):
            machine.empty()
        for process in self._started:
            process.kill()
            process.wait()
        shutil.rmtree(self._temp, ignore_errors=True)


class Training:
    """The command, and what its folder says."""

    def __init__(self, cluster: Cluster, workers: str) -> None:
        self._cluster, self._began = cluster, time.monotonic()
        self.out = cluster.folder / "out"
        arguments = ["--recipe", "smoke", "--out", str(self.out), "--data", str(cluster.folder / "data")]
        arguments += ["--set", "checkpoint_every=2", "--workers", workers, "--ray", f"{cluster.head.address}:6379"]
        command = [sys.executable, "-m", "trainer", "run", *arguments]
        self.process = cluster.run(cluster.head, "driver", *command)

    @property
    def status(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            return json.loads((self.out / "status.json").read_text())
        return {}

    def committed(self) -> int:
        """Steps of the long stage in its newest checkpoint."""
        found = self.out.glob("checkpoints/appearance_motion-*/manifest.json")
        return max((int(path.parent.name.rpartition("-")[2]) for path in found), default=0)

    def until(self, happened: Callable[[], object], what: str) -> float:
        """Seconds that it took; also printed."""
        began = time.monotonic()
        while not happened():
            assert self.process.poll() in (None, 0), self.log()
            assert time.monotonic() - began < PATIENCE_S, f"not {what}: {self.status}\n{self.log()}"
            time.sleep(0.1)
        took = time.monotonic() - began
        self.say(f"{took:.0f} s until {what}")
        return took

    def say(self, text: str) -> None:
        now, workers = time.monotonic() - self._began, self.status.get("workers")
        print(f"{now:6.0f} s: {text}; {workers} workers, {self.committed()} steps committed", flush=True)

    def log(self) -> str:
        return self._cluster.log("driver")[-4000:]


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    if not cable.can_be_laid():
        pytest.skip("machines of their own need iproute2 and the right to make network namespaces")
    with ExitStack() as stack:
        head, east, west = stack.enter_context(machines(3))
        made = Cluster(folder, head, (east, west))
        stack.callback(made.stop)
        made.start()
        yield made


@pytest.mark.parametrize("workers", ["2", "1-2"])
def test_a_node_is_cut_off_while_two_train_and_comes_back(tmp_path: Path, workers: str) -> None:
    with cluster(tmp_path) as made:
        run, west = Training(made, workers), made.nodes[1]
        run.until(lambda: run.committed() >= 4 and run.status.get("workers") == 2, "two nodes train")
        west.cut()
        run.say("cut")
        starts, stood = made.starts[west.address], run.committed()
        if workers == "1-2":
            run.until(lambda: run.committed() > stood + 2 and run.status["workers"] == 1, "the other trains on alone")
        run.until(lambda: made.starts[west.address] > starts, "the node has given its head up")
        if workers == "2":
            # Nobody trains on by himself: the next step needs both.
            time.sleep(20)
            assert run.committed() <= stood + 2
        stood = run.committed()
        west.mend()
        run.say("mended")
        run.until(lambda: run.committed() > stood + 2 or run.status["stage_number"] > 2, "steps are made again")
        run.until(lambda: run.process.poll() is not None, "the end")
        assert (run.process.returncode, run.status["state"]) == (0, "succeeded"), run.log()
        expected = [(stage.name, step) for stage in smoke().stages for step in range(stage.steps)]
        found = [(line["stage"], line["step"]) for line in curves.entries(run.out / curves.CURVES)]
        assert sorted(found) == sorted(expected), "every step counts once"
        assert (run.out / "bundle" / "manifest.json").exists()
