"""The only training loop: stages in order, steps in a stage, phases in a step."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from trainer import checkpoint
from trainer.cast import Cast
from trainer.checkpoint import Place
from trainer.corpus import Corpus
from trainer.features import Features
from trainer.priors import Prior
from trainer.recipes import Group, Phase, Recipe, Stage
from trainer.sampler import step_seed
from trainer.stages import SCENES, TERMS, Scene, Setting

CHECKPOINT = "checkpoint.safetensors"
CURVES = "curves.jsonl"


@dataclass(frozen=True)
class Progress:
    """One step's report: loss terms by "phase/term"."""

    stage: str
    step: int
    steps: int
    terms: dict[str, float]
    samples_per_s: float
    batch: int


class Deadline(Exception):
    """Time is up; the checkpoint holds everything done so far."""


def recipe_key(recipe: Recipe) -> str:
    """Two runs may share a checkpoint only if this is the same: all of the recipe but how long its stages are."""
    stages = tuple(dataclasses.replace(stage, steps=0) for stage in recipe.stages)
    data = dataclasses.asdict(dataclasses.replace(recipe, stages=stages, checkpoint_every=0))
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def train(
    recipe: Recipe,
    corpus: Corpus,
    out: Path,
    report: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[Place], bool] = lambda _: False,
    staged: Callable[[Stage, Setting], None] = lambda *_: None,
    priors: Mapping[str, Prior] | None = None,
) -> Cast:
    """Run all stages that `out`'s checkpoint has not done. stop: asked after every step; True raises Deadline.

    staged: called after each stage, with what it left. Curves go to out/curves.jsonl, a line a step.
    """
    torch.manual_seed(recipe.seed)
    cast = Cast(recipe)
    setting = Setting(cast, corpus, recipe, Features(cast, corpus, recipe), priors or {})
    path, key = out / CHECKPOINT, recipe_key(recipe)
    place = checkpoint.place(path, key) or Place(0, 0)
    for number, stage in enumerate(recipe.stages):
        if number < place.stage:
            continue
        scene = SCENES[stage.scene](setting, stage)
        optimisers = {phase.name: _optimiser(cast, phase) for phase in stage.phases}
        done = place.step if number == place.stage else 0
        if number == place.stage and path.exists():
            checkpoint.load(path, cast, optimisers)
        _set_modes(cast, stage, done)
        if done == 0:
            scene.begin()
        _trim_curves(out / CURVES, stage.name, done)
        with (out / CURVES).open("a") as curves:
            for step in range(done, stage.steps):
                began = time.perf_counter()
                terms = one_step(setting, scene, stage, step, optimisers)
                curves.write(json.dumps({"stage": stage.name, "step": step, **terms}) + "\n")
                speed = stage.batch / (time.perf_counter() - began)
                report(Progress(stage.name, step + 1, stage.steps, terms, speed, stage.batch))
                here, last = Place(number, step + 1), step + 1 == stage.steps
                stopping = stop(here)
                if not last and (stopping or (step + 1) % recipe.checkpoint_every == 0):
                    curves.flush()
                    checkpoint.save(path, here, key, cast, optimisers)
                if stopping and not last:
                    raise Deadline(f"stopped in stage {stage.name} after step {step + 1}")
        cast.eval()
        scene.end()
        checkpoint.save(path, Place(number + 1, 0), key, cast, {})
        staged(stage, setting)
    if place.stage >= len(recipe.stages):
        checkpoint.load(path, cast, {})
    return cast.eval()


def one_step(
    setting: Setting, scene: Scene, stage: Stage, step: int, optimisers: dict[str, torch.optim.Optimizer]
) -> dict[str, float]:
    """Draw a batch, let each phase take its turn on it; returns the terms' values."""
    cast, recipe = setting.cast, setting.recipe
    if any(group.until == step for phase in stage.phases for group in phase.groups):
        _set_modes(cast, stage, step)
    torch.manual_seed(step_seed(recipe.seed, step))
    batch = scene.draw(recipe.seed, step * stage.batch, stage.batch)
    seen, terms = None, {}
    for phase in stage.phases:
        seen = scene.play(phase.name, batch, seen)
        values = {term.name: TERMS[term.name](seen) for term in phase.terms}
        total = torch.stack([term.weight * values[term.name] for term in phase.terms]).sum()
        optimiser = optimisers[phase.name]
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        for group, parameters in zip(phase.groups, optimiser.param_groups, strict=True):
            parameters["lr"] = rate(phase, group, step, stage.steps)
        optimiser.step()
        terms.update({f"{phase.name}/{name}": float(value.detach()) for name, value in values.items()})
    scene.after(seen)
    if stage.average is not None:
        _average(cast, stage, step)
    return terms


def rate(phase: Phase, group: Group, step: int, steps: int) -> float:
    """Learning rate of a group at a step."""
    if group.until is not None and step >= group.until:
        return 0.0
    decay = phase.decay
    value = group.rate * decay.factor ** (step // decay.every)
    if decay.cosine:
        value *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps))
    return value * min(1.0, (step + 1) / phase.warmup) if phase.warmup else value


def _optimiser(cast: Cast, phase: Phase) -> torch.optim.Optimizer:
    groups = [{"params": list(cast.part(group.part).parameters()), "lr": group.rate} for group in phase.groups]
    return torch.optim.AdamW(groups, betas=phase.betas, eps=phase.epsilon, weight_decay=phase.weight_decay)


def _set_modes(cast: Cast, stage: Stage, step: int) -> None:
    """Only what this stage still trains learns; all else is frozen, its batch norms too."""
    cast.eval().requires_grad_(False)
    for phase in stage.phases:
        for group in phase.groups:
            if group.until is None or step < group.until:
                cast.part(group.part).train().requires_grad_(True)


@torch.no_grad()
def _average(cast: Cast, stage: Stage, step: int) -> None:
    """Exponential moving average of the generators; young averages forget faster."""
    assert stage.average is not None
    keep = min(stage.average, (1 + step) / (10 + step))
    for name in {group.part for phase in stage.phases for group in phase.groups if "generator" in group.part}:
        pairs = zip(cast.part(f"{name}_average").parameters(), cast.part(name).parameters(), strict=True)
        for kept, fresh in pairs:
            kept.lerp_(fresh, 1 - keep)


def _trim_curves(path: Path, stage: str, done: int) -> None:
    """Forget lines of steps that a resumed run will do again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines() if path.exists() else []
    kept = []
    for line in lines:
        entry = json.loads(line)
        if entry["stage"] != stage or entry["step"] < done:
            kept.append(line)
    path.write_text("".join(f"{line}\n" for line in kept))


def curves(out: Path, every: int = 10) -> dict[str, dict[str, list[float]]]:
    """Stage -> term -> its mean over each `every` steps."""
    values: dict[str, dict[str, list[float]]] = {}
    for line in (out / CURVES).read_text().splitlines():
        entry = json.loads(line)
        terms = values.setdefault(entry["stage"], {})
        for name in entry.keys() - {"stage", "step"}:
            terms.setdefault(name, []).append(entry[name])
    return {
        stage: {
            name: [round(sum(part) / len(part), 5) for i in range(0, len(of), every) if (part := of[i : i + every])]
            for name, of in sorted(terms.items())
        }
        for stage, terms in values.items()
    }
