"""A training run as people follow it: bars, and where it stands in words."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from rich.progress import MofNCompleteColumn, Progress, TaskID, TextColumn

from farm.cli import watch
from farm.cli.exits import Exit, Failed
from farm.cli.terminal import terminal
from farm.client import Client, Event, TrainingRun


def follow(farm: Client, run_id: str, timeout_s: float | None, lines: bool = False) -> TrainingRun:
    """Show a run until it is over. Raises TimeoutError; the run goes on then."""
    state = TextColumn("[dim]{task.fields[state]}[/dim]")
    with terminal.bars(MofNCompleteColumn(), state, transient=False) as progress:
        bars = _Bars(progress)
        for event in watch.timed(lambda: farm.training.watch(run_id), timeout_s, run_id):
            if lines:
                terminal.answer({"event": event.type, "data": event.data})
            bars.take(event)
    return farm.training.run(run_id)


def tell_run(found: TrainingRun) -> None:
    """The answer of a command that starts or ends a run."""
    terminal.answer(found)
    terminal.say(f"{found.id} {found.status}")


def check(found: TrainingRun) -> None:
    """Failed unless it succeeded."""
    if found.status == "succeeded":
        return
    code = found.error.code if found.error else found.status
    fix = f"dubfarm train resume {found.id} goes on from its last checkpoint"
    raise Failed(Exit.FAILED_JOB, code, f"{found.id} {found.status}: {why(found)}", fix=fix)


class _Bars:
    """On a terminal: a bar a stage. Elsewhere: a line an event."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._stages: dict[str, TaskID] = {}

    def take(self, event: Event) -> None:
        if event.type in ("run.status", "run.alert", "run.yield", "run.stage") and not terminal.json:
            terminal.note(_said(event.type, event.data["data"]))
        found = event.run
        if found is None or found.stage is None:
            return
        if found.stage not in self._stages:
            label = f"{found.stage_number}/{found.stages} {found.stage}"
            self._stages[found.stage] = self._progress.add_task(label, state="")
        state = ", ".join(filter(None, (speed(found) and f"{speed(found)} samples/s", eta(found), losses(found))))
        if found.yielding:
            state = "makes room for rendering"
        task = self._stages[found.stage]
        self._progress.update(task, completed=found.step, total=found.steps or None, state=state)


def _said(kind: str, told: dict[str, Any]) -> str:
    """An event of a run in words."""
    if kind == "run.stage":
        return f"stage {told.get('number')} of {told.get('of')}: {told.get('stage')}"
    if kind == "run.alert":
        return f"alert, {told.get('kind')}: {told.get('detail')}"
    if kind == "run.yield":
        return "makes room for rendering" if told.get("yielding") else "goes on"
    return f"{told.get('status')}: {told.get('reason')}"


def place(run: TrainingRun) -> str:
    return f"{run.stage} {run.step}/{run.steps}" if run.stage else ""


def speed(run: TrainingRun) -> str:
    return f"{run.samples_per_s:.3g}" if run.samples_per_s and run.status == "running" else ""


def eta(run: TrainingRun) -> str:
    return f"{timedelta(seconds=int(run.eta_s))} to the stage's end" if run.eta_s and run.status == "running" else ""


def losses(run: TrainingRun) -> str:
    shown = sorted(run.losses.items())[:4]
    return ", ".join(f"{name} {'NaN' if value is None else f'{value:.3g}'}" for name, value in shown)


def why(run: TrainingRun) -> str:
    return run.error.detail if run.error else run.waiting_reason or run.status_reason
