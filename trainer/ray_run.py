"""The same loop on Ray: a TorchTrainer a stage, any number of workers, other machines. The only module that knows Ray.

The driver goes through the stages; a stage's workers resume from the newest committed checkpoint in OUT, whoever wrote
it and however many they were. Stages that do not look at each other (lip, eye, pose) train side by side where there
are workers for each. Ray keeps nothing that matters: checkpoints are the loop's own, in OUT.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

# Read when ray is imported. Nobody is told that Ray runs here; workers stay in the folder that paths are relative to.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")
os.environ.setdefault("RAY_TRAIN_COLLECTIVE_TIMEOUT_S", "600")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
import ray.exceptions
import ray.train
import ray.train.torch
import structlog
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
COLLECTIVE_TIMEOUT_S: Final = 600
STARTS: Final = 3
POLL_S: Final = 0.5
LOCAL: Final = "local"
_SIDE_BY_SIDE: Final = frozenset({"lip", "eye", "pose"})
"""Scenes of stages that train parts of their own on what all of them leave alone."""
log = structlog.get_logger()


@dataclass(frozen=True)
class Workers:
    """least..most: Ray keeps the number in that range, by what the cluster has; the losses do not depend on it."""

    least: int
    most: int


def train(task: Job, out: Out, workers: Workers, address: str, door: Door, show: Callable[[Status], None]) -> None:
    """Run all stages on Ray at `address` (or LOCAL: on this machine, for the time of the run). show: told what runs.

    Raises loop.Deadline where the run was told to stop, TrainingFailed where it cannot go on.
    """
    task = absolute(task)
    connect(address, workers.most * task.threads + 1)
    try:
        for wave in waves(task.recipe.stages, workers):
            _Wave(task, out, workers, address, door, show).run(wave)
    finally:
        ray.shutdown()


def waves(stages: Sequence[Stage], workers: Workers) -> list[list[int]]:
    """Numbers of stages that run at the same time, in order."""
    result: list[list[int]] = []
    for number, stage in enumerate(stages):
        if not stage.steps:
            continue
        beside = stage.scene in _SIDE_BY_SIDE and result and stages[result[-1][-1]].scene in _SIDE_BY_SIDE
        if beside and workers.least > len(result[-1]):
            result[-1].append(number)
        else:
            result.append([number])
    return result


class _Wave:
    """Stages that run at the same time: usually one."""

    def __init__(
        self, task: Job, out: Out, workers: Workers, address: str, door: Door, show: Callable[[Status], None]
    ) -> None:
        self._task, self._out, self._workers, self._address = task, out, workers, address
        self._door, self._show = door, show
        self._checkpoints = Checkpoints(out.store, loop.recipe_key(task.recipe))

    def run(self, numbers: list[int]) -> None:
        newest = self._checkpoints.newest(read=False)
        if newest is not None and newest.place.stage > numbers[-1]:
            return
        with ThreadPoolExecutor(len(numbers), "stage") as pool:
            fits = [pool.submit(self._fit, number, len(numbers)) for number in numbers]
            self._watch(numbers, fits)
            for fit in fits:
                fit.result()
        for number in numbers:
            _judge(read_status(self._out.store, _key(self._task.recipe.stages[number])) or {})
        if len(numbers) > 1:
            merge(self._checkpoints, self._out, self._task, numbers)

    def _watch(self, numbers: list[int], fits: list[Future[None]]) -> None:
        """Show what the workers show, and pass on that they are to stop."""
        asked, shown = False, ""
        while not all(fit.done() for fit in fits):
            time.sleep(POLL_S)
            if self._door.stopping() and not asked:
                patiently(lambda: self._out.store.put_bytes(b"", STOP))
                asked = True
            for number in numbers:
                try:
                    found = read_status(self._out.store, _key(self._task.recipe.stages[number]))
                except Transient:
                    continue
                if found and found["updated_at"] > shown and found["stage"]:
                    shown = found["updated_at"]
                    self._mirror(Status(**found))

    def _mirror(self, status: Status) -> None:
        self._show(status)
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
            gpu_hours=round(self._door.spent_gpu_hours + status.gpu_hours, 4),
        )

    def _fit(self, number: int, beside: int) -> None:
        """One stage to its end, over the loss of workers, nodes and, where it is ours, of Ray itself."""
        stage, left = self._task.recipe.stages[number], FAILURES
        patiently(lambda: self._out.store.delete(_key(stage)))
        while True:
            before = self._place(stage)
            try:
                self._trainer(number, beside).fit()
                return
            except (ray.train.TrainingFailedError, ray.exceptions.RayError, ConnectionError) as error:
                left = FAILURES if self._place(stage) != before else left - 1
                if left <= 0:
                    raise
                log.warning("ray.failed", stage=stage.name, error=str(error)[:500], tries_left=left)
                if self._address == LOCAL and beside == 1 and not _alive():
                    ray.shutdown()
                    connect(LOCAL, self._workers.most * self._task.threads + 1)

    def _place(self, stage: Stage) -> tuple[Place | None, int]:
        """How far the checkpoints have come."""
        newest, own = (self._checkpoints.newest(name, read=False) for name in (None, stage.name))
        return newest and newest.place, own.step if own else 0

    def _trainer(self, number: int, beside: int) -> TorchTrainer:
        stage = self._task.recipe.stages[number]
        gpus = ray.cluster_resources().get("GPU", 0) > 0
        least, most = (max(1, min(n // beside, stage.batch // 2)) for n in (self._workers.least, self._workers.most))
        return TorchTrainer(
            _work,
            train_loop_config={"job": self._task, "stage": number, "apart": beside > 1},
            scaling_config=ScalingConfig(
                num_workers=most if least == most else (least, most),
                use_gpu=gpus,
                resources_per_worker={"CPU": self._task.threads, **({"GPU": 1} if gpus else {})},
            ),
            torch_config=TorchConfig("nccl" if gpus else "gloo", timeout_s=COLLECTIVE_TIMEOUT_S),
            run_config=RunConfig(
                # A name that was used before would silently bring back that run's results.
                name=f"{stage.name}-{secrets.token_hex(6)}",
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
    """A worker's share of a stage."""
    task: Job = config["job"]
    number: int = config["stage"]
    context = ray.train.get_context()
    world = World(context.get_world_rank(), context.get_world_size())
    stage, began = task.recipe.stages[number], time.monotonic()
    job.prepare(task)
    out, device = open_out(task.out), ray.train.torch.get_device()
    assert not isinstance(device, list)
    door = Door(out.store, Status(workers=world.size), _key(stage)) if world.rank == 0 else None
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
            until=number + 1,
            apart=number if config["apart"] else None,
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


def _judge(ended: dict[str, Any]) -> None:
    if ended.get("state") == "failed":
        raise TrainingFailed(**ended["error"])
    if ended.get("state") == "stopped":
        raise loop.Deadline(f"stopped in stage {ended['stage']} after step {ended['step']}")


def _key(stage: Stage) -> str:
    """Where the workers of a stage show how far they are."""
    return f"ray/{stage.name}.json"


def connect(address: str, cpus: int) -> None:
    """Join the cluster at an address ("auto", ray://...), or start one on this machine for "local"."""
    if address != LOCAL:
        ray.init(address=address, log_to_driver=False)
        return
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
