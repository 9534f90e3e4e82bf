"""The same loop on Ray: one TorchTrainer, any number of workers, other machines. The only module that knows Ray.

The workers go through the stages together, and resume from the newest committed checkpoint in OUT, whoever wrote it and
however many they were. Stages that do not look at each other (lip, eye, pose) train side by side, each on a lane of
workers, where there are enough. Ray keeps nothing that matters: checkpoints are the loop's own, in OUT.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

# Read when ray is imported. Nobody is told that Ray runs here; workers stay in the folder that paths are relative to.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
# After the loss of a node a group of the old size is waited for so long, before one that fits is started.
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "180")
# Longer than a run on this machine is halted for rendering at a time: its clocks go on meanwhile.
os.environ.setdefault("RAY_TRAIN_COLLECTIVE_TIMEOUT_S", "1800")
os.environ.setdefault("RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S", "1800")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
import ray.exceptions
import ray.train
import ray.train.torch
import structlog
import torch.distributed as dist
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from farm.errors import Rejected, Transient
from trainer import curves, job, loop
from trainer.checkpoint import CAST, Checkpoints, Manifest, OtherRecipe, Place
from trainer.job import Job
from trainer.out import Out, open_out, patiently
from trainer.recipes import Stage
from trainer.status import STOP, Door, Status, TrainingFailed, read_status
from trainer.world import World

FAILURES: Final = 3
"""Losses of a worker group that Ray repairs by itself; and so often again while there is progress between them."""
COLLECTIVE_TIMEOUT_S: Final = 1800
STARTS: Final = 3
REACH_S: Final = 20.0
POLL_S: Final = 0.5
OVER: Final = ("failed", "stopped")
LOCAL: Final = "local"
_SIDE_BY_SIDE: Final = frozenset({"lip", "eye", "pose"})
"""Scenes of stages that train parts of their own on what all of them leave alone."""
log = structlog.get_logger()


@dataclass(frozen=True)
class Workers:
    """least..most: Ray keeps the number in that range, by what the cluster has; the losses do not depend on it. gpu:
    each waits for a GPU; else they have one where the cluster has any."""

    least: int
    most: int
    gpu: bool = False


@dataclass(frozen=True)
class Wave:
    """Stages by number: on one lane one after the other, on several at the same time. lanes: [start, stop) of ranks."""

    stages: tuple[int, ...]
    lanes: tuple[tuple[int, int], ...]

    @property
    def beside(self) -> bool:
        return len(self.lanes) > 1


def train(task: Job, out: Out, workers: Workers, address: str, door: Door, show: Callable[[Status], None]) -> None:
    """Run all stages on Ray at `address` (or LOCAL: on this machine, for the time of the run). show: told what runs.

    Raises loop.Deadline where the run was told to stop, TrainingFailed where it cannot go on.
    """
    task = absolute(task)
    connect(address, workers.most * task.threads + 1)
    try:
        _Driver(task, out, workers, address, door, show).run()
    finally:
        ray.shutdown()


def waves(stages: Sequence[Stage], size: int, done: int = 0) -> list[Wave]:
    """What `size` workers do after `done` stages, in order. No worker has less than two samples of a batch."""
    rows: list[list[int]] = []
    for number, stage in enumerate(stages):
        if number < done or not stage.steps:
            continue
        beside = stage.scene in _SIDE_BY_SIDE and rows and stages[rows[-1][-1]].scene in _SIDE_BY_SIDE
        if beside and size > len(rows[-1]):
            rows[-1].append(number)
        else:
            rows.append([number])
    result: list[Wave] = []
    for row in rows:
        spans = [World(lane, len(row)).rows(size) for lane in range(len(row))]
        most = [max(1, stages[number].batch // 2) for number in row]
        lanes = tuple((start, min(stop, start + few)) for (start, stop), few in zip(spans, most, strict=True))
        if result and len(row) == 1 and result[-1].lanes == lanes:
            result[-1] = Wave((*result[-1].stages, *row), lanes)
        else:
            result.append(Wave(tuple(row), lanes))
    return result


class _Driver:
    """Starts the workers, over their loss and, where it is ours, of Ray itself; shows what they show."""

    def __init__(
        self, task: Job, out: Out, workers: Workers, address: str, door: Door, show: Callable[[Status], None]
    ) -> None:
        self._task, self._out, self._workers, self._address = task, out, workers, address
        self._door, self._show = door, show
        self._checkpoints = Checkpoints(out.store, loop.recipe_key(task.recipe))
        most = max(len(wave.lanes) for wave in waves(task.recipe.stages, workers.most))
        self._lanes = [_key(lane) for lane in range(most)]

    def run(self) -> None:
        newest = self._checkpoints.newest(read=False)
        if newest is not None and loop.ended(self._task.recipe, newest.place):
            return
        for key in self._lanes:
            patiently(lambda key=key: self._out.store.delete(key))
        with ThreadPoolExecutor(1, "fit") as pool:
            fit = pool.submit(self._fit)
            asked, shown = False, ""
            while not fit.done():
                time.sleep(POLL_S)
                if self._door.stopping() and not asked:
                    patiently(lambda: self._out.store.put_bytes(b"", STOP))
                    asked = True
                shown = self._look(shown)
            fit.result()
        ended = [found for key in self._lanes if (found := read_status(self._out.store, key))]
        for one in sorted(ended, key=lambda one: one["state"] != "failed"):
            _judge(one)

    def _look(self, shown: str) -> str:
        """Pass on what the lanes show that is newer than `shown`."""
        try:
            found = [one for key in self._lanes if (one := read_status(self._out.store, key)) and one["stage"]]
        except Transient:
            return shown
        newer = [one for one in found if one["updated_at"] > shown]
        for one in newer:
            self._show(Status(**one))
        # Of lanes side by side one is told of, the first that runs: stages that took turns would each look new.
        told = next((one for one in found if one["state"] == "running"), None) or max(newer, key=_told_at, default=None)
        if told is not None and told in newer:
            self._mirror(Status(**told), sum(one["gpu_hours"] for one in found))
        return max([shown, *map(_told_at, newer)])

    def _mirror(self, status: Status, gpu_hours: float) -> None:
        self._door.show(
            stage=status.stage,
            stage_number=status.stage_number,
            step=status.step,
            steps=status.steps,
            samples_per_s=status.samples_per_s,
            eta_s=status.eta_s,
            losses=status.losses,
            workers=status.workers,
            useful_s=status.useful_s,
            goodput=round(min(1.0, status.useful_s / max(self._door.age_s, 1e-9)), 4),
            gpu_hours=round(self._door.spent_gpu_hours + gpu_hours, 4),
        )

    def _fit(self) -> None:
        left = FAILURES
        while True:
            before = self._committed()
            try:
                self._trainer().fit()
                return
            except (ray.train.TrainingFailedError, ray.exceptions.RayError, ConnectionError) as error:
                left = FAILURES if self._committed() - before else left - 1
                if left <= 0:
                    raise
                log.warning("ray.failed", error=str(error)[:500], tries_left=left)
                if self._address == LOCAL and not _alive():
                    ray.shutdown()
                    connect(LOCAL, self._workers.most * self._task.threads + 1)

    def _committed(self) -> frozenset[str]:
        return frozenset(manifest.name for manifest in self._checkpoints.all())

    def _trainer(self) -> TorchTrainer:
        gpus = self._workers.gpu or ray.cluster_resources().get("GPU", 0) > 0
        useful = max(stage.batch for stage in self._task.recipe.stages if stage.steps) // 2
        least, most = (max(1, min(n, useful)) for n in (self._workers.least, self._workers.most))
        return TorchTrainer(
            _work,
            train_loop_config={"job": self._task},
            scaling_config=ScalingConfig(
                num_workers=most if least == most else (least, most),
                use_gpu=gpus,
                resources_per_worker={"CPU": self._task.threads, **({"GPU": 1} if gpus else {})},
            ),
            torch_config=TorchConfig("nccl" if gpus else "gloo", timeout_s=COLLECTIVE_TIMEOUT_S),
            run_config=RunConfig(
                # A name that was used before would silently bring back that run's results.
                name=f"train-{secrets.token_hex(6)}",
                storage_path=tempfile.mkdtemp(prefix="dubfarm-ray-"),
                failure_config=FailureConfig(max_failures=FAILURES),
            ),
        )


def merge(checkpoints: Checkpoints, out: Out, task: Job, numbers: Sequence[int]) -> None:
    """What stages made side by side becomes one checkpoint, as if they had come one after the other."""
    base = checkpoints.newest()
    if base is None:
        raise RuntimeError("stages that train side by side begin from a checkpoint")
    tensors, useful_s, stages = checkpoints.load(base)[CAST], base.useful_s, task.recipe.stages
    parts = []
    for number in numbers:
        part = checkpoints.newest(stages[number].name)
        if part is None or not part.ended:
            raise RuntimeError(f"stage {stages[number].name} has not come to its end")
        tensors.update(checkpoints.load(part)[CAST])
        useful_s += part.useful_s - base.useful_s
        parts.append(part)
        curve = out.fetch(curves.stage_curves(stages[number].name))
        curves.join(out.fetch(curves.CURVES), curve, stages[number].name)
        out.publish(curves.CURVES)
    last = parts[-1]
    whole = Manifest(
        base.recipe,
        last.stage,
        last.step,
        Place(numbers[-1] + 1, 0),
        ended=True,
        useful_s=useful_s,
        workers=last.workers,
    )
    for part in parts:
        checkpoints.forget(part)
    checkpoints.save(whole, {CAST: tensors})
    checkpoints.wait()


def _work(config: dict[str, Any]) -> None:
    """A worker's share of a run: all waves that no checkpoint has done."""
    task: Job = config["job"]
    context = ray.train.get_context()
    world = World(context.get_world_rank(), context.get_world_size())
    job.prepare(task)
    out = open_out(task.out)
    checkpoints = Checkpoints(out.store, loop.recipe_key(task.recipe))
    newest = world.agree(checkpoints.newest(read=False) if world.rank == 0 else None)
    done = newest.place.stage if newest is not None else 0
    for wave in waves(task.recipe.stages, world.size, done):
        if not _take_part(task, out, checkpoints, world, wave):
            break
    checkpoints.close()


def _take_part(task: Job, out: Out, checkpoints: Checkpoints, world: World, wave: Wave) -> bool:
    """A wave to its end; False: the run was told to stop, or cannot go on."""
    groups = [_group(world, *span) for span in wave.lanes]  # all of them by everybody, in one order
    for lane, (start, stop) in enumerate(wave.lanes):
        if start <= world.rank < stop:
            share = World(world.rank - start, stop - start, groups[lane])
            numbers = (wave.stages[lane],) if wave.beside else wave.stages
            if not _train(task, out, share, lane, numbers, apart=wave.beside):
                return False
    # Whoever is through first waits for what is in the store, for hours if need be: no collective would.
    stages = [task.recipe.stages[number] for number in wave.stages]
    while True:
        newest = checkpoints.newest(read=False)
        if newest is not None and newest.place.stage > wave.stages[-1]:
            return True
        if any((read_status(out.store, _key(lane)) or {}).get("state") in OVER for lane in range(len(wave.lanes))):
            return False
        if wave.beside and world.rank == 0:
            parts = [checkpoints.newest(stage.name, read=False) for stage in stages]
            if all(part is not None and part.ended for part in parts):
                merge(checkpoints, out, task, wave.stages)
                continue
        time.sleep(POLL_S)


def _group(world: World, start: int, stop: int) -> dist.ProcessGroup | None:
    if stop - start in (1, world.size):
        return None
    group = dist.new_group(list(range(start, stop)), timeout=timedelta(seconds=COLLECTIVE_TIMEOUT_S))
    return group if isinstance(group, dist.ProcessGroup) else None  # a number, for who is not in it


def _train(task: Job, out: Out, world: World, lane: int, numbers: Sequence[int], *, apart: bool) -> bool:
    """This worker's share of stages; False where they ended early, which the lane's status says."""
    device, began = ray.train.torch.get_device(), time.monotonic()
    assert not isinstance(device, list)
    door = Door(out.store, Status(workers=world.size), _key(lane)) if world.rank == 0 else None
    gpus = world.size if device.type == "cuda" else 0

    def report(step: loop.Progress) -> None:
        if door is not None:
            job.show(door, task.recipe, step, gpus=gpus, since_s=time.monotonic() - began)

    def staged(stage: Stage, setting: Any) -> None:
        job.after_stage(out, stage, setting)

    def pictured(stage: Stage, step: int, setting: Any) -> None:
        job.while_training(out, stage, step, setting)

    ending: dict[str, Any] = {}
    try:
        loop.train(
            task.recipe,
            job.corpus_of(task),
            out,
            report,
            lambda _: door is not None and door.stopping(),
            staged,
            pictured,
            job.priors_of(task),
            world=world,
            device=device,
            until=numbers[-1] + 1,
            apart=numbers[0] if apart else None,
        )
        ending = {"state": "succeeded"}
    except loop.Deadline:
        ending = {"state": "stopped"}
    except (TrainingFailed, Rejected) as error:
        # Trying again would end here again: it is told, not raised.
        ending = {"state": "failed", "error": {"code": error.code, "detail": error.detail}}
    except OtherRecipe as error:
        ending = {"state": "failed", "error": {"code": "bad_override", "detail": str(error)}}
    finally:
        if door is not None:
            door.close(**ending)
    return ending["state"] == "succeeded"


def _judge(ended: dict[str, Any]) -> None:
    if ended.get("state") == "failed":
        raise TrainingFailed(**ended["error"])
    if ended.get("state") == "stopped":
        raise loop.Deadline(f"stopped in stage {ended['stage']} after step {ended['step']}")


def _told_at(status: dict[str, Any]) -> str:
    return status["updated_at"]


def _key(lane: int) -> str:
    """Where the first worker of a lane shows how far it is."""
    return f"ray/{lane}.json"


def connect(address: str, cpus: int) -> None:
    """Join the cluster at an address ("auto", HOST:PORT, ray://...), or start one on this machine for "local".

    Raises Rejected("bad_ray_address"), Transient("ray_unreachable").
    """
    if address != LOCAL:
        _join(address)
        return
    # Nobody takes this machine away with a notice; the watcher is a process more to start.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    for tries in range(STARTS):
        try:
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=100_000_000,
                _node_ip_address="127.0.0.1",
                log_to_driver=False,
                configure_logging=False,
            )
            return
        except Exception as error:
            # Ray gives its own processes thirty seconds to come up, and says so by a bare Exception.
            ray.shutdown()
            if "timed out" not in str(error) or tries == STARTS - 1:
                raise
            log.warning("ray.slow_start", error=str(error))


def _join(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        if "://" not in address and port.isdigit():
            # Ray itself tries for minutes, in silence, and then ends the process.
            socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()
        ray.init(address=address, log_to_driver=False)
    except ValueError as error:
        raise Rejected("bad_ray_address", f"--ray {address}: {error}") from None
    except OSError as error:  # ConnectionError of Ray's is one
        raise Transient("ray_unreachable", f"no Ray cluster at {address}: {error}") from None


def _alive() -> bool:
    try:
        return bool(ray.is_initialized() and any(node["Alive"] for node in ray.nodes()))
    except (ray.exceptions.RayError, ConnectionError, RuntimeError):
        return False


def absolute(task: Job) -> Job:
    """Paths that mean the same in workers."""

    def whole(path: str) -> str:
        return path if "://" in path else os.path.abspath(path)

    return dataclasses.replace(task, data=whole(task.data), out=whole(task.out), priors=task.priors.absolute())
