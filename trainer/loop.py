"""The only training loop: stages in order, steps in a stage, phases in a step; for one worker or many."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from trainer import curves
from trainer.cast import Cast
from trainer.checkpoint import CAST, Checkpoints, Manifest, Place, into_cast, into_optimiser, of_optimiser
from trainer.corpus import Corpus
from trainer.features import Features
from trainer.out import Out, open_out
from trainer.precision import Precision, full, precision_of
from trainer.prefetch import drawn_ahead
from trainer.priors import Prior
from trainer.recipes import Group, Phase, Recipe, Stage
from trainer.sampler import choose, step_seed, uniforms
from trainer.stages import SCENES, TERMS, Scene, Setting
from trainer.watch import Level, Watch, bad_gradient
from trainer.world import ALONE, World, share_layers

CPU: Final = torch.device("cpu")
PICTURED: Final = 10
"""Times a stage that its pictures are made while it trains, at most."""
EXPECTED: Final = 6
"""Steps ahead of the draw for which a streamed corpus is told which clips come."""

Marks = Callable[[str], None]
"""Told when a part of a step is over: data, forward, backward, reduce, optimiser, after."""


@dataclass(frozen=True)
class Progress:
    """One step's report: loss terms by "phase/term"; useful_s: seconds of all steps that count, of earlier runs too."""

    stage: str
    step: int
    steps: int
    terms: dict[str, float]
    samples_per_s: float
    batch: int
    useful_s: float


class Deadline(Exception):
    """Told to stop; the checkpoint holds everything done so far."""


@dataclass(frozen=True)
class Hooks:
    """What a run's surroundings want of it. report: after every step. stop: asked at every step, with the place after
    it; True ends the run there by Deadline. pictured: some times a stage, with the steps done, to show what there is;
    it may change nothing but modes. staged: after each stage, with what it left. All on worker 0 alone."""

    report: Callable[[Progress], None] = lambda _: None
    stop: Callable[[Place], bool] = lambda _: False
    staged: Callable[[Stage, Setting], None] = lambda *_: None
    pictured: Callable[[Stage, int, Setting], None] = lambda *_: None


def recipe_key(recipe: Recipe) -> str:
    """Two runs may share a checkpoint only if this is the same: all of the recipe but how long its stages are."""
    stages = tuple(dataclasses.replace(stage, steps=0) for stage in recipe.stages)
    data = dataclasses.asdict(dataclasses.replace(recipe, stages=stages, checkpoint_every=0))
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def ended(recipe: Recipe, place: Place) -> bool:
    """Whether nothing is left to do; a stage of no steps is left out."""
    return not any(stage.steps for stage in recipe.stages[place.stage :])


def train(
    recipe: Recipe,
    corpus: Corpus,
    out: Path | Out,
    report: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[Place], bool] = lambda _: False,
    staged: Callable[[Stage, Setting], None] = lambda *_: None,
    pictured: Callable[[Stage, int, Setting], None] = lambda *_: None,
    priors: Mapping[str, Prior] | None = None,
    *,
    world: World = ALONE,
    device: torch.device = CPU,
    until: int | None = None,
    apart: int | None = None,
) -> Cast:
    """Run all stages that `out`'s checkpoints have not done; report, stop, staged and pictured as in Hooks.

    until: stop before this stage. apart: run this stage alone, as one of several that train side by side, each its own
    parts. Curves go to out/curves.jsonl, a line a step. Raises TrainingFailed when losses or gradients are not numbers
    or run away, and OtherRecipe.
    """
    run = Run(recipe, corpus, out if isinstance(out, Out) else open_out(out), priors or {}, world, device)
    hooks = Hooks(report, stop, staged, pictured)
    try:
        place = run.resume()
        if apart is not None:
            if place.stage <= apart:
                run.stage(apart, hooks, apart=True)
            return run.cast.eval()
        for number in range(place.stage, len(recipe.stages) if until is None else until):
            if recipe.stages[number].steps:
                run.stage(number, hooks)
        run.checkpoints.wait()
        return run.cast.eval()
    finally:
        run.checkpoints.close()


class Run:
    """A recipe on its way: networks, where they stand, and where that is kept."""

    def __init__(
        self, recipe: Recipe, corpus: Corpus, out: Out, priors: Mapping[str, Prior], world: World, device: torch.device
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.out, self.world = recipe, out, world
        self.precision = precision_of(device)
        self.cast = Cast(recipe).to(device)
        self.corpus = corpus.to(device)
        for prior in priors.values():
            prior.to(device)
        features = Features(self.cast, self.corpus, recipe)
        self.setting = Setting(self.cast, self.corpus, recipe, features, priors, world)
        self.checkpoints = Checkpoints(out.store, recipe_key(recipe))
        self._from: Manifest | None = None
        self._useful_s = 0.0

    def resume(self) -> Place:
        """Take up the furthest committed checkpoint; all workers the same one."""
        newest = self.world.agree(self.checkpoints.newest() if self.world.rank == 0 else None)
        if newest is None:
            return Place(0, 0)
        into_cast(self.cast, self.checkpoints.load(newest)[CAST])
        self._from, self._useful_s = newest, newest.useful_s
        return newest.place

    def stage(self, number: int, hooks: Hooks, *, apart: bool = False) -> None:
        """Train a stage to its end, from wherever its checkpoints say."""
        stage, world = self.recipe.stages[number], self.world
        share_layers(self.cast, world, stage.batch)
        optimisers = {phase.name: _optimiser(self.cast, phase) for phase in stage.phases}
        done, watch, over = self._take_up(number, stage, optimisers, apart=apart)
        if over and apart:
            return
        _set_modes(self.cast, stage, done)
        scene = SCENES[stage.scene](self.setting, stage)
        if done == 0:
            scene.begin()
        world.same([*self.cast.parameters(), *self.cast.buffers()])
        name = curves.stage_curves(stage.name) if apart else curves.CURVES
        curve = curves.CurveFile(self.out.fetch(name), stage.name, done) if world.rank == 0 else None

        def save(step: int, *, ended: bool = False) -> None:
            if curve is None:
                return
            curve.flush()
            place = Place(number + 1, 0) if ended else Place(number, step)
            state = {"levels": {k: asdict(v) for k, v in watch.levels.items()}, **self._scaler_state()}
            manifest = Manifest(
                recipe_key(self.recipe),
                stage.name,
                step,
                place,
                part=apart,
                ended=ended,
                useful_s=self._useful_s,
                workers=world.size,
                state=state,
            )
            tensors = {CAST: _parts_of(self.cast, stage) if apart else self.cast.state_dict()}
            if not ended:
                tensors.update({phase: of_optimiser(optimiser) for phase, optimiser in optimisers.items()})
            self.checkpoints.save(manifest, tensors, lambda: self.out.publish(name))

        try:
            if not over:
                self._steps(number, stage, scene, optimisers, watch, done, hooks, curve, save)
                self.cast.eval()
                scene.end()
                if world.rank == 0:
                    hooks.staged(stage, self.setting)
            save(stage.steps, ended=True)
        finally:
            if curve is not None:
                curve.close()

    def _steps(
        self,
        number: int,
        stage: Stage,
        scene: Scene,
        optimisers: dict[str, torch.optim.Optimizer],
        watch: Watch,
        done: int,
        hooks: Hooks,
        curve: curves.CurveFile | None,
        save: Callable[[int], None],
    ) -> None:
        start, stop = self.world.rows(stage.batch)
        seed, speed, clips = self.recipe.seed, 0.0, self.setting.corpus.train
        pictured = max(self.recipe.checkpoint_every, -(-stage.steps // PICTURED))

        def draw(step: int) -> Any:
            if clips.is_streamed:  # every scene's first die picks the clip
                later = uniforms(seed, (step + EXPECTED) * stage.batch + start, stop - start, 1)
                clips.expect(choose(later[:, 0], len(clips)))
            return scene.draw(seed, step * stage.batch + start, stop - start)

        with drawn_ahead(draw, range(done, stage.steps), self.precision.device) as batches:
            began = time.perf_counter()
            for step in range(done, stage.steps):
                stopping = self.world.rank == 0 and hooks.stop(Place(number, step + 1))
                batch = next(batches)
                terms, stopping = one_step(
                    self.setting, scene, stage, step, batch, optimisers, watch, self.precision, stopping=stopping
                )
                now = time.perf_counter()
                self._useful_s += now - began
                fresh = stage.batch / (now - began)
                speed, began = (0.9 * speed + 0.1 * fresh if speed else fresh), now
                if curve is not None:
                    curve.add(stage.name, step, terms)
                    hooks.report(Progress(stage.name, step + 1, stage.steps, terms, speed, stage.batch, self._useful_s))
                if step + 1 == stage.steps:
                    return
                if stopping or (step + 1) % self.recipe.checkpoint_every == 0:
                    save(step + 1)
                if curve is not None and (step + 1) % pictured == 0:
                    curve.flush()
                    hooks.pictured(stage, step + 1, self.setting)
                    _set_modes(self.cast, stage, step + 1)
                    began = time.perf_counter()  # pictures are no part of a step's time
                if stopping:
                    self.checkpoints.wait()
                    raise Deadline(f"stopped in stage {stage.name} after step {step + 1}")

    def _take_up(
        self, number: int, stage: Stage, optimisers: dict[str, torch.optim.Optimizer], *, apart: bool
    ) -> tuple[int, Watch, bool]:
        """Steps done of the stage, by the run's own checkpoint or by one of the stage's parts; its levels; whether it
        came to its end, beside others."""
        saved = self._from if self._from and self._from.place.stage == number and self._from.place.step else None
        if saved is None:
            saved = self.world.agree(self.checkpoints.newest(stage.name) if self.world.rank == 0 else None)
        if saved is None:
            return 0, Watch(), False
        tensors, self._useful_s = self.checkpoints.load(saved), saved.useful_s
        if saved.part:
            into_cast(self.cast, tensors[CAST], whole=False)
            if self.world.rank == 0 and not apart:
                curves.join(self.out.fetch(curves.CURVES), self.out.fetch(curves.stage_curves(stage.name)), stage.name)
        for phase, optimiser in optimisers.items():
            into_optimiser(optimiser, tensors.get(phase, {}))
        if self.precision.scaler.is_enabled() and "scaler" in saved.state:
            self.precision.scaler.load_state_dict(saved.state["scaler"])
        levels = {phase: Level(**level) for phase, level in saved.state.get("levels", {}).items()}
        return saved.step, Watch(levels), saved.ended

    def _scaler_state(self) -> dict[str, Any]:
        return {"scaler": self.precision.scaler.state_dict()} if self.precision.scaler.is_enabled() else {}


def one_step(
    setting: Setting,
    scene: Scene,
    stage: Stage,
    step: int,
    batch: Any,
    optimisers: dict[str, torch.optim.Optimizer],
    watch: Watch,
    precision: Precision,
    *,
    stopping: bool = False,
    mark: Marks = lambda _: None,
) -> tuple[dict[str, float], bool]:
    """Each phase takes its turn on a batch. Returns the terms' values over the global batch, and whether any worker
    was told to stop. Raises TrainingFailed where a loss or gradient is no number, or a loss has run away."""
    cast, recipe, world, scaler = setting.cast, setting.recipe, setting.world, precision.scaler
    if any(group.until == step for phase in stage.phases for group in phase.groups):
        _set_modes(cast, stage, step)
    torch.manual_seed(step_seed(recipe.seed, step))
    share = world.share(stage.batch)
    seen, found = None, []
    mark("data")
    for phase in stage.phases:
        optimiser = optimisers[phase.name]
        with precision.autocast():
            seen = scene.play(phase.name, batch, seen)
        whole = full(seen)
        values = [TERMS[term.name](whole) for term in phase.terms]
        total = torch.stack([term.weight * value for term, value in zip(phase.terms, values, strict=True)]).sum()
        mark("forward")
        optimiser.zero_grad(set_to_none=True)
        scaler.scale(total if world.alone else total * share).backward()
        mark("backward")
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        extra = torch.stack([*(value.detach() for value in values), torch.full_like(total.detach(), float(stopping))])
        extra = world.add_up(parameters, extra if world.alone else extra * share)
        mark("reduce")
        for group, of in zip(phase.groups, optimiser.param_groups, strict=True):
            of["lr"] = rate(phase, group, step, stage.steps)
        if not scaler.is_enabled():
            gradients = [p.grad for p in parameters if p.grad is not None]
            extra = torch.cat([extra, torch.nn.utils.get_total_norm(gradients)[None].to(extra)])
        scaler.step(optimiser)
        mark("optimiser")
        found.append(extra)
    if scaler.is_enabled():
        scaler.update()
    scene.after(seen)
    if stage.average is not None:
        _average(cast, stage, step)
    # One look at the numbers a step: each costs a GPU its lead.
    terms, told = {}, False
    for phase, numbers in zip(stage.phases, found, strict=True):
        values, rest = numbers.tolist()[: len(phase.terms)], numbers.tolist()[len(phase.terms) :]
        named = {f"{phase.name}/{term.name}": value for term, value in zip(phase.terms, values, strict=True)}
        told = told or rest[0] > 0
        total = sum(term.weight * value for term, value in zip(phase.terms, values, strict=True))
        watch.see(stage.name, step, phase.name, total, named)
        if rest[1:] and not math.isfinite(rest[1]):
            raise bad_gradient(stage.name, step, phase.name)
        terms.update(named)
    mark("after")
    return terms, told


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


def _parts_of(cast: Cast, stage: Stage) -> dict[str, Tensor]:
    """What a stage that trains beside others may have changed: the parts that it names."""
    names = {group.part for phase in stage.phases for group in phase.groups}
    held = {id(x) for name in names for x in (*cast.part(name).parameters(), *cast.part(name).buffers())}
    everything = {**dict(cast.named_parameters()), **dict(cast.named_buffers())}
    return {key: value for key, value in everything.items() if id(value) in held}


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
        kept: list[Tensor] = list(cast.part(f"{name}_average").parameters())
        fresh: list[Tensor] = list(cast.part(name).parameters())
        torch._foreach_lerp_(kept, fresh, 1 - keep)  # pyright: ignore[reportPrivateImportUsage]  (one launch)
