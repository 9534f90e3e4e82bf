"""Training on real Ray workers: two give what one gives, and what is killed goes on from its last checkpoint.

Every run is the real command in a process of its own, on a small Ray of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from farm.embedded.process import free_port
from farm.errors import Rejected, Transient
from trainer import curves
from trainer.ray_run import Wave, connect, waves
from trainer.recipes import tiny

# Two stages, one with norms and dropout to share, in very few steps.
QUICK = ["--recipe", "smoke", "--set", "checkpoint_every=2", "--set", "corpus.clips=4", "--set", "corpus.held_out=1"]
SKIPPED = ("lip", "eye", "expression_generator")
LONG = 12
# Small steps: at large ones, a last digit's difference is a percent's ten steps later, whatever the loop does.
RATES = [
    f"--set=stages.appearance_motion.phases.generator.groups.{part}.rate=1e-5"
    for part in ("appearance", "trunk", "distil", "generator0")
]


def command(out: Path, data: Path, *more: str) -> list[str]:
    steps = [f"--steps={name}=0" for name in SKIPPED]
    steps += ["--steps=readout=1", "--steps=pose=1", f"--steps=appearance_motion={LONG}"]
    return [
        sys.executable,
        "-m",
        "trainer",
        "run",
        "--out",
        str(out),
        "--data",
        str(data),
        *QUICK,
        *RATES,
        *steps,
        *more,
    ]


def start(out: Path, data: Path, *more: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    with (out.parent / f"{out.name}.log").open("ab") as log:
        return subprocess.Popen(
            command(out, data, *more), stdout=log, stderr=log, env=environment, start_new_session=True
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> list[dict]:
    """The curve of one process without Ray."""
    process = start(folder / "plain", folder / "data")
    assert process.wait(600) == 0, (folder / "plain.log").read_text()[-3000:]
    return curve(folder / "plain")


@pytest.fixture
def runs() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Runs that a test leaves behind are ended, with all that they started."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        left = descendants(process.pid)
        process.kill()
        process.wait()
        for pid, _ in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def curve(out: Path) -> list[dict]:
    return list(curves.entries(out / curves.CURVES))


def status(out: Path) -> dict:
    try:
        return json.loads((out / "status.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}


def until(true: Callable[[], object], process: subprocess.Popen[bytes], log: Path, seconds: float = 500) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        assert process.poll() is None, log.read_text()[-3000:]
        time.sleep(0.02)


def committed(out: Path, step: int) -> bool:
    """A checkpoint of the long stage at this step or later."""
    found = out.glob("checkpoints/appearance_motion-*/manifest.json")
    return any(int(path.parent.name.rpartition("-")[2]) >= step for path in found)


def descendants(pid: int) -> list[tuple[int, str]]:
    """pid and command line of all that a process started."""
    parents = {}
    for child, _ in processes():
        try:
            parents[child] = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    lines = dict(processes())
    found, generation = [], {pid}
    while generation:
        generation = {child for child, parent in parents.items() if parent in generation}
        found += [(child, lines.get(child, "")) for child in generation]
    return found


def processes() -> list[tuple[int, str]]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append((int(path.parent.name), path.read_bytes().replace(b"\0", b" ").decode(errors="replace")))
        except OSError:
            continue
    return found


def end(orphans: list[tuple[int, str]]) -> None:
    """Some of Ray's processes end when init is their parent, which here is never: the test run takes in orphans."""
    for pid, line in orphans:
        if (pid, line) in processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Ray names its training actors' processes after what they do."""
    return [pid for pid, line in descendants(process.pid) if "RayTrainWorker" in line]


def check(out: Path, undisturbed: list[dict], *, noise: float) -> None:
    found = curve(out)
    assert [(line["stage"], line["step"]) for line in found] == [(u["stage"], u["step"]) for u in undisturbed]
    for line, expected in zip(found, undisturbed, strict=True):
        if not noise:
            assert line == expected
            continue
        numbers = {name: value for name, value in expected.items() if name != "stage"}
        assert {name: line[name] for name in numbers} == pytest.approx(numbers, rel=noise, abs=noise)
    assert status(out)["state"] == "succeeded"
    assert (out / "bundle" / "manifest.json").exists()


def test_two_workers_one_of_which_is_killed_give_the_curve_of_one_process(
    folder: Path, undisturbed: list[dict], runs: list
) -> None:
    out = folder / "two"
    process = start(out, folder / "data", "--workers", "2")
    runs.append(process)
    until(lambda: committed(out, 2), process, folder / "two.log")
    before = workers_of(process)
    assert len(before) == 2
    os.kill(before[1], signal.SIGKILL)
    assert process.wait(500) == 0, (folder / "two.log").read_text()[-3000:]
    check(out, undisturbed, noise=5e-3)
    assert status(out)["workers"] == 2


@pytest.mark.slow
def test_a_driver_that_is_killed_goes_on_by_the_same_command_bit_for_bit(
    folder: Path, undisturbed: list[dict], runs: list
) -> None:
    out = folder / "driver"
    process = start(out, folder / "data", "--workers", "1")
    runs.append(process)
    until(lambda: committed(out, 2), process, folder / "driver.log")
    left = descendants(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    # Ray's processes follow a driver that is gone; until they have, the old worker may still write.
    deadline = time.monotonic() + 120
    while {pid for pid, line in left if "RayTrainWorker" in line} & {pid for pid, line in processes() if line}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    again = start(out, folder / "data", "--workers", "1")
    runs.append(again)
    assert again.wait(500) == 0, (folder / "driver.log").read_text()[-3000:]
    check(out, undisturbed, noise=0)
    end(left)


@pytest.mark.slow
def test_a_node_that_is_killed_is_replaced_and_the_run_goes_on(
    folder: Path, undisturbed: list[dict], runs: list
) -> None:
    out = folder / "node"
    process = start(out, folder / "data", "--workers", "1")
    runs.append(process)
    until(lambda: committed(out, 2), process, folder / "node.log")
    left = descendants(process.pid)
    raylets = [pid for pid, line in left if "/raylet " in line.split("--")[0] + " "]
    assert raylets
    os.kill(raylets[0], signal.SIGKILL)
    if process.wait(500) != 0:  # the driver fell with its node: the same command goes on
        process = start(out, folder / "data", "--workers", "1")
        runs.append(process)
        assert process.wait(500) == 0, (folder / "node.log").read_text()[-3000:]
    check(out, undisturbed, noise=0)
    end(left)


def test_stages_that_do_not_look_at_each_other_run_side_by_side_where_there_are_workers() -> None:
    stages = tiny().stages
    assert waves(stages, 1) == [Wave((0, 1, 2, 3, 4, 5), ((0, 1),))]
    together = ((0, 2),)
    assert waves(stages, 2) == [Wave((0, 1), together), Wave((2, 3), ((0, 1), (1, 2))), Wave((4, 5), together)]
    three = Wave((2, 3, 4), ((0, 1), (1, 2), (2, 3)))
    assert waves(stages, 3) == [Wave((0, 1), ((0, 3),)), three, Wave((5,), ((0, 3),))]
    assert waves(stages, 2, done=3) == [Wave((3, 4), ((0, 1), (1, 2))), Wave((5,), together)]
    assert waves(stages, 2, done=6) == []
    # Batches of 64, 32, 16 (lip), 64 (eye), 128 (pose), 32.
    lanes = ((0, 8), (16, 32), (32, 48))
    assert [wave.lanes for wave in waves(stages, 48)] == [((0, 32),), ((0, 16),), lanes, ((0, 16),)]


def test_a_wrong_address_of_a_cluster_is_told_at_once() -> None:
    with pytest.raises(Rejected, match="--ray nonsense: ") as wrong:
        connect("nonsense", 1)
    assert wrong.value.code == "bad_ray_address"
    with pytest.raises(Transient, match=r"no Ray cluster at 127\.0\.0\.1:") as away:
        connect(f"127.0.0.1:{free_port()}", 1)
    assert away.value.code == "ray_unreachable"
