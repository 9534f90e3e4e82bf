"""`dubfarm train …`: runs and schedules."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from farm.cli import clips, options, watch
from farm.cli.connect import client
from farm.cli.exits import Exit, Failed, usage
from farm.cli.terminal import terminal
from farm.client import Client, Event, TrainingRun, TrainingSchedule

app = typer.Typer(help="Training runs and their schedules.", no_args_is_help=True)
schedule_app = typer.Typer(help="Runs that start by the clock.", no_args_is_help=True)
app.add_typer(schedule_app, name="schedule")
app.command("clips")(clips.export)

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id (run_…).")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]
Recipe = Annotated[str, typer.Option(help="dubfarm train recipes lists them.")]
Dataset = Annotated[str, typer.Option(help="puppets, or a prepared set's uri.")]
Manifest = Annotated[str | None, typer.Option("--manifest-sha256", help="Exactly this version of the set.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe.")]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Ray Train workers; 0: one plain process.")]
Gpu = Annotated[bool, typer.Option("--gpu", help="A GPU for each.")]
OnSuccess = Annotated[str, typer.Option(help="register, or promote where the gate lets it.")]
Priority = Annotated[int, typer.Option(min=0, max=100, help="Higher ones start first; rendering's is 100.")]
Preempt = Annotated[
    bool,
    typer.Option("--preempt", help="Have a run of lower priority stopped where no room is left."),
]
ResumeFrom = Annotated[str | None, typer.Option(metavar="RUN[/CHECKPOINT]", help="Begin from its checkpoint.")]


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
    line = {"priority": priority, "preempt": preempt}
    body = _body(recipe, dataset, manifest, set_, workers, gpu, on_success, resume_from) | line
    with client(server, key, data) as farm:
        found = farm.training.start(body)
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
    rows = [(r.id, r.recipe, r.status, _place(r), _speed(r), r.schedule or "", _why(r)) for r in found]
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
    terminal.say(f"{found.id} {found.recipe} [bold]{found.status}[/bold] {_place(found)} {escape(_why(found))}")
    facts = [_speed(found) and f"{_speed(found)} samples/s", _eta(found), f"{found.gpu_hours:.2f} GPU-hours"]
    if found.goodput is not None:
        facts.append(f"goodput {found.goodput:.0%}")
    terminal.say("  " + ", ".join(filter(None, facts)))
    if found.losses:
        terminal.say("  losses: " + _losses(found))
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


# --- schedules -----------------------------------------------------------------------------------------------------


@schedule_app.command("set")
def set_schedule(
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
    server: options.Server = None,
    key: options.Key = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Make a schedule, or replace it whole."""
    terminal.begin(json)
    body = _body(recipe, dataset, manifest, set_, workers, gpu, on_success, resume_from) | {
        "priority": priority,
        "preempt": preempt,
        "cron": cron,
        "timezone": timezone,
        "overlap": overlap,
        "catch_up": catch_up,
        "catch_up_most": catch_up_most,
        "min_new_clips": min_new_clips,
        "paused": paused,
    }
    with client(server, key, data) as farm:
        found = farm.training.set_schedule(name, body)
    terminal.answer(found)
    _tell(found)


@schedule_app.command("list")
def list_schedules(
    server: options.Server = None,
    key: options.Key = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """All schedules."""
    terminal.begin(json)
    with client(server, key, data) as farm:
        found = list(farm.training.schedules())
    terminal.answer(found)
    rows = [
        (s.name, s.cron, s.timezone, s.recipe, s.next[0].isoformat() if s.next else "paused", _newest(s)) for s in found
    ]
    terminal.table(("schedule", "cron", "time zone", "recipe", "next", "newest"), rows, "no schedules")


@schedule_app.command("show")
def show_schedule(
    name: Name,
    server: options.Server = None,
    key: options.Key = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """A schedule, its next times and what became of the last ones."""
    terminal.begin(json)
    with client(server, key, data) as farm:
        found = farm.training.schedule(name)
    terminal.answer(found)
    _tell(found)
    rows = [(f.at.isoformat(), f.outcome, f.count, f.run_id or "", f.reason) for f in found.firings]
    terminal.table(("time", "outcome", "times", "run", "reason"), rows, "has not fired yet")


@schedule_app.command("delete")
def delete_schedule(
    name: Name,
    server: options.Server = None,
    key: options.Key = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Its runs go on."""
    terminal.begin(json)
    with client(server, key, data) as farm:
        farm.training.delete_schedule(name)
    terminal.answer({"deleted": name})
    terminal.say(f"{name} deleted")


@schedule_app.command("run-now")
def run_now(
    name: Name,
    server: options.Server = None,
    key: options.Key = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """A run of it at once, paused or not."""
    _act(lambda farm: farm.training.run_now(name), server, key, data, json)


# --- parts ---------------------------------------------------------------------------------------------------------


def follow(farm: Client, run_id: str, timeout_s: float | None, lines: bool = False) -> TrainingRun:
    """Show a run until it is over. Raises TimeoutError; the run goes on then."""
    with _Bars() as bars:
        for event in watch.timed(lambda: farm.training.watch(run_id), timeout_s, run_id):
            if lines:
                terminal.answer({"event": event.type, "data": event.data})
            bars.take(event)
    return farm.training.run(run_id)


def check(found: TrainingRun) -> None:
    """Failed unless it succeeded."""
    if found.status == "succeeded":
        return
    code = found.error.code if found.error else found.status
    fix = f"dubfarm train resume {found.id} goes on from its last checkpoint"
    raise Failed(Exit.FAILED_JOB, code, f"{found.id} {found.status}: {_why(found)}", fix=fix)


class _Bars:
    """On a terminal: a bar a stage. Elsewhere: a line an event."""

    def __init__(self) -> None:
        self._live = terminal.err.is_terminal and not terminal.json
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("[dim]{task.fields[state]}[/dim]"),
            TimeElapsedColumn(),
            console=terminal.err,
            disable=not self._live,
        )
        self._stages: dict[str, TaskID] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def take(self, event: Event) -> None:
        if event.type in ("run.status", "run.alert", "run.yield", "run.stage") and not terminal.json:
            terminal.note(_said(event.type, event.data["data"]))
        found = event.run
        if found is None or found.stage is None:
            return
        if found.stage not in self._stages:
            label = f"{found.stage_number}/{found.stages} {found.stage}"
            self._stages[found.stage] = self._progress.add_task(label, state="")
        state = ", ".join(filter(None, (_speed(found) and f"{_speed(found)} samples/s", _eta(found), _losses(found))))
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


def _body(
    recipe: str,
    dataset: str,
    manifest: str | None,
    changes: Sequence[str] | None,
    workers: int,
    gpu: bool,
    on_success: str,
    resume_from: str | None,
) -> dict[str, object]:
    if dataset == "puppets" and manifest is not None:
        raise usage("manifest_without_dataset", "--manifest-sha256 names a version of --dataset URI")
    return {
        "recipe": recipe,
        "dataset": dataset if dataset == "puppets" else {"uri": dataset, "manifest_sha256": manifest},
        "overrides": dict(_change(text) for text in changes or ()),
        "scaling": {"workers": workers, "use_gpu": gpu},
        "on_success": on_success,
        "resume_from": resume_from,
    }


def _change(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    try:
        if equals:
            return name.strip(), None if value.strip() == "none" else jsonlib.loads(value)
    except ValueError:
        pass
    raise usage("set_invalid", f"--set {text}: KEY=VALUE, a number, true, false or none")


def _act(
    action: Callable[[Client], TrainingRun], server: str | None, key: str | None, data: Path | None, as_json: bool
) -> None:
    terminal.begin(as_json)
    with client(server, key, data) as farm:
        found = action(farm)
    terminal.answer(found)
    terminal.say(f"{found.id} {found.status}")


def _tell(found: TrainingSchedule) -> None:
    terminal.say(f"{found.name}  [bold]{found.cron}[/bold] {found.timezone}  trains {found.recipe}")
    terminal.say("  paused" if found.paused else "  next: " + ", ".join(at.isoformat() for at in found.next))


def _newest(found: TrainingSchedule) -> str:
    return f"{found.firings[0].outcome} {found.firings[0].run_id or ''}" if found.firings else ""


def _place(run: TrainingRun) -> str:
    return f"{run.stage} {run.step}/{run.steps}" if run.stage else ""


def _speed(run: TrainingRun) -> str:
    return f"{run.samples_per_s:.3g}" if run.samples_per_s and run.status == "running" else ""


def _eta(run: TrainingRun) -> str:
    return f"{timedelta(seconds=int(run.eta_s))} to the stage's end" if run.eta_s and run.status == "running" else ""


def _losses(run: TrainingRun) -> str:
    shown = sorted(run.losses.items())[:4]
    return ", ".join(f"{name} {'NaN' if value is None else f'{value:.3g}'}" for name, value in shown)


def _why(run: TrainingRun) -> str:
    return run.error.detail if run.error else run.waiting_reason or run.status_reason
