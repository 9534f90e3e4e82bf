"""`python -m trainer run --recipe tiny --data DIR --out DIR`: all stages, with checkpoints; again to resume.

Exit codes: 0 done, 1 failed (status.json says why), 2 wrong usage, 3 stopped, resumable by the same command.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import time
import traceback
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from farm.errors import Rejected, Transient
from trainer import commands, job, judging, loop, material, overrides
from trainer.checkpoint import OtherRecipe
from trainer.corpus import RENDERED
from trainer.job import Job
from trainer.out import Out, open_out
from trainer.precision import best_device
from trainer.prior_files import PRIORS
from trainer.recipes import RECIPES, Recipe, Stage
from trainer.stages import Setting
from trainer.status import Door, Status, TrainingFailed

FAILED: Final = 1
STOPPED: Final = 3
app = typer.Typer(add_completion=False, no_args_is_help=True)
commands.register(app)
judging.register(app)


@app.callback()
def main() -> None:
    """Train the networks of the farm, stage after stage."""


@app.command()
def run(
    out: Annotated[
        str, typer.Option(help="Folder or s3:// uri for status, checkpoints, curves, pictures, the bundle.")
    ],
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(RECIPES)}.")] = "tiny",
    data: Annotated[
        str,
        typer.Option(help="Where rendered puppets are kept; or a prepared set, DIR or s3://..., also with #VERSION."),
    ] = str(RENDERED),
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    priors: Annotated[Path, typer.Option(help="Folder of the user's priors: vgg19.pth, deep3d.pt2, ...")] = PRIORS,
    steps: Annotated[list[str] | None, typer.Option(help="STAGE=STEPS: short for --set stages.STAGE.steps=...")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE: a key of the recipe (python -m trainer recipes).")
    ] = None,
    resume_from: Annotated[
        str | None, typer.Option(help="A checkpoint of another run to begin from: .../checkpoints/STAGE-STEP.")
    ] = None,
    workers: Annotated[str, typer.Option(help="Ray workers: 4, or 2-8 for as many as there are; 0: no Ray.")] = "0",
    ray: Annotated[str, typer.Option(help="Address of a Ray cluster, or local: one for this run.")] = "local",
    gpu: Annotated[bool, typer.Option("--gpu", help="Each Ray worker waits for a GPU of its own.")] = False,
) -> None:
    """Run all stages that OUT has not finished; a killed or stopped run goes on where its last checkpoint stands."""
    if recipe not in RECIPES:
        raise typer.BadParameter(f"no recipe {recipe!r}: one of {', '.join(RECIPES)}")
    shared = _workers(workers)
    place = open_out(out)
    door = Door(place.store, Status())
    before = signal.signal(signal.SIGTERM, lambda *_: door.stop())
    try:
        changes = [f"stages.{change.replace('=', '.steps=', 1)}" for change in steps or []]
        chosen = overrides.overridden(RECIPES[recipe](), [*changes, *(set_ or [])])
        _run(Job(material.bound(chosen, data), data, out, priors, threads, resume_from), place, door, shared, ray, gpu)
    except (Rejected, TrainingFailed) as error:
        _end(door, error.code, error.detail)
    except Transient as error:
        _end(door, error.code, error.detail)
    except OtherRecipe as error:
        _end(door, "bad_override", str(error))
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
    finally:
        signal.signal(signal.SIGTERM, before)
    door.close(state="succeeded")


@app.command()
def recipes(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """The recipes, and every key of them that --set may change."""
    console = Console()
    listing = [_listed(make.__doc__ or "", make()) for make in RECIPES.values()]
    if as_json:
        typer.echo(json.dumps({"recipes": listing, "metrics": judging.numbers()}, indent=2))
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


def _workers(text: str) -> tuple[int, int]:
    """Least and most."""
    least, _, most = text.partition("-")
    if not least.isdigit() or not (most or least).isdigit() or int(most or least) < int(least):
        raise typer.BadParameter(f"--workers {text}: a number like 4, or a range like 2-8")
    return int(least), int(most or least)


def _run(task: Job, out: Out, door: Door, workers: tuple[int, int], address: str, gpu: bool) -> None:
    recipe = task.recipe
    job.prepare(task)
    job.write_recipe(out, recipe)
    door.show(stages=len(recipe.stages))
    brought = job.priors_of(task)
    device = best_device()
    with _bars() as bars:
        total = recipe.corpus and recipe.corpus.clips + recipe.corpus.held_out
        clips = bars.add_task("clips", total=total, speed="")
        corpus = job.corpus_of(task, lambda done, _: bars.update(clips, completed=done))
        job.seed_checkpoint(task, out)
        tasks = {stage.name: bars.add_task(stage.name, total=stage.steps, speed="") for stage in recipe.stages}
        began = time.monotonic()

        def report(step: loop.Progress) -> None:
            bars.update(tasks[step.stage], completed=step.step, speed=f"{step.samples_per_s:.0f} samples/s")
            job.show(door, recipe, step, gpus=int(device.type == "cuda"), since_s=time.monotonic() - began)

        def staged(stage: Stage, setting: Setting) -> None:
            figures = job.after_stage(out, stage, setting)
            if figures is not None:
                bars.console.print(stage.name, {"psnr": figures["stage1"]["psnr"], "made": figures.get("psnr")})

        def pictured(stage: Stage, step: int, setting: Setting) -> None:
            job.while_training(out, stage, step, setting)

        def shown(status: Status) -> None:
            bars.update(tasks[status.stage], completed=status.step, speed=f"{status.samples_per_s:.0f} samples/s")

        if workers[1]:
            # Only here: Ray is slow to import, and no other way of running needs it.
            from trainer import ray_run

            ray_run.train(task, out, ray_run.Workers(*workers, gpu), address, door, shown)
            cast = job.trained(task, out)
        else:
            cast = loop.train(
                recipe, corpus, out, report, lambda _: door.stopping(), staged, pictured, brought, device=device
            )
    Console().print(f"bundle: {job.write_bundle(out, recipe, cast)}")


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
