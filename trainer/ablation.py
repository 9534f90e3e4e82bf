"""Tables 4 and 5 of the paper on a recipe: what in-window averaging, lip decorrelation, and the window's length do.

Stages before the last are trained once; only the last is repeated, for every configuration and seed. What is done
already is not done again: the same command goes on.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trainer import loop, readout
from trainer.checkpoint import begin_with
from trainer.corpus import Corpus
from trainer.evaluate import evaluate_footage
from trainer.metrics import rounded
from trainer.out import open_out
from trainer.recipes import Recipe, Stage
from trainer.report import flat
from trainer.subject import CONTROLLED, Subject
from trainer.trial import SCOPES, Footage

DECORRELATION: Final = "decorrelation"
RESULT: Final = "result.json"
ASKED: Final = ("factor_variance", "factor_ratio", "obedience", "lip_sync", "lse", "nlse_c", "psnr", "expression_mse")


@dataclass(frozen=True)
class Configuration:
    """window 1: no in-window averaging. paper_nlse_c: Table 4's, where it has the row."""

    name: str
    window: int
    decorrelated: bool
    paper_nlse_c: float | None = None


TABLE_4: Final = (
    Configuration("none", 1, False, 0.486),
    Configuration("in-window", 13, False, 0.034),
    Configuration("lip decorrelation", 1, True, 0.045),
    Configuration("both", 13, True, 0.007),
)
TABLE_5: Final = (
    Configuration("window 7", 7, True),
    Configuration("both", 13, True),
    Configuration("window 25", 25, True),
)
CONFIGURATIONS: Final = tuple({entry.name: entry for entry in (*TABLE_4, *TABLE_5)}.values())
COLUMNS: Final = {
    "NLSE-C": "nlse_c",
    "lip sync": "lip_sync.at_0",
    "lips moved by expression": "factor_variance.lip.expression",
    **{f"{name} on": f"factor_variance.{name}.{name}" for name in CONTROLLED},
    **{f"{name} ratio": f"factor_ratio.row.{name}" for name in CONTROLLED},
    "PSNR": "psnr",
}
"""Title -> dotted path."""


def ablate(
    recipe: Recipe,
    corpus: Corpus,
    footage: Footage,
    out: Path,
    seeds: int,
    *,
    steps: int | None = None,
    scope: str = "quick",
    told: Callable[[str], None] = lambda _: None,
    report: Callable[[loop.Progress], None] = lambda _: None,
) -> dict[str, Any]:
    """Run what OUT lacks; returns and writes ablation.json, and ablation.md beside it. steps: of each last stage."""
    base = _plain(recipe)
    shared = dataclasses.replace(base, stages=base.stages[:-1])
    told("stages before the last, once")
    cast = loop.train(shared, corpus, out / "shared", report)
    last = _shortened(base.stages[-1], steps)
    for seed in range(seeds):
        for configuration in CONFIGURATIONS:
            folder = out / f"{configuration.name.replace(' ', '-')}-seed{seed}"
            if (folder / RESULT).exists():
                continue
            told(f"{configuration.name}, seed {seed + 1} of {seeds}")
            chosen = variant(base, last, configuration, seed)
            key = loop.recipe_key(chosen)
            begin_with(open_out(folder).store, key, cast)
            made = loop.train(chosen, corpus, folder, report)
            subject = Subject(configuration.name, made.networks(), window=configuration.window)
            found, _ = evaluate_footage(subject, footage, readout.load(), SCOPES[scope], names=ASKED)
            unfinished = folder / "result.tmp"
            unfinished.write_text(json.dumps(found, indent=2) + "\n")
            unfinished.replace(folder / RESULT)
    table = gathered(out, seeds)
    (out / "ablation.json").write_text(json.dumps(table, indent=2) + "\n")
    (out / "ablation.md").write_text(markdown(table))
    return table


def variant(base: Recipe, last: Stage, configuration: Configuration, seed: int) -> Recipe:
    """The last stage alone, with a window, with or without Eq. 6, on its own seed."""
    phases = tuple(
        phase
        if configuration.decorrelated
        else dataclasses.replace(phase, terms=tuple(t for t in phase.terms if t.name != DECORRELATION))
        for phase in last.phases
    )
    return dataclasses.replace(
        base,
        stages=(dataclasses.replace(last, phases=phases),),
        choices=dataclasses.replace(base.choices, window=configuration.window),
        seed=base.seed + 1000 * seed,
    )


def gathered(out: Path, seeds: int) -> dict[str, Any]:
    """table -> configuration -> column -> mean, spread (half the range over seeds) and values."""
    tables: dict[str, Any] = {"seeds": seeds}
    for title, rows in (("table_4", TABLE_4), ("table_5", TABLE_5)):
        tables[title] = {}
        for configuration in rows:
            name = configuration.name.replace(" ", "-")
            found = [json.loads((out / f"{name}-seed{seed}" / RESULT).read_text()) for seed in range(seeds)]
            tables[title][configuration.name] = {
                **{column: _over_seeds(found, path) for column, path in COLUMNS.items()},
                "paper_nlse_c": configuration.paper_nlse_c,
            }
    return tables


def markdown(table: Mapping[str, Any]) -> str:
    lines = [f"# Ablation, {table['seeds']} seeds: mean ± half the range"]
    for title, heading in (
        ("table_4", "Table 4: in-window averaging and lip decorrelation"),
        ("table_5", "Table 5: the window's length, both on"),
    ):
        columns = ["configuration", *COLUMNS, "the paper's NLSE-C"]
        lines += ["", f"## {heading}", "", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
        for name, row in table[title].items():
            cells = [_cell(row[column]) for column in COLUMNS]
            paper = "–" if row["paper_nlse_c"] is None else f"{row['paper_nlse_c']:.3f}"
            lines.append(f"| {name} | {' | '.join(cells)} | {paper} |")
    return "\n".join(lines) + "\n"


def _over_seeds(found: list[dict[str, Any]], path: str) -> dict[str, Any]:
    values = [dict(flat("", entry))[f".{path}"] for entry in found]
    known = [value for value in values if value is not None]
    if not known:
        return {"mean": None, "spread": None, "values": values}
    return rounded({"mean": statistics.fmean(known), "spread": (max(known) - min(known)) / 2}) | {"values": values}


def _cell(entry: Mapping[str, Any]) -> str:
    return "–" if entry["mean"] is None else f"{entry['mean']:.3f} ± {entry['spread']:.3f}"


def _plain(recipe: Recipe) -> Recipe:
    """Eq. 6 as the paper has it: against the lips' code alone."""
    return dataclasses.replace(recipe, choices=dataclasses.replace(recipe.choices, decorrelate_all=False))


def _shortened(stage: Stage, steps: int | None) -> Stage:
    """So many steps; what freezes, freezes at the same share of the stage."""
    if steps is None:
        return stage
    phases = tuple(
        dataclasses.replace(
            phase,
            groups=tuple(
                dataclasses.replace(g, until=None if g.until is None else max(1, g.until * steps // stage.steps))
                for g in phase.groups
            ),
        )
        for phase in stage.phases
    )
    return dataclasses.replace(stage, phases=phases, steps=steps)
