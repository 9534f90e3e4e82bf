"""`dubfarm models …`: bundles come in, aliases move through the gate."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from farm.cli import options, rules
from farm.cli.connect import connected
from farm.cli.exits import usage
from farm.cli.terminal import ago, terminal
from farm.client import Client, Version
from farm.client.answers import Alias as Alias_
from farm.client.answers import Mean
from farm.client.client import STAGED_POLL_S

app = typer.Typer(help="Models: import weights, promote a version, roll back.", no_args_is_help=True)
app.add_typer(rules.gate, name="gate")
app.add_typer(rules.canary, name="canary")
Name = Annotated[str | None, typer.Option(help="The version's name.")]
Alias = Annotated[str, typer.Option(help="The alias to move.")]
Promote = Annotated[bool, typer.Option("--promote", help="Make it champion.")]
Force = Annotated[bool, typer.Option("--force", help="Past the gate; audited with its reasons.")]
Share = Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Of the jobs that ask for champion (canary only).")]
Within = Annotated[
    float | None, typer.Option(min=0.0, max=3600.0, help="Seconds that workers have to fetch the files.")
]


@app.command("import-official")
@connected
def import_official(
    farm: Client,
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Holds the authors' four .pth files.", exists=True, file_okay=False)
    ],
    name: Name = "official",
    promote: Promote = False,
) -> None:
    """Make the authors' weights a bundle and register it. Their licence is not stated: ask first."""
    from farm.nets.official import import_official as convert

    with tempfile.TemporaryDirectory(prefix="dubfarm-import-") as scratch:
        terminal.note(f"reading {source}")
        bundle = Path(scratch) / "bundle"
        convert(source, bundle, name=name or "official")
        _register(farm, bundle, name or "official", promote)


@app.command()
@connected
def seed(
    farm: Client,
    name: Name = None,
    number: Annotated[int, typer.Option("--seed", min=0, help="Seed of the random weights.")] = 0,
    full: Annotated[bool, typer.Option("--full", help="The official sizes (slow on a CPU) instead of tiny.")] = False,
    promote: Promote = False,
) -> None:
    """Register an untrained model: for trying the farm and measuring its speed, not for faces."""
    from farm.nets.bundle import seeded
    from farm.nets.sizes import Sizes

    chosen = name or f"{'full' if full else 'tiny'}-untrained-{number}"
    with tempfile.TemporaryDirectory(prefix="dubfarm-seed-") as scratch:
        bundle = Path(scratch) / "bundle"
        seeded(bundle, Sizes.full() if full else Sizes.tiny(), number, chosen)
        _register(farm, bundle, chosen, promote)


@app.command()
@connected
def register(
    farm: Client,
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A finished run's folder, or a bundle's.", exists=True, file_okay=False),
    ],
    name: Annotated[str, typer.Option(help="The version's name.")],
    parent: Annotated[str | None, typer.Option(help="The version that training went on from.")] = None,
    promote: Promote = False,
) -> None:
    """Register what a training left behind: its bundle, evaluation and report, every file checked."""
    if not any((folder / at / "manifest.json").is_file() for at in ("", "bundle")):
        raise usage("bundle_missing", f"{folder} has no manifest.json and no bundle/manifest.json")
    _register(farm, folder, name, promote, parent)


@app.command("list")
@connected
def list_(farm: Client) -> None:
    """Versions, newest first, with the aliases that point at them."""
    found = list(farm.versions())
    terminal.answer(found)
    now = datetime.now(UTC)
    rows = [
        (v.name, ", ".join(v.aliases), "yes" if v.trained else "no", v.licence, v.id, ago(v.created_at, now))
        for v in found
    ]
    terminal.table(("version", "aliases", "trained", "licence", "id", "registered"), rows, "no versions yet")


@app.command()
@connected
def show(
    farm: Client, version: Annotated[str, typer.Argument(metavar="VERSION", help="Name, id or alias.")] = "champion"
) -> None:
    """Where a version comes from, and what the gate says of it."""
    found = farm.version(version)
    terminal.answer(found)
    terminal.say(f"{found.name}  {found.id}  {', '.join(found.aliases) or 'no alias'}")
    if found.unusable:
        terminal.say(f"  [red]no worker can render with it: {escape(found.unusable)}[/red]")
    lineage = found.lineage
    for name in ("recipe", "dataset_version", "code_version", "parent", "run"):
        if value := getattr(lineage, name, None):
            terminal.say(f"  {name.replace('_', ' ')}: {escape(value)}")
    if lineage is not None and lineage.seeds:
        terminal.say(f"  seeds: {', '.join(map(str, lineage.seeds))}")
    _say_gate(found)
    for name, file in sorted(found.report.items()):
        terminal.say(f"  {name}: {file['url']}")


def _say_gate(found: Version) -> None:
    if found.gate is None:
        return
    terminal.say(f"  the gate: {'passed' if found.gate.passed else '[red]refused[/red]'}")
    for finding in found.gate.findings:
        mark = "passed" if finding.passed else "[red]below[/red]"
        terminal.say(f"    {finding.metric} {mark}: {escape(finding.reason)}")
    if not found.gate.findings:
        for reason in found.gate.reasons:
            terminal.say(f"    [red]{escape(reason)}[/red]")


@app.command("promote")
@connected
def promote_(
    farm: Client,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Name or id.")],
    alias: Alias = "champion",
    share: Share = None,
    force: Force = False,
    within_s: Within = None,
) -> None:
    """Point an alias at a version. New jobs use it; those that are submitted keep theirs."""
    wanted = farm.version(version).id
    moved = farm.set_alias(alias, wanted, canary_share=share, force=force, within_s=within_s, wait=False)
    if moved.staged is not None:
        terminal.note(f"{moved.staged.workers} workers fetch {version}, {moved.staged.ready} have it")
        moved = _moved(farm, moved, wanted)
    terminal.answer(moved)
    of = f" for {moved.canary_share:.0%} of new jobs" if moved.canary_share is not None else ""
    terminal.say(f"{alias} is now {version}{of}")


def _moved(farm: Client, moved: Alias_, wanted: str) -> Alias_:
    while moved.staged is not None:
        time.sleep(STAGED_POLL_S)
        moved = farm.alias(moved.alias, moved.model)
        version = farm.version(wanted)
        if version.unusable is not None:
            raise usage("version_unusable", f"{version.name} cannot be rendered with: {version.unusable}")
    return moved


@app.command()
@connected
def rollback(farm: Client, alias: Alias = "champion") -> None:
    """Point an alias back at the version before."""
    moved = farm.rollback(alias)
    version = farm.version(moved.version or "")
    terminal.answer(moved)
    terminal.say(f"{alias} is {version.name} again")


@app.command()
@connected
def history(farm: Client, alias: Alias = "champion") -> None:
    """An alias's moves, newest first, with what was forced and why a canary was stopped."""
    moves = list(farm.alias_moves(alias))
    names = {version.id: version.name for version in farm.versions()}
    terminal.answer(moves)
    now = datetime.now(UTC)
    rows = [
        (
            move.kind + (", forced" if move.forced else ""),
            names.get(move.version, move.version),
            "" if move.canary_share is None else f"{move.canary_share:.0%}",
            move.actor,
            ago(move.at, now),
            "; ".join(move.reasons),
        )
        for move in moves
    ]
    terminal.table(("move", "version", "share", "by", "when", "reasons"), rows, f"{alias} never moved")


@app.command()
@connected
def compare(
    farm: Client,
    version: Annotated[str | None, typer.Argument(metavar="[VERSION]", help="Default: the canary.")] = None,
    beside: Annotated[str | None, typer.Argument(metavar="[BESIDE]", help="Default: the champion.")] = None,
) -> None:
    """Two versions' scores side by side: means over chunks, 95% intervals over jobs."""
    found = farm.compare(version, beside)
    names = {version.id: version.name for version in farm.versions()}
    terminal.answer(found)
    rows = [(one.score, _mean(one.champion), _mean(one.canary), "worse" if one.worse else "") for one in found.scores]
    columns = ("score", names.get(found.champion, found.champion), names.get(found.canary, found.canary), "")
    terminal.table(columns, rows, "no chunk of theirs has been rendered yet")


def _mean(mean: Mean | None) -> str:
    if mean is None:
        return "-"
    spread = "" if mean.low is None or mean.high is None else f" ± {(mean.high - mean.low) / 2:.2g}"
    return f"{mean.mean:.4g}{spread} ({mean.jobs} jobs)"


@app.command()
def evaluate(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="A bundle folder; the one that ships by default.")
    ] = None,
    clips: Annotated[
        Path | None, typer.Option(help="A folder of videos, instead of puppets.", exists=True, file_okay=False)
    ] = None,
    scope: Annotated[Literal["full", "quick", "smoke"], typer.Option(help="How much is rendered.")] = "full",
    out: Annotated[
        Path | None, typer.Option(help="Also write evaluation.json, report.md and report.html here.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Measure a bundle: how well its factors keep apart, how its lips follow a voice (docs/evaluation.md)."""
    terminal.begin(json)
    if bundle is not None and not (bundle / "manifest.json").is_file():
        raise usage("bundle_missing", f"{bundle} has no manifest.json")
    missing = [name for name in ("trainer", "torch", "espeakng_loader") if importlib.util.find_spec(name) is None]
    if missing:
        raise usage("trainer_missing", f"no {missing[0]} here: pip install 'dubfarm[trainer]'")
    wishes = {"--bundle": bundle, "--clips": clips, "--out": out, "--scope": scope}
    arguments = [part for name, value in wishes.items() if value is not None for part in (name, str(value))]
    # A process of its own: the command line does without torch, and the trainer stands beside the farm, not below it.
    command = [sys.executable, "-m", "trainer", "evaluate", *arguments, *(["--json"] if json else [])]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def _register(farm: Client, bundle: Path, name: str, promote: bool, parent: str | None = None) -> None:
    with terminal.transfer() as bar:
        task = bar.add_task(f"uploading {name}")
        version: Version = farm.register_version(
            bundle, name=name, parent=parent, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    if promote:
        farm.set_alias("champion", version.id)
        version = farm.version(version.id)
    terminal.answer(version)
    aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
    terminal.say(f"{version.name} is registered as {version.id}{aliases}")
    _say_gate(version)
    if not promote:
        terminal.say(f"  use it for all new jobs with: dubfarm models promote {version.name}")
