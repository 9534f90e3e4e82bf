"""`dubfarm demo --retrain`: a schedule fires, a run trains on two workers, one of them is killed, the run finishes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.markup import escape

from farm.cli import training
from farm.cli.exits import Exit, Failed
from farm.cli.terminal import terminal
from farm.client import Client, TrainingRun

SCHEDULE: Final = "demo-every-minute"
EVERY_MINUTE: Final = "* * * * *"
WORKERS: Final = 2
FIRES_S: Final = 120.0
POLL_S: Final = 0.2


@dataclass(frozen=True)
class Retrained:
    """killed: pid of the Ray worker that was killed on the way; None where none was found in time."""

    run: TrainingRun
    killed: int | None


def train(client: Client, timeout_s: float, overrides: Mapping[str, object] | None = None) -> Retrained:
    """Set the schedule, wait for it to fire, kill a worker of its run, watch the run to its end."""
    schedule = client.training.set_schedule(
        SCHEDULE,
        {
            "cron": EVERY_MINUTE,
            "recipe": "smoke",
            "overrides": dict(overrides or {}),
            "scaling": {"workers": WORKERS},
            "on_success": "register",
        },
    )
    terminal.say(f"schedule [bold]{SCHEDULE}[/bold] ({schedule.cron}) fires at {schedule.next[0]:%H:%M:%S} UTC")
    run = fired(client, SCHEDULE, FIRES_S)
    # One run is enough to show.
    client.training.delete_schedule(SCHEDULE)
    terminal.say(f"it fired: [bold]{run.id}[/bold] trains recipe {run.recipe} on {WORKERS} Ray workers")
    killed = kill_a_worker(client, run.id, timeout_s)
    if killed is not None:
        terminal.say(f"worker {killed} killed; the run goes on from its last checkpoint")
    done = training.follow(client, run.id, timeout_s)
    training.check(done)
    terminal.say(f"{done.id} succeeded: {escape(done.status_reason)}")
    return Retrained(done, killed)


def fired(client: Client, schedule: str, timeout_s: float) -> TrainingRun:
    """The newest run of a schedule, once there is one."""
    until = time.monotonic() + timeout_s
    while (found := next(client.training.runs(schedule=schedule), None)) is None:
        if time.monotonic() > until:
            why = f"{schedule} did not fire within {timeout_s:g} s"
            raise Failed(Exit.TIME_OUT, "schedule_did_not_fire", why, fix="dubfarm doctor looks for the cause")
        time.sleep(POLL_S)
    return found


def kill_a_worker(client: Client, run_id: str, timeout_s: float) -> int | None:
    """SIGKILL one of a run's Ray workers on this machine as soon as steps are done; its pid, None where the run ended
    before."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        run = client.training.run(run_id)
        if run.is_over:
            return None
        if run.step > 0 and (pids := ray_workers(run_id)):
            os.kill(pids[0], signal.SIGKILL)
            return pids[0]
        time.sleep(POLL_S)
    raise Failed(Exit.TIME_OUT, "run_did_not_start", f"{run_id} did no step within {timeout_s:g} s")


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
