"""`dubfarm models gate|canary …`: the rules that versions are promoted and canaries stopped by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from farm.cli.connect import connected
from farm.cli.exits import usage
from farm.cli.terminal import terminal
from farm.client import Client
from farm.client.answers import ModelCanary, ModelGate

gate = typer.Typer(help="What a version must reach to be champion or canary.", no_args_is_help=True)
canary = typer.Typer(help="When a canary is worse than the champion, and what follows.", no_args_is_help=True)
Default = Annotated[bool, typer.Option("--default", help="The default rules again.")]


@gate.command("show")
@connected
def gate_show(
    farm: Client, metrics: Annotated[bool, typer.Option("--metrics", help="And what rules may name.")] = False
) -> None:
    """The rules that hold now."""
    found = farm.gate()
    _show_gate(found)
    for name in found.metrics if metrics else ():
        terminal.say(f"  {name}")


@gate.command("set")
@connected
def gate_set(
    farm: Client,
    rules: Annotated[
        Path | None, typer.Argument(metavar="RULES.json", help='A list of {"metric", "direction", "margin", "bound"}.')
    ] = None,
    default: Default = False,
) -> None:
    """Other rules. Aliases stay where they are."""
    _show_gate(farm.set_gate(_read(rules, default)))


def _show_gate(found: ModelGate) -> None:
    terminal.answer(found)
    rows = [(rule.metric, rule.direction, _number(rule.margin), _number(rule.bound)) for rule in found.rules]
    terminal.table(("metric", "better", "margin to the champion", "bound"), rows, "no rules: everything passes")
    if found.is_default:
        terminal.say("  these are the default rules")


@canary.command("show")
@connected
def canary_show(farm: Client) -> None:
    """The rules that hold now."""
    _show_canary(farm.canary_rules())


@canary.command("set")
@connected
def canary_set(
    farm: Client,
    rules: Annotated[
        Path | None,
        typer.Argument(
            metavar="RULES.json",
            help='{"watched": [{"score", "tolerance"}], "share", "fewest_jobs", "confidence", "stops"}; all but watched'
            " may be left out.",
        ),
    ] = None,
    default: Default = False,
) -> None:
    """Other rules. A canary that runs keeps its share and is judged by them from now on."""
    _show_canary(farm.set_canary_rules(_read(rules, default)))


def _show_canary(found: ModelCanary) -> None:
    terminal.answer(found)
    rules = found.rules
    rows = [(one.score, one.direction, f"{one.tolerance:g}") for one in rules.watched]
    terminal.table(("score", "better", "tolerated"), rows, "nothing is watched: no canary is worse")
    then = "a worse one's share becomes 0" if rules.stops else "a worse one goes on, and is shown"
    terminal.say(f"  {rules.confidence:.4%} sure, over {rules.fewest_jobs} jobs of each at least: {then}")
    terminal.say(f"  a new canary gets {rules.share:.0%} of the jobs that ask for champion")
    if found.is_default:
        terminal.say("  these are the default rules")


def _read(path: Path | None, default: bool) -> Any:
    """What the file says, which the farm judges; None: the default rules."""
    if (path is None) != default:
        raise usage("rules_missing", "name a file of rules, or --default")
    if path is None:
        return None
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise usage("rules_invalid", f"{path}: {error}") from error
    if document is None:
        raise usage("rules_invalid", f"{path} says null; the default rules are --default")
    return document


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
