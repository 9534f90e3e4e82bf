"""`dubfarm models …`: bundles come in, aliases move."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from farm.cli import options
from farm.cli.connect import client
from farm.cli.exits import usage
from farm.cli.terminal import ago, terminal
from farm.client import Client, Version

app = typer.Typer(help="Models: import weights, promote a version, roll back.", no_args_is_help=True)
Name = Annotated[str | None, typer.Option(help="The version's name.")]
Alias = Annotated[str, typer.Option(help="The alias to move.")]
Promote = Annotated[bool, typer.Option("--promote", help="Make it champion at once.")]


@app.command("import-official")
def import_official(
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Holds the authors' four .pth files.", exists=True, file_okay=False)
    ],
    name: Name = "official",
    promote: Promote = False,
    server: options.Server = None,
    key: options.Key = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Make the authors' weights a bundle and register it. Their licence is not stated: ask first."""
    terminal.begin(json)
    from farm.nets.official import import_official as convert

    with client(server, key, data) as farm, tempfile.TemporaryDirectory(prefix="dubfarm-import-") as scratch:
        terminal.note(f"reading {source}")
        bundle = Path(scratch) / "bundle"
        convert(source, bundle, name=name or "official")
        _register(farm, bundle, name or "official", promote)


@app.command()
def seed(
    name: Name = None,
    number: Annotated[int, typer.Option("--seed", min=0, help="Seed of the random weights.")] = 0,
    full: Annotated[bool, typer.Option("--full", help="The official sizes (slow on a CPU) instead of tiny.")] = False,
    promote: Promote = False,
    server: options.Server = None,
    key: options.Key = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Register an untrained model: for trying the farm and measuring its speed, not for faces."""
    terminal.begin(json)
    from farm.nets.bundle import seeded
    from farm.nets.sizes import Sizes

    chosen = name or f"{'full' if full else 'tiny'}-untrained-{number}"
    with client(server, key, data) as farm, tempfile.TemporaryDirectory(prefix="dubfarm-seed-") as scratch:
        bundle = Path(scratch) / "bundle"
        seeded(bundle, Sizes.full() if full else Sizes.tiny(), number, chosen)
        _register(farm, bundle, chosen, promote)


@app.command()
def register(
    folder: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle folder.", exists=True, file_okay=False)],
    name: Annotated[str, typer.Option(help="The version's name.")],
    promote: Promote = False,
    server: options.Server = None,
    key: options.Key = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Register a bundle folder (manifest.json and its safetensors files) as it is."""
    terminal.begin(json)
    if not (folder / "manifest.json").is_file():
        raise usage("bundle_missing", f"{folder} has no manifest.json")
    with client(server, key, data) as farm:
        _register(farm, folder, name, promote)


@app.command("list")
def list_(
    server: options.Server = None, key: options.Key = None, data: options.Data = None, json: options.Json = False
) -> None:
    """Versions, newest first, with the aliases that point at them."""
    terminal.begin(json)
    with client(server, key, data) as farm:
        found = list(farm.versions())
    terminal.answer(found)
    now = datetime.now(UTC)
    rows = [
        (v.name, ", ".join(v.aliases), "yes" if v.trained else "no", v.licence, v.id, ago(v.created_at, now))
        for v in found
    ]
    terminal.table(("version", "aliases", "trained", "licence", "id", "registered"), rows, "no versions yet")


@app.command("promote")
def promote_(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Name or id.")],
    alias: Alias = "champion",
    force: Annotated[bool, typer.Option("--force", help="Past the gate; audited.")] = False,
    server: options.Server = None,
    key: options.Key = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Point an alias at a version. New jobs use it; those that are submitted keep theirs."""
    terminal.begin(json)
    with client(server, key, data) as farm:
        moved = farm.set_alias(alias, farm.version(version).id, force=force)
    terminal.answer(moved)
    terminal.say(f"{alias} is now {version}")


@app.command()
def rollback(
    alias: Alias = "champion",
    server: options.Server = None,
    key: options.Key = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Point an alias back at the version before."""
    terminal.begin(json)
    with client(server, key, data) as farm:
        moved = farm.rollback(alias)
        version = farm.version(moved.version)
    terminal.answer(moved)
    terminal.say(f"{alias} is {version.name} again")


def _register(farm: Client, bundle: Path, name: str, promote: bool) -> None:
    with terminal.transfer() as bar:
        task = bar.add_task(f"uploading {name}")
        version: Version = farm.register_version(
            bundle, name=name, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    if promote:
        farm.set_alias("champion", version.id)
        version = farm.version(version.id)
    terminal.answer(version)
    aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
    terminal.say(f"{version.name} is registered as {version.id}{aliases}")
    if not promote:
        terminal.say(f"  use it for all new jobs with: dubfarm models promote {version.name}")
