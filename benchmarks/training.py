"""How fast the loop trains, and where a step's time goes. Last line: JSON.

    python -m benchmarks.training [--recipe tiny] [--steps 30] [--full]

Each stage runs on the recipe's own code path; a step is split into data (waiting for the batch), forward, backward,
reduce, optimiser and after (banks, averages, the look at the numbers). Beside it, in the same run and in turns, a bare
loop does the same networks, losses and optimisers with its batches at hand: what the loop takes longer is its overhead.
With a GPU (or --full): stages 1 and 3 of the official networks at 224 px, with MFU against the card's dense peak.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from trainer import curves, loop
from trainer.cast import Cast
from trainer.checkpoint import CAST, Checkpoints, Manifest, Place
from trainer.corpus import Clips, Corpus, CorpusSetting, open_corpus
from trainer.features import Features
from trainer.precision import Precision, best_device, full, precision_of
from trainer.prefetch import drawn_ahead
from trainer.recipes import RECIPES, Recipe, Stage
from trainer.sampler import step_seed
from trainer.stages import SCENES, TERMS, Scene, Setting
from trainer.watch import Watch

PARTS: Final = ("data", "forward", "backward", "reduce", "optimiser", "after")
PAPER_PER_S: Final = 45.0
"""The paper's own rate on 8 V100, if an epoch is one pass over VoxCeleb2's 1.09 M clips."""
PEAK: Final = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "V100": 125e12}
"""Dense FLOP/s in 16 bits, from the makers' data sheets."""


@dataclasses.dataclass(frozen=True)
class Row:
    """shares: of the step's time, by part. bare_s: a bare loop's median step."""

    stage: str
    samples_per_s: float
    step_s: float
    bare_s: float
    shares: dict[str, float]
    flop: float = 0.0


def measure(setting: Setting, stage: Stage, precision: Precision, steps: int, out: Path) -> Row:
    """A stage's steps and a bare loop's, in turns, after a few of each to warm up."""
    scene, device = SCENES[stage.scene](setting, stage), precision.device
    stage = dataclasses.replace(stage, steps=10 * steps)
    optimisers = {phase.name: loop._optimiser(setting.cast, phase) for phase in stage.phases}
    loop._set_modes(setting.cast, stage, 0)
    scene.begin()
    loop._set_modes(setting.cast, stage, 0)
    watch, whole, bare, warm = Watch(), [], [], 3
    spent, kept = defaultdict[str, list[float]](list), defaultdict[str, float](float)
    every = setting.recipe.checkpoint_every
    checkpoints = Checkpoints(loop.open_out(out).store, "benchmark")
    curve = curves.CurveFile(out / curves.CURVES, stage.name, 0)
    last = [0.0]

    def mark(name: str) -> None:
        _wait(device)
        now = time.perf_counter()
        spent[name].append(now - last[0])
        last[0] = now

    def draw(step: int) -> Any:
        return scene.draw(setting.recipe.seed, step * stage.batch, stage.batch)

    block = warm + steps // 2
    with drawn_ahead(draw, range(2 * block), device) as batches:
        for step in range(2 * block):
            _wait(device)
            began = last[0] = time.perf_counter()
            batch = next(batches)
            terms, _ = loop.one_step(setting, scene, stage, step, batch, optimisers, watch, precision, mark=mark)
            curve.add(stage.name, step, terms)
            if (step + 1) % every == 0:
                manifest = Manifest("benchmark", stage.name, step, Place(0, step))
                checkpoints.save(manifest, {CAST: setting.cast.state_dict()})
            _wait(device)
            # The first of a block found their batches drawn while the bare loop ran.
            if step % block >= warm:
                whole.append(time.perf_counter() - began)
                for name in PARTS:
                    kept[name] += spent[name][-1]
            if (step + 1) % block:
                continue
            for again in range(block):
                began = time.perf_counter()
                _bare_step(setting, scene, stage, again, batch, optimisers, precision)
                _wait(device)
                if again >= warm:
                    bare.append(time.perf_counter() - began)
        checkpoints.wait()
    checkpoints.close()
    curve.close()
    with FlopCounterMode(display=False) as counted:
        _bare_step(setting, scene, stage, 0, draw(0), optimisers, precision)
    step_s = statistics.median(whole)
    shares = {name: kept[name] / sum(whole) for name in PARTS}
    return Row(stage.name, stage.batch / step_s, step_s, statistics.median(bare), shares, counted.get_total_flops())


def _bare_step(
    setting: Setting,
    scene: Scene,
    stage: Stage,
    step: int,
    batch: Any,
    optimisers: dict[str, torch.optim.Optimizer],
    precision: Precision,
) -> None:
    """What any training must do: networks, losses, gradients, the optimiser's step."""
    torch.manual_seed(step_seed(setting.recipe.seed, step))
    seen = None
    for phase in stage.phases:
        with precision.autocast():
            seen = scene.play(phase.name, batch, seen)
        whole = full(seen)
        total = torch.stack([term.weight * TERMS[term.name](whole) for term in phase.terms]).sum()
        optimisers[phase.name].zero_grad(set_to_none=True)
        precision.scaler.scale(total).backward()
        precision.scaler.step(optimisers[phase.name])
    if precision.scaler.is_enabled():
        precision.scaler.update()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def official(batch: int) -> Recipe:
    """Stages 1 and 3 of the paper's networks at 224 px, with the adversary but without the users' priors (VGG), on
    noise instead of clips: speed does not know the difference."""
    wanted = RECIPES["paper"]()
    stages = []
    for stage in (wanted.stages[0], wanted.stages[-1]):
        first, *rest = stage.phases
        terms = tuple(t for t in first.terms if t.name not in ("perceptual", "face"))
        stages.append(dataclasses.replace(stage, phases=(dataclasses.replace(first, terms=terms), *rest), batch=batch))
    return dataclasses.replace(
        wanted, name="official", corpus=CorpusSetting(224, 2, 1), stages=tuple(stages), priors=("readout",)
    )


def _noise(recipe: Recipe) -> Corpus:
    """Clips of the right shapes without a minute's rendering."""
    assert recipe.corpus is not None
    dice = torch.Generator().manual_seed(0)
    frames, side = recipe.corpus.frames, recipe.corpus.size

    def clips(count: int) -> Clips:
        several = frames + recipe.corpus.loose  # pyright: ignore[reportOptionalMemberAccess]
        pictures = torch.randint(0, 256, (count, several, 3, side, side), dtype=torch.uint8, generator=dice)
        factors = torch.randn(count, several, 16, generator=dice)
        return Clips(pictures, factors, torch.rand(count, 80, 4 * (frames - 1) + 20, generator=dice), frames)

    return Corpus(recipe.corpus, clips(8), clips(1))


def run(recipe: Recipe, corpus: Corpus, steps: int) -> list[Row]:
    precision = precision_of(best_device())
    torch.manual_seed(recipe.seed)
    cast, corpus = Cast(recipe).to(precision.device), corpus.to(precision.device)
    setting = Setting(cast, corpus, recipe, Features(cast, corpus, recipe))
    rows = []
    for stage in recipe.stages:
        with tempfile.TemporaryDirectory() as out:
            rows.append(measure(setting, stage, precision, steps, Path(out)))
            cast.eval()
    return rows


def show(title: str, rows: list[Row]) -> None:
    table = Table(title=title)
    for column in ("stage", "samples/s", "ms a step", "bare, ms", "overhead", *PARTS):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for row in rows:
        times = (f"{row.samples_per_s:.1f}", f"{1e3 * row.step_s:.1f}", f"{1e3 * row.bare_s:.1f}", f"{_over(row):+.1%}")
        table.add_row(row.stage, *times, *(f"{row.shares[part]:.1%}" for part in PARTS))
    Console(width=140).print(table)


def _over(row: Row) -> float:
    return row.step_s / row.bare_s - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="smoke", choices=[name for name in RECIPES if name != "paper"])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--data", type=Path, default=Path.home() / ".cache" / "dubfarm" / "corpus")
    parser.add_argument("--full", action="store_true", help="official networks at 224 px, on a CPU too")
    parser.add_argument("--batch", type=int, default=32, help="of the official networks")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    recipe = RECIPES[asked.recipe]()
    assert isinstance(recipe.corpus, CorpusSetting)
    rows = run(recipe, open_corpus(asked.data, recipe.corpus), asked.steps)
    show(f"recipe {recipe.name}, {torch.get_num_threads()} thread, {best_device()}", rows)
    # Of a whole run: each stage counts by its steps.
    steps = [stage.steps for stage in recipe.stages]
    total = sum(count * row.step_s for count, row in zip(steps, rows, strict=True))
    bare = sum(count * row.bare_s for count, row in zip(steps, rows, strict=True))
    waited = sum(count * row.step_s * row.shares["data"] for count, row in zip(steps, rows, strict=True))
    result: dict[str, Any] = {
        "samples_per_s": {row.stage: round(row.samples_per_s, 1) for row in rows},
        "data_wait_share": round(waited / total, 4),
        "framework_overhead_share": round(max(0.0, 1 - bare / total), 4),
    }
    if asked.full or best_device().type == "cuda":
        recipe = official(asked.batch)
        rows = run(recipe, _noise(recipe), asked.steps)
        show(f"official networks, 224 px, batch {asked.batch}", rows)
        name = torch.cuda.get_device_name() if best_device().type == "cuda" else "CPU"
        peak = next((flops for card, flops in PEAK.items() if card in name), None)
        result["official"] = {
            row.stage: {
                "samples_per_s": round(row.samples_per_s, 1),
                "mfu": peak and round(row.flop / row.step_s / peak, 3),
                "times_the_papers_rate": round(row.samples_per_s / PAPER_PER_S, 2),
            }
            for row in rows
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
