"""`python -m trainer run --recipe tiny --data DIR --out DIR`: all stages, with checkpoints; again to resume."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from farm.nets import bundle
from farm.nets.manifest import Manifest
from trainer import commands, loop
from trainer.cast import Cast
from trainer.corpus import Corpus, open_corpus
from trainer.evaluate import evaluate
from trainer.pictures import save_grid
from trainer.priors import open_prior
from trainer.recipes import RECIPES, Recipe, Stage
from trainer.stages import Setting

DATA = Path.home() / ".cache" / "dubfarm" / "corpus"
PRIORS = Path.home() / ".cache" / "dubfarm" / "priors"
app = typer.Typer(add_completion=False, no_args_is_help=True)
commands.register(app)


@app.callback()
def main() -> None:
    """Train the networks of the farm, stage after stage."""


@app.command()
def run(
    out: Annotated[Path, typer.Option(help="Checkpoints, curves, pictures and the bundle go here.")],
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(RECIPES)}.")] = "tiny",
    data: Annotated[Path, typer.Option(help="Where rendered puppets are kept.")] = DATA,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    priors: Annotated[Path, typer.Option(help="Folder of the user's priors: vgg19.pth, deep3d.pt2, ...")] = PRIORS,
    steps: Annotated[list[str] | None, typer.Option(help="STAGE=STEPS, to make a stage shorter or longer.")] = None,
) -> None:
    """Run all stages that OUT has not finished; a killed run goes on where its last checkpoint stands."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    chosen = _chosen(recipe, steps or [])
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.json").write_text(json.dumps(dataclasses.asdict(chosen), indent=2) + "\n")
    brought = {name: open_prior(name, priors) for name in chosen.priors if name != "readout"}
    with _bars() as bars:
        corpus = _corpus(chosen, data, bars)
        tasks = {stage.name: bars.add_task(stage.name, total=stage.steps, speed="") for stage in chosen.stages}

        def report(step: loop.Progress) -> None:
            bars.update(tasks[step.stage], completed=step.step, speed=f"{step.samples_per_s:.0f} samples/s")

        def staged(stage: Stage, setting: Setting) -> None:
            if stage.scene in ("eye", "pose"):  # no picture shows them yet
                return
            figures = evaluate(setting, lips=stage.scene == "compose")
            (out / f"after_{stage.name}.json").write_text(json.dumps(figures, indent=2) + "\n")
            save_grid(out / f"after_{stage.name}.png", setting)
            bars.console.print(stage.name, figures)

        cast = loop.train(chosen, corpus, out, report, staged=staged, priors=brought)
    folder = out / "bundle"
    if not (folder / "manifest.json").exists():
        write_bundle(folder, out, chosen, cast)
    Console().print(f"bundle: {folder}")


def write_bundle(folder: Path, out: Path, recipe: Recipe, cast: Cast) -> None:
    """The bundle, and beside its files what it came from: recipe, curves and first figures on held-out people."""
    manifest = Manifest(
        name=f"pdfgc-puppets-{recipe.sizes.image}",
        sizes=recipe.sizes,
        licence="Apache-2.0",
        trained=True,
        created_by=f"trainer, recipe {recipe.name}",
        source=f"puppets only (corpus {recipe.corpus and recipe.corpus.key}); recipe {loop.recipe_key(recipe)[:12]}",
        seed=recipe.seed,
    )
    bundle.save(folder, manifest, cast.networks())
    (folder / "recipe.json").write_text((out / "recipe.json").read_text())
    (folder / "curves.json").write_text(json.dumps(loop.curves(out), separators=(",", ":")) + "\n")
    last = out / f"after_{recipe.stages[-1].name}.json"
    if last.exists():
        (folder / "evaluation.json").write_text(last.read_text())


def _chosen(name: str, steps: list[str]) -> Recipe:
    if name not in RECIPES:
        raise typer.BadParameter(f"no recipe {name!r}: one of {', '.join(RECIPES)}")
    recipe = RECIPES[name]()
    for change in steps:
        stage_name, _, count = change.partition("=")
        if stage_name not in {stage.name for stage in recipe.stages} or not count.isdigit():
            raise typer.BadParameter(f"--steps {change}: STAGE=STEPS, of the recipe's stages")
        stages = (
            dataclasses.replace(stage, steps=int(count)) if stage.name == stage_name else stage
            for stage in recipe.stages
        )
        recipe = dataclasses.replace(recipe, stages=tuple(stages))
    return recipe


def _corpus(recipe: Recipe, data: Path, bars: Progress) -> Corpus:
    if recipe.corpus is None:
        raise typer.BadParameter(f"recipe {recipe.name} wants a real corpus; only puppets can be trained on so far")
    task = bars.add_task("puppets", total=recipe.corpus.clips + recipe.corpus.held_out, speed="")
    return open_corpus(data, recipe.corpus, lambda done, _: bars.update(task, completed=done))


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]:>16}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )


if __name__ == "__main__":
    app()
