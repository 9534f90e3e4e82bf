"""`python -m trainer run --recipe tiny --data DIR --out DIR`: all stages, with checkpoints; again to resume.

Exit codes: 0 done, 1 failed (status.json says why), 2 wrong usage, 3 stopped, resumable by the same command.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import traceback
from pathlib import Path
from typing import Annotated, Final, NoReturn

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from farm.errors import Rejected
from farm.nets import bundle
from farm.nets.manifest import Manifest
from farm.storage.blobs import open_store
from trainer import commands, loop, material, overrides
from trainer.cast import Cast
from trainer.corpus import Corpus
from trainer.evaluate import evaluate
from trainer.pictures import save_grid
from trainer.prior_files import PRIORS, open_priors
from trainer.priors import PriorMissing
from trainer.recipes import RECIPES, Recipe, Stage
from trainer.stages import Setting
from trainer.status import Door, Status, TrainingFailed

DATA = Path.home() / ".cache" / "dubfarm" / "corpus"
FAILED: Final = 1
STOPPED: Final = 3
app = typer.Typer(add_completion=False, no_args_is_help=True)
commands.register(app)


@app.callback()
def main() -> None:
    """Train the networks of the farm, stage after stage."""


@app.command()
def run(
    out: Annotated[Path, typer.Option(help="Status, checkpoints, curves, pictures and the bundle go here.")],
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(RECIPES)}.")] = "tiny",
    data: Annotated[
        str,
        typer.Option(help="Where rendered puppets are kept; or a prepared set, DIR or s3://..., also with #VERSION."),
    ] = str(DATA),
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    priors: Annotated[Path, typer.Option(help="Folder of the user's priors: vgg19.pth, deep3d.pt2, ...")] = PRIORS,
    steps: Annotated[list[str] | None, typer.Option(help="STAGE=STEPS: short for --set stages.STAGE.steps=...")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE: a key of the recipe (python -m trainer recipes).")
    ] = None,
) -> None:
    """Run all stages that OUT has not finished; a killed or stopped run goes on where its last checkpoint stands."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    if recipe not in RECIPES:
        raise typer.BadParameter(f"no recipe {recipe!r}: one of {', '.join(RECIPES)}")
    out.mkdir(parents=True, exist_ok=True)
    door = Door(open_store(out.absolute().as_uri()), Status())
    signal.signal(signal.SIGTERM, lambda *_: door.stop())
    try:
        changes = [f"stages.{change.replace('=', '.steps=', 1)}" for change in steps or []]
        chosen = overrides.overridden(RECIPES[recipe](), [*changes, *(set_ or [])])
        _run(material.bound(chosen, data), data, out, priors, door)
    except (Rejected, TrainingFailed) as error:
        _end(door, error.code, error.detail)
    except PriorMissing as error:
        _end(door, "bad_dataset", str(error))
    except loop.Deadline as stopped:
        door.close(state="stopped")
        Console(stderr=True).print(f"{stopped}; the same command goes on", markup=False)
        raise typer.Exit(STOPPED) from None
    except KeyboardInterrupt:
        door.close(state="stopped")
        raise
    except BaseException as error:
        traceback.print_exc()
        _end(door, "bug", f"{type(error).__name__}: {error}")
    door.close(state="succeeded")


@app.command()
def recipes(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """The recipes, and every key of them that --set may change."""
    console = Console()
    listing = [_listed(make.__doc__ or "", make()) for make in RECIPES.values()]
    if as_json:
        typer.echo(json.dumps({"recipes": listing}, indent=2))
        return
    for entry in listing:
        console.print(f"[bold]{entry['name']}[/]: {entry['about']}")
        for key in entry["keys"]:
            console.print(f"  {key['name']} = {key['default']} ({key['type']})", highlight=False)


def _listed(about: str, recipe: Recipe) -> dict:
    return {
        "name": recipe.name,
        "about": " ".join(about.split()),
        "stages": [{"name": stage.name, "steps": stage.steps, "batch": stage.batch} for stage in recipe.stages],
        "keys": [dataclasses.asdict(key) for key in overrides.declared(recipe)],
    }


def _end(door: Door, code: str, detail: str) -> NoReturn:
    door.close(state="failed", error={"code": code, "detail": detail})
    Console(stderr=True).print(f"{code}: {detail}", markup=False, soft_wrap=True)
    raise typer.Exit(FAILED) from None


def _run(chosen: Recipe, data: str, out: Path, priors: Path, door: Door) -> None:
    (out / "recipe.json").write_text(json.dumps(dataclasses.asdict(chosen), indent=2) + "\n")
    door.show(stages=len(chosen.stages))
    brought = open_priors(chosen.priors, priors)
    names = [stage.name for stage in chosen.stages]
    with _bars() as bars:
        corpus = _corpus(chosen, data, bars)
        tasks = {stage.name: bars.add_task(stage.name, total=stage.steps, speed="") for stage in chosen.stages}

        def report(step: loop.Progress) -> None:
            bars.update(tasks[step.stage], completed=step.step, speed=f"{step.samples_per_s:.0f} samples/s")
            door.show(
                stage=step.stage,
                stage_number=1 + names.index(step.stage),
                step=step.step,
                steps=step.steps,
                samples_per_s=round(step.samples_per_s, 2),
                eta_s=round((step.steps - step.step) * step.batch / max(step.samples_per_s, 1e-9), 1),
                losses=step.terms,
            )

        def staged(stage: Stage, setting: Setting) -> None:
            if stage.scene in ("eye", "pose"):  # no picture shows them yet
                return
            figures = evaluate(setting, lips=stage.scene == "compose")
            (out / f"after_{stage.name}.json").write_text(json.dumps(figures, indent=2) + "\n")
            save_grid(out / f"after_{stage.name}.png", setting)
            bars.console.print(stage.name, figures["psnr"])

        cast = loop.train(chosen, corpus, out, report, lambda _: door.stopping(), staged, brought)
    folder = out / "bundle"
    if not (folder / "manifest.json").exists():
        write_bundle(folder, out, chosen, cast)
    Console().print(f"bundle: {folder}")


def write_bundle(folder: Path, out: Path, recipe: Recipe, cast: Cast) -> None:
    """The bundle, and beside its files what it came from: recipe, curves and first figures on held-out people."""
    manifest = Manifest(
        name=f"pdfgc-{material.kind(recipe)}-{recipe.sizes.image}",
        sizes=recipe.sizes,
        licence="Apache-2.0",
        trained=True,
        created_by=f"trainer, recipe {recipe.name}",
        source=f"{material.told(recipe)}; recipe {loop.recipe_key(recipe)[:12]}",
        seed=recipe.seed,
    )
    bundle.save(folder, manifest, cast.networks())
    (folder / "recipe.json").write_text((out / "recipe.json").read_text())
    (folder / "curves.json").write_text(json.dumps(loop.curves(out), separators=(",", ":")) + "\n")
    last = out / f"after_{recipe.stages[-1].name}.json"
    if last.exists():
        (folder / "evaluation.json").write_text(last.read_text())
        (out / "evaluation.json").write_text(last.read_text())


def _corpus(recipe: Recipe, data: str, bars: Progress) -> Corpus:
    assert recipe.corpus is not None
    task = bars.add_task("clips", total=recipe.corpus.clips + recipe.corpus.held_out, speed="")
    try:
        return material.opened(recipe, data, lambda done, _: bars.update(task, completed=done))
    except (OSError, ValueError) as error:
        raise TrainingFailed("bad_dataset", f"{data}: {error}") from error


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
