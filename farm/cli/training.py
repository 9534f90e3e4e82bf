"""`dubfarm train …`: runs and schedules."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from farm.cli import clips, options, schedules
from farm.cli.connect import connected
from farm.cli.progress import check, eta, follow, losses, place, speed, tell_run, why
from farm.cli.terminal import terminal
from farm.cli.wishes import Dataset, Gpu, Manifest, OnSuccess, Preempt, Priority, Recipe, ResumeFrom, Set, Workers, body
from farm.client import Client

app = typer.Typer(help="Training runs and their schedules.", no_args_is_help=True)
app.add_typer(schedules.app, name="schedule")

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id (run_…).")]


@app.command()
@connected
def run(
    farm: Client,
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
) -> None:
    """Start a training run."""
    asked = body(recipe, dataset, manifest, set_, workers, gpu, on_success, resume_from, priority, preempt)
    found = farm.training.start(asked)
    terminal.note(f"{found.id} {found.status}; watch it with: dubfarm train watch {found.id}")
    if wait:
        found = follow(farm, found.id, timeout)
    tell_run(found)
    if wait:
        check(found)


@app.command("list")
@connected
def list_(
    farm: Client,
    status: Annotated[str | None, typer.Option(help="Only those with this status.")] = None,
    schedule: Annotated[str | None, typer.Option(help="Only those of this schedule.")] = None,
) -> None:
    """Runs, newest first."""
    found = list(farm.training.runs(status=status, schedule=schedule))
    terminal.answer(found)
    rows = [(r.id, r.recipe, r.status, place(r), speed(r), r.schedule or "", why(r)) for r in found]
    terminal.table(("run", "recipe", "status", "stage", "samples/s", "schedule", "reason"), rows, "no training runs")


@app.command()
@connected
def show(farm: Client, run: RunId) -> None:
    """A run with its attempts, losses and checkpoints."""
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
@connected
def watch_(farm: Client, run: RunId, timeout: options.TimeOut = None) -> None:
    """Live progress until the run is over (with --json: an event a line). Exit 1 when it did not succeed."""
    found = follow(farm, run, timeout, lines=True)
    check(found)
    terminal.say(f"{found.id} succeeded: {escape(found.status_reason)}")


@app.command()
@connected
def cancel(farm: Client, run: RunId) -> None:
    """End it; it leaves a checkpoint."""
    tell_run(farm.training.cancel(run))


@app.command()
@connected
def resume(farm: Client, run: RunId) -> None:
    """Take a failed or canceled run up again from its last checkpoint."""
    tell_run(farm.training.resume(run))


@app.command()
@connected
def recipes(
    farm: Client, keys: Annotated[bool, typer.Option("--keys", help="And what --set may change.")] = False
) -> None:
    """What can be trained."""
    found = farm.training.recipes()
    terminal.answer(found)
    for recipe in found:
        terminal.say(f"[bold]{recipe['name']}[/bold]  {recipe['about']}")
        for declared in recipe["keys"] if keys else ():
            terminal.say(f"  {declared['name']} = {declared['default']} ({declared['type']})")


app.command("clips")(clips.export)
