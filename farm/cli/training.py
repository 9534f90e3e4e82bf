"""`dubfarm train …`: runs and schedules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from farm.cli import clips, options, schedules
from farm.cli.connect import client
from farm.cli.progress import check, eta, follow, losses, place, speed, why
from farm.cli.terminal import terminal
from farm.cli.wishes import Dataset, Gpu, Manifest, OnSuccess, Preempt, Priority, Recipe, ResumeFrom, Set, Workers, body
from farm.client import Client, TrainingRun

app = typer.Typer(help="Training runs and their schedules.", no_args_is_help=True)
app.add_typer(schedules.app, name="schedule")

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id (run_…).")]


@app.command()
def run(
    recipe: Recipe,
    dataset: Dataset = "puppets",
    manifest: Manifest = None,
    set_: Set = None,
    workers: Workers = 0,
    gpu: Gpu = False,
    on_success: OnSuccess = "register",
    resume_from: ResumeFrom = None,
    priority: Priority = 50,
    preempt: Preempt = False,
    wait: Annotated[bool, typer.Option("--wait", help="Watch it to its end; exit 1 unless it succeeds.")] = False,
    timeout: options.TimeOut = None,
    server: options.Server = None,
    key: options.Key = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Start a training run."""
    terminal.begin(json)
    asked = body(recipe, dataset, manifest, set_, workers, gpu, on_success, resume_from, priority, preempt)
    with client(server, key, data) as farm:
        found = farm.training.start(asked)
        terminal.note(f"{found.id} {found.status}; watch it with: dubfarm train watch {found.id}")
        if wait:
            found = follow(farm, found.id, timeout)
    terminal.answer(found)
    terminal.say(f"{found.id} {found.status}")
    if wait:
        check(found)


@app.command("list")
def list_(
    status: Annotated[str | None, typer.Option(help="Only those with this status.")] = None,
    schedule: Annotated[str | None, typer.Option(help="Only those of this schedule.")] = None,
    server: options.Server = None,
    key: options.Key = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Runs, newest first."""
    terminal.begin(json)
    with client(server, key, data) as farm:
        found = list(farm.training.runs(status=status, schedule=schedule))
    terminal.answer(found)
    rows = [(r.id, r.recipe, r.status, place(r), speed(r), r.schedule or "", why(r)) for r in found]
    terminal.table(("run", "recipe", "status", "stage", "samples/s", "schedule", "reason"), rows, "no training runs")


@app.command()
def show(
    run: RunId,
    server: options.Server = None,
    key: options.Key = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """A run with its attempts, losses and checkpoints."""
    terminal.begin(json)
    with client(server, key, data) as farm:
        found = farm.training.run(run)
        checkpoints = farm.training.checkpoints(run)
    terminal.answer({"run": found, "checkpoints": checkpoints})
    terminal.say(f"{found.id} {found.recipe} [bold]{found.status}[/bold] {place(found)} {escape(why(found))}")
    facts = [speed(found) and f"{speed(found)} samples/s", eta(found), f"{found.gpu_hours:.2f} GPU-hours"]
    if found.goodput is not None:
        facts.append(f"goodput {found.goodput:.0%}")
    terminal.say("  " + ", ".join(filter(None, facts)))
    if found.losses:
        terminal.say("  losses: " + losses(found))
    if found.alerts:
        terminal.say(f"  [yellow]alerts: {', '.join(found.alerts)}[/yellow]")
    if found.model_version:
        terminal.say(f"  version {found.model_version}")
    rows = [(a.number, a.outcome, a.reason or "", a.stage or "", a.step, a.host or "Ray") for a in found.history]
    terminal.table(("attempt", "outcome", "reason", "stage", "step", "on"), rows, "not started yet")
    rows = [(c.name, c.stage, c.step, c.size_bytes) for c in checkpoints]
    if rows:
        terminal.table(("checkpoint", "stage", "step", "bytes"), rows, "")


@app.command("watch")
def watch_(
    run: RunId,
    timeout: options.TimeOut = None,
    server: options.Server = None,
    key: options.Key = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Live progress until the run is over (with --json: an event a line). Exit 1 when it did not succeed."""
    terminal.begin(json)
    with client(server, key, data) as farm:
        found = follow(farm, run, timeout, lines=True)
    check(found)
    terminal.say(f"{found.id} succeeded: {escape(found.status_reason)}")


@app.command()
def cancel(
    run: RunId,
    server: options.Server = None,
    key: options.Key = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """End it; it leaves a checkpoint."""
    _act(lambda farm: farm.training.cancel(run), server, key, data, json)


@app.command()
def resume(
    run: RunId,
    server: options.Server = None,
    key: options.Key = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Take a failed or canceled run up again from its last checkpoint."""
    _act(lambda farm: farm.training.resume(run), server, key, data, json)


@app.command()
def recipes(
    keys: Annotated[bool, typer.Option("--keys", help="And what --set may change.")] = False,
    server: options.Server = None,
    key: options.Key = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """What can be trained."""
    terminal.begin(json)
    with client(server, key, data) as farm:
        found = farm.training.recipes()
    terminal.answer(found)
    for recipe in found:
        terminal.say(f"[bold]{recipe['name']}[/bold]  {recipe['about']}")
        for declared in recipe["keys"] if keys else ():
            terminal.say(f"  {declared['name']} = {declared['default']} ({declared['type']})")


app.command("clips")(clips.export)


def _act(
    action: Callable[[Client], TrainingRun], server: str | None, key: str | None, data: Path | None, as_json: bool
) -> None:
    terminal.begin(as_json)
    with client(server, key, data) as farm:
        found = action(farm)
    terminal.answer(found)
    terminal.say(f"{found.id} {found.status}")
