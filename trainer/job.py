"""One run of a recipe, whoever trains it: where its material comes from, what it shows, and what is left at the end."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from farm.nets import bundle
from farm.nets.manifest import Manifest
from trainer import curves, loop, material, plots, report
from trainer.cast import Cast
from trainer.checkpoint import CAST, FOLDER, MANIFEST, Checkpoints, into_cast, load, read_manifest
from trainer.corpus import Corpus
from trainer.evaluate import evaluate
from trainer.out import Out, open_out
from trainer.pictures import grid, of_trial, swept
from trainer.prior_files import open_priors
from trainer.priors import Prior, PriorMissing
from trainer.recipes import Recipe, Stage
from trainer.stages import Setting
from trainer.status import Door, TrainingFailed


@dataclass(frozen=True)
class Job:
    """data, out: folders or s3:// uris. priors: folder of the user's files. start: a checkpoint to begin from."""

    recipe: Recipe
    data: str
    out: str
    priors: Path
    threads: int = 1
    start: str | None = None


def prepare(job: Job) -> None:
    """Once a process, before anything is computed."""
    torch.set_num_threads(job.threads)
    torch.set_flush_denormal(True)
    torch.backends.cudnn.benchmark = True


def corpus_of(job: Job, done: Callable[[int, int], None] | None = None) -> Corpus:
    """Raises TrainingFailed("bad_dataset"). done: called with (clips ready, clips)."""
    try:
        return material.opened(job.recipe, job.data, done or (lambda *_: None))
    except (OSError, ValueError) as error:
        raise TrainingFailed("bad_dataset", f"{job.data}: {error}") from error


def priors_of(job: Job) -> dict[str, Prior]:
    """The priors that the recipe names. Raises TrainingFailed("bad_dataset") naming all that are missing."""
    try:
        return open_priors(job.recipe.priors, job.priors)
    except PriorMissing as error:
        raise TrainingFailed("bad_dataset", str(error)) from error


def show(door: Door, recipe: Recipe, step: loop.Progress, *, gpus: int, since_s: float) -> None:
    """A step's report as the run's status. since_s: seconds that this start of the run has taken."""
    names = [stage.name for stage in recipe.stages]
    door.show(
        stage=step.stage,
        stage_number=1 + names.index(step.stage),
        step=step.step,
        steps=step.steps,
        samples_per_s=round(step.samples_per_s, 2),
        eta_s=round((step.steps - step.step) * step.batch / max(step.samples_per_s, 1e-9), 1),
        losses=step.terms,
        useful_s=round(step.useful_s, 3),
        goodput=round(min(1.0, step.useful_s / max(door.age_s, 1e-9)), 4),
        gpu_hours=round(door.spent_gpu_hours + gpus * since_s / 3600, 4),
    )


def while_training(out: Out, stage: Stage, step: int, setting: Setting) -> None:
    """The curves so far; and what the networks make of people never seen, where a picture shows it."""
    if (out.folder / curves.CURVES).exists():  # a stage beside others, on a machine of its own, has not all of them
        _keep(out, "plots/curves.svg", plots.terms(curves.summary(out.folder / curves.CURVES)).encode())
    if stage.scene in ("rebuild", "compose"):
        _keep(out, f"grids/{stage.name}-{step:07}.png", grid(setting))
    if stage.scene == "compose":
        _keep(out, f"grids/sweeps-{step:07}.png", swept(setting))


def after_stage(out: Out, stage: Stage, setting: Setting) -> dict[str, Any] | None:
    """Figures and pictures of what a stage left; None where no picture shows it yet."""
    if stage.scene in ("eye", "pose"):
        return None
    composed = stage.scene == "compose"
    figures, trial = evaluate(setting, lips=composed)
    (out.folder / f"after_{stage.name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    out.publish(f"after_{stage.name}.json")
    _keep(out, f"grids/after_{stage.name}.png", grid(setting))
    if composed:
        report.save(out.folder, figures, of_trial(trial))
        for name in ("evaluation.json", "report.md", "report.html", "grids"):
            out.publish(name)
    return figures


def _keep(out: Out, name: str, data: bytes) -> None:
    path = out.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    out.publish(name)


def write_recipe(out: Out, recipe: Recipe) -> None:
    (out.folder / "recipe.json").write_text(json.dumps(dataclasses.asdict(recipe), indent=2) + "\n")
    out.publish("recipe.json")


def seed_checkpoint(job: Job, out: Out) -> None:
    """Let a run that has no checkpoint of its own begin from another run's: networks and place, whatever its recipe.

    Raises TrainingFailed("bad_override") where there is none, or its stage or networks are not this recipe's.
    """
    checkpoints = Checkpoints(out.store, loop.recipe_key(job.recipe))
    if job.start is None or checkpoints.newest() is not None:
        return
    try:
        where, _, name = job.start.rstrip("/").rpartition(f"/{FOLDER}/")
        source = open_out(where).store
        manifest = read_manifest(source, f"{FOLDER}/{name}/{MANIFEST}")
        tensors = load(source, f"{FOLDER}/{name}", manifest)
        if manifest.part:
            raise ValueError("it holds the parts of one stage alone")
        names = [stage.name for stage in job.recipe.stages]
        number = names.index(manifest.stage)
        place = dataclasses.replace(manifest.place, stage=number + manifest.ended)
        into_cast(Cast(job.recipe), tensors[CAST])
    except Exception as error:
        raise TrainingFailed("bad_override", f"--resume-from {job.start}: {error}") from error
    own = dataclasses.replace(manifest, recipe=loop.recipe_key(job.recipe), place=place, useful_s=0.0, files={})
    checkpoints.save(own, tensors)
    checkpoints.wait()
    checkpoints.close()


def trained(job: Job, out: Out) -> Cast:
    """The networks of a run that has come to its end."""
    torch.manual_seed(job.recipe.seed)
    cast = Cast(job.recipe)
    checkpoints = Checkpoints(out.store, loop.recipe_key(job.recipe))
    newest = checkpoints.newest()
    if newest is None or not loop.ended(job.recipe, newest.place):
        raise RuntimeError(f"{job.out} has not come to its end")
    into_cast(cast, checkpoints.load(newest)[CAST])
    return cast.eval()


def write_bundle(out: Out, recipe: Recipe, cast: Cast) -> Path:
    """OUT/bundle, and beside its files what it came from: recipe, curves and first figures on held-out people."""
    folder = out.folder / "bundle"
    manifest = Manifest(
        name=f"pdfgc-{material.kind(recipe)}-{recipe.sizes.image}",
        sizes=recipe.sizes,
        licence="Apache-2.0",
        trained=True,
        created_by=f"trainer, recipe {recipe.name}",
        source=f"{material.told(recipe)}; recipe {loop.recipe_key(recipe)[:12]}",
        seed=recipe.seed,
    )
    bundle.save(folder, manifest, cast.cpu().networks())
    (folder / "recipe.json").write_text((out.folder / "recipe.json").read_text())
    summary = curves.summary(out.fetch(curves.CURVES))
    (folder / "curves.json").write_text(json.dumps(summary, separators=(",", ":")) + "\n")
    last = out.fetch(f"after_{recipe.stages[-1].name}.json")
    if last.exists():
        (folder / "evaluation.json").write_text(last.read_text())
    out.publish("bundle")
    return folder
