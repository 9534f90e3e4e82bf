"""`dubfarm train schedule …`: runs that start by the clock."""

from __future__ import annotations

from typing import Annotated

import typer

from farm.cli.connect import connected
from farm.cli.progress import tell_run
from farm.cli.terminal import terminal
from farm.cli.wishes import Dataset, Gpu, Manifest, OnSuccess, Preempt, Priority, Recipe, ResumeFrom, Set, Workers, body
from farm.client import Client, TrainingSchedule

app = typer.Typer(help="Runs that start by the clock.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]


@app.command("set")
@connected
def set_schedule(
    farm: Client,
    name: Name,
    cron: Annotated[str, typer.Option(help='minute hour day-of-month month day-of-week: "0 3 * * 0".')],
    recipe: Recipe,
    timezone: Annotated[str, typer.Option(help="IANA name, such as Europe/Berlin.")] = "UTC",
    dataset: Dataset = "puppets",
    manifest: Manifest = None,
    set_: Set = None,
    workers: Workers = 0,
    gpu: Gpu = False,
    on_success: OnSuccess = "register",
    resume_from: ResumeFrom = None,
    priority: Priority = 50,
    preempt: Preempt = False,
    overlap: Annotated[str, typer.Option(help="forbid, queue or replace.")] = "forbid",
    catch_up: Annotated[str, typer.Option(help="none, latest or all.")] = "none",
    catch_up_most: Annotated[int, typer.Option(min=1, help="Of `all`.")] = 5,
    min_new_clips: Annotated[int, typer.Option(min=0, help="Only when the data has grown by so many.")] = 0,
    paused: Annotated[bool, typer.Option("--paused")] = False,
) -> None:
    """Make a schedule, or replace it whole."""
    asked = body(recipe, dataset, manifest, set_, workers, gpu, on_success, resume_from, priority, preempt) | {
        "cron": cron,
        "timezone": timezone,
        "overlap": overlap,
        "catch_up": catch_up,
        "catch_up_most": catch_up_most,
        "min_new_clips": min_new_clips,
        "paused": paused,
    }
    found = farm.training.set_schedule(name, asked)
    terminal.answer(found)
    _tell(found)


@app.command("list")
@connected
def list_schedules(farm: Client) -> None:
    """All schedules."""
    found = list(farm.training.schedules())
    terminal.answer(found)
    rows = [
        (s.name, s.cron, s.timezone, s.recipe, s.next[0].isoformat() if s.next else "paused", _newest(s)) for s in found
    ]
    terminal.table(("schedule", "cron", "time zone", "recipe", "next", "newest"), rows, "no schedules")


@app.command("show")
@connected
def show_schedule(farm: Client, name: Name) -> None:
    """A schedule, its next times and what became of the last ones."""
    found = farm.training.schedule(name)
    terminal.answer(found)
    _tell(found)
    rows = [(f.at.isoformat(), f.outcome, f.count, f.run_id or "", f.reason) for f in found.firings]
    terminal.table(("time", "outcome", "times", "run", "reason"), rows, "has not fired yet")


@app.command("delete")
@connected
def delete_schedule(farm: Client, name: Name) -> None:
    """Its runs go on."""
    farm.training.delete_schedule(name)
    terminal.answer({"deleted": name})
    terminal.say(f"{name} deleted")


@app.command("run-now")
@connected
def run_now(farm: Client, name: Name) -> None:
    """A run of it at once, paused or not."""
    tell_run(farm.training.run_now(name))


def _tell(found: TrainingSchedule) -> None:
    terminal.say(f"{found.name}  [bold]{found.cron}[/bold] {found.timezone}  trains {found.recipe}")
    terminal.say("  paused" if found.paused else "  next: " + ", ".join(at.isoformat() for at in found.next))


def _newest(found: TrainingSchedule) -> str:
    return f"{found.firings[0].outcome} {found.firings[0].run_id or ''}" if found.firings else ""
