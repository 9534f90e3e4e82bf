"""`dubfarm demo --retrain`: from the cron line to the worker, and back.

A schedule fires, a run trains on two Ray workers, one of which is killed; its version becomes canary, then champion;
jobs from before keep theirs; a worse run is refused by the gate; a rollback is one call. The tests tell the same story.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from rich.markup import escape

from farm.cli import progress, watch
from farm.cli.exits import Exit, Failed, usage
from farm.cli.media import Uploads, with_media
from farm.cli.retrained import Dub, Killed, Refused, Retrained
from farm.cli.terminal import terminal
from farm.client import Batch, Client, Job, TrainingRun

RECIPE: Final = "smoke"
STAGES: Final = ("readout", "appearance_motion", "lip", "eye", "pose", "expression_generator")
WORSE: Final[Mapping[str, int]] = {f"stages.{stage}.steps": 1 for stage in STAGES}
"""The same recipe with a step a stage: it has learned next to nothing."""
SCHEDULE: Final = "demo-every-minute"
EVERY_MINUTE: Final = "* * * * *"
WORKERS: Final = 2
FIRES_S: Final = 120.0
POLL_S: Final = 0.2
CHAMPION: Final = "champion"
CANARY: Final = "canary"
ITEM: Final = {"kind": "animate", "image": "portrait.png", "audio": "voice_en.flac"}


def story(
    client: Client,
    material: Path,
    timeout_s: float,
    *,
    cron: str = EVERY_MINUTE,
    clock: Callable[[str], None] = lambda _: None,
    also: Mapping[str, Any] | None = None,
) -> Retrained:
    """All of it, on a farm with trainer and render worker on this machine. material: folder of ITEM's. clock: told the
    schedule's name when it is set, and may move the farm's clock. also: more of the schedule's body.

    Raises Failed where it does not come out as told.
    """
    teller = _Teller(client, material, timeout_s)
    first = teller.begin_untrained()
    teller.render("before")
    teller.remember_workers()
    teller.submit("held", held=True)
    run, killed = teller.train(cron, clock, also or {})
    trained = client.version(run.model_version or "").name
    evaluation = teller.passes_the_gate(trained)
    teller.promote(CANARY, trained, share=1.0)
    teller.render("canary")
    teller.promote(CHAMPION, trained)
    teller.render("after")
    teller.release("held")
    refused = teller.train_worse()
    teller.roll_back(first)
    teller.render("rolled-back")
    return Retrained(
        run, killed, first, trained, evaluation, teller.dubs(), refused, teller.undisturbed(), teller.seconds
    )


def require_trainer() -> None:
    """Failed unless this machine can train."""
    missing = [
        name for name in ("trainer", "torch", "ray", "espeakng_loader") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise usage("trainer_missing", f"no {missing[0]} here: pip install 'dubfarm[trainer]'")


class _Teller:
    def __init__(self, client: Client, material: Path, timeout_s: float) -> None:
        self._client, self._timeout_s = client, timeout_s
        self._put = Uploads(client, material)
        self._batches: dict[str, Batch] = {}
        self._workers: dict[str, tuple[Any, Any]] = {}
        self._chapter = 0
        self._since, self.seconds = time.monotonic(), dict[str, float]()

    def _tell(self, text: str) -> None:
        self._chapter += 1
        terminal.say(f"[bold]{self._chapter}.[/bold] {text}")

    def _took(self, what: str) -> None:
        now = time.monotonic()
        self.seconds[what], self._since = round(now - self._since, 1), now

    def begin_untrained(self) -> str:
        """Name of an untrained version, made champion: one that seconds of training can beat."""
        with tempfile.TemporaryDirectory(prefix="dubfarm-untrained-") as scratch:
            # In a process of its own: the command line does without torch.
            subprocess.run([sys.executable, "-m", "farm.embedded.seed", f"{scratch}/bundle"], check=True)
            version = self._client.register_version(Path(scratch) / "bundle", name="untrained")
        self._client.set_alias(CHAMPION, version.id, force=True)
        self._tell(
            f"an [bold]{version.name}[/bold] model is made champion for this story: the built-in one learned for an"
            " hour, and the gate would rightly refuse what seconds can teach"
        )
        return version.name

    # --- jobs ------------------------------------------------------------------------------------------------------

    def submit(self, name: str, *, held: bool = False) -> Batch:
        item = with_media({"custom_id": name, **ITEM}, self._put)
        batch = self._client.submit([item], name=name)
        if held:
            batch = self._client.pause_batch(batch.id)
            self._tell(f"job [bold]{name}[/bold] is submitted and paused: it waits until there is another champion")
        self._batches[name] = batch
        return batch

    def render(self, name: str) -> None:
        batch = self.submit(name)
        self._tell(f"job [bold]{name}[/bold] is submitted to render")
        self._wait(name, batch)

    def release(self, name: str) -> None:
        batch = self._client.resume_batch(self._batches[name].id)
        self._tell(f"job [bold]{name}[/bold], from before all this, goes on")
        self._wait(name, batch)

    def _wait(self, name: str, batch: Batch) -> None:
        watch.batch(self._client, batch.id, self._timeout_s)
        job = self._job(name)
        if job.status != "succeeded":
            why = job.error.detail if job.error else job.status
            raise Failed(Exit.FAILED_JOB, "demo_failed", f"job {name} did not succeed: {why}")
        version = self._client.version(job.model_version or "").name
        as_what = " as a canary" if job.cohort == CANARY else ""
        terminal.say(f"   rendered by [bold]{version}[/bold]{as_what}")
        self._took(f"job {name}")

    def _job(self, name: str) -> Job:
        (job,) = self._client.jobs(self._batches[name].id)
        return job

    def dubs(self) -> tuple[Dub, ...]:
        names = {version.id: version.name for version in self._client.versions()}
        found: list[Dub] = []
        for name in self._batches:
            job = self._job(name)
            version = job.model_version or ""
            sha256 = job.output.sha256 if job.output else None
            logged = tuple(sorted(set(re.findall(r" version=(\S+)", self._client.job_logs(job.id)))))
            found.append(Dub(name, job.id, names.get(version, version), version, logged, job.cohort, sha256))
        return tuple(found)

    # --- training --------------------------------------------------------------------------------------------------

    def train(
        self, cron: str, clock: Callable[[str], None], also: Mapping[str, Any]
    ) -> tuple[TrainingRun, Killed | None]:
        earlier = {run.id for run in self._client.training.runs(schedule=SCHEDULE)}
        body = {"cron": cron, "recipe": RECIPE, "scaling": {"workers": WORKERS}, **also}
        schedule = self._client.training.set_schedule(SCHEDULE, body)
        self._tell(
            f"schedule [bold]{SCHEDULE}[/bold] ({schedule.cron} {schedule.timezone}) fires next at"
            f" {schedule.next[0]:%Y-%m-%d %H:%M:%S} UTC"
        )
        clock(SCHEDULE)
        run = self._fired(earlier)
        self._client.training.delete_schedule(SCHEDULE)  # one run is enough to show
        self._took("schedule")
        self._tell(
            f"it fired: [bold]{run.id}[/bold] trains {RECIPE} on {WORKERS} Ray workers; one will be killed (Ray takes a"
            " minute to start on a small machine)"
        )
        killer = _Killer(self._client, run.id)
        killer.start()
        try:
            done = progress.follow(self._client, run.id, self._timeout_s)
        finally:
            killer.stop()
        progress.check(done)
        self._took("run")
        self._tell(f"the run succeeded: {escape(done.status_reason)}")
        return done, killer.killed

    def _fired(self, earlier: set[str]) -> TrainingRun:
        until = time.monotonic() + FIRES_S
        while True:
            for run in self._client.training.runs(schedule=SCHEDULE):
                if run.id not in earlier:
                    return run
            if time.monotonic() > until:
                why = f"{SCHEDULE} did not fire within {FIRES_S:g} s"
                raise Failed(Exit.TIME_OUT, "schedule_did_not_fire", why, fix="dubfarm doctor looks for the cause")
            time.sleep(POLL_S)

    def passes_the_gate(self, version: str) -> dict[str, float]:
        found = self._client.version(version)
        if found.gate is None or not found.gate.passed:
            reasons = "; ".join(found.gate.reasons) if found.gate else "it was not asked"
            raise Failed(Exit.FAILED_JOB, "gate_refused", f"the gate refuses {version}: {reasons}")
        metrics = {one.metric: one.value for one in found.gate.findings if one.value is not None}
        measured = ", ".join(f"{metric} {value:.3g}" for metric, value in metrics.items())
        self._tell(f"[bold]{version}[/bold] was evaluated on people that it never saw, and the gate lets it pass")
        terminal.say(f"   {measured}")
        return metrics

    def promote(self, alias: str, version: str, share: float | None = None) -> None:
        self._client.set_alias(alias, self._client.version(version).id, canary_share=share)
        of = f" for {share:.0%} of new jobs" if share is not None else ": new jobs use it, without a restart"
        self._tell(f"[bold]{version}[/bold] is {alias}{of}")
        self._took(alias)

    def train_worse(self) -> Refused:
        self._tell("a second run with a worse recipe (one step a stage) is to be promoted if it may")
        body = {"recipe": RECIPE, "overrides": dict(WORSE), "on_success": "promote"}
        run = self._client.training.start(body)
        done = progress.follow(self._client, run.id, self._timeout_s)
        progress.check(done)
        version = self._client.version(done.model_version or "")
        if version.gate is None or version.gate.passed or CHAMPION in version.aliases:
            raise Failed(Exit.FAILED_JOB, "demo_failed", f"the gate let {version.name} pass")
        self._tell(f"the gate refuses [bold]{version.name}[/bold]:")
        for reason in version.gate.reasons:
            terminal.say(f"   {escape(reason)}")
        self._took("worse run")
        return Refused(run.id, version.name, version.gate.reasons)

    def roll_back(self, to: str) -> None:
        moved = self._client.rollback(CHAMPION)
        version = self._client.version(moved.version or "").name
        if version != to:
            raise Failed(Exit.FAILED_JOB, "demo_failed", f"the rollback led to {version}, not to {to}")
        self._tell(f"one call rolls back: [bold]{version}[/bold] is champion again")
        self._took("rollback")

    # --- processes -------------------------------------------------------------------------------------------------

    def remember_workers(self) -> None:
        self._workers = self._standing()

    def _standing(self) -> dict[str, tuple[Any, Any]]:
        return {worker.id: (worker.started_at, worker.info.get("pid")) for worker in self._client.workers()}

    def undisturbed(self) -> dict[str, int]:
        now = self._standing()
        return {worker: at[1] for worker, at in self._workers.items() if now.get(worker) == at}


class _Killer(threading.Thread):
    """SIGKILLs one of a run's Ray workers on this machine, once there is a checkpoint to go on from."""

    def __init__(self, client: Client, run_id: str) -> None:
        super().__init__(name="killer", daemon=True)
        self._client, self._run_id, self._over = client, run_id, threading.Event()
        self.killed: Killed | None = None

    def stop(self) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        while not self._over.wait(POLL_S):
            run, points = self._client.training.run(self._run_id), self._client.training.checkpoints(self._run_id)
            if run.is_over:
                return
            pids = ray_workers(self._run_id)
            if points and len(pids) == WORKERS:
                os.kill(pids[-1], signal.SIGKILL)
                self.killed = Killed(pids[-1], run.stage or "", points[-1].name)
                terminal.note(f"Ray worker {pids[-1]} killed in {run.stage}; the run goes on from its last checkpoint")
                return


def ray_workers(run_id: str) -> list[int]:
    """Pids of a run's Ray Train workers on this machine, by what every process of a run has in its environment."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_its = f"DUBFARM_RUN={run_id}".encode() in (folder / "environ").read_bytes()
            line = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        # Ray names its processes after what they do: ray::RayTrainWorker, ray::_RayTrainWorker__execute.
        if is_its and line.startswith("ray::") and "TrainWorker" in line:
            found.append(int(folder.name))
    return sorted(found)
