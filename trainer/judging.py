"""`python -m trainer evaluate`, `ablate` and `sheet`: how good a model is, why, and what its material looks like."""

from __future__ import annotations

import json as jsons
from pathlib import Path
from typing import Annotated, Final

import torch
import typer
from rich.console import Console

import farm.nets
from farm.domain import gate
from farm.domain.bundle import EVALUATION
from farm.errors import Rejected
from trainer import ablation, footage, overrides, pictures, report
from trainer.corpus import RENDERED, CorpusSetting, open_corpus
from trainer.evaluate import METRICS, evaluate_footage, evaluate_puppets
from trainer.filmed import NothingFilmed, filmed
from trainer.landmark_prior import LandmarkPrior
from trainer.landmarks import LandmarkReader
from trainer.metrics_pictures import Lite0
from trainer.prior_files import PRIORS, open_prior
from trainer.priors import PriorMissing
from trainer.recipes import RECIPES
from trainer.subject import open_bundle
from trainer.syncnet import open_syncnet
from trainer.trial import SCOPES

SHIPPED: Final = Path(farm.nets.__file__).parent / "shipped" / "pdfgc-puppets-64"
Data = Annotated[Path, typer.Option(help="Where rendered puppets are kept.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `python -m trainer`."""
    app.command()(evaluate)
    app.command()(ablate)
    app.command()(sheet)


def numbers() -> list[str]:
    """Dotted paths of the numbers that evaluations may have, as the shipped bundle's has them; `name.*` of metrics that
    it was not asked. For the API, which has no trainer to ask."""
    found = jsons.loads((SHIPPED / EVALUATION).read_text())
    asked = {name: value for name, value in found.items() if name in METRICS or name == "unseen_language"}
    return sorted({*gate.numbers(asked), *(f"{name}.*" for name in METRICS if name not in asked)})


def evaluate(
    bundle: Annotated[Path, typer.Option(help="A bundle folder; the one that ships by default.")] = SHIPPED,
    out: Annotated[Path | None, typer.Option(help="evaluation.json, report.md, report.html and grids go here.")] = None,
    clips: Annotated[
        Path | None, typer.Option(help="A folder of videos, instead of puppets.", exists=True, file_okay=False)
    ] = None,
    scope: Annotated[str, typer.Option(help=f"One of {', '.join(SCOPES)}.")] = "full",
    data: Data = RENDERED,
    priors: Annotated[
        Path, typer.Option(help="Folder of what the user brings: syncnet.pt2, EfficientNet-Lite0.")
    ] = PRIORS,
    threads: Threads = 1,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Measure a bundle on people, voices and languages that no training saw (docs/evaluation.md)."""
    _settle(threads)
    if scope not in SCOPES:
        raise typer.BadParameter(f"--scope {scope}: one of {', '.join(SCOPES)}")
    told = Console(stderr=True).print
    try:
        subject = open_bundle(bundle)
        has = {"syncnet": open_syncnet(priors), "lite0": _lite0(priors)}
        if clips is None:
            found, trial = evaluate_puppets(subject, data, scope, has, told)
        else:
            prior = LandmarkPrior()
            reader = LandmarkReader(prior)
            frames = 24 if scope == "smoke" else footage.FRAMES
            on = filmed(clips, subject.networks.sizes.image, reader, frames=frames, told=told)
            has = {"landmarks": prior, **has}
            found, trial = evaluate_footage(subject, on, reader, SCOPES[scope], has, told=told)
    except (Rejected, NothingFilmed, PriorMissing) as error:
        Console(stderr=True).print(f"{getattr(error, 'code', 'bad_dataset')}: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    if out is not None:
        report.save(out, found, pictures.of_trial(trial))
    if json:
        typer.echo(jsons.dumps(found, indent=2))
    else:
        Console().print(report.markdown(found), markup=False, soft_wrap=True)


def _lite0(priors: Path) -> Lite0 | None:
    try:
        return Lite0(open_prior("efficientnet_lite0", priors))
    except PriorMissing:
        return None


def ablate(
    out: Annotated[Path, typer.Option(help="Checkpoints, results, ablation.json and ablation.md go here.")],
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(RECIPES)}.")] = "tiny",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of the last stage.")] = 2,
    last: Annotated[int | None, typer.Option(min=1, help="Steps of each last stage; the recipe's by default.")] = None,
    scope: Annotated[str, typer.Option(help=f"How much is measured: one of {', '.join(SCOPES)}.")] = "quick",
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE: a key of the recipe.")] = None,
    data: Data = RENDERED,
    threads: Threads = 1,
) -> None:
    """Tables 4 and 5 of the paper: what averaging, decorrelation and the window do. Again to go on."""
    _settle(threads)
    if recipe not in RECIPES or scope not in SCOPES:
        raise typer.BadParameter(f"recipes: {', '.join(RECIPES)}; scopes: {', '.join(SCOPES)}")
    try:
        chosen = overrides.overridden(RECIPES[recipe](), set_ or [])
    except Rejected as error:
        raise typer.BadParameter(str(error)) from error
    if not isinstance(chosen.corpus, CorpusSetting):
        raise typer.BadParameter(f"recipe {recipe} wants a real corpus; the ablation is measured on puppets")
    told = Console(stderr=True).print
    corpus = open_corpus(data, chosen.corpus)
    on = footage.puppets(data, chosen.sizes.image, 12 if scope != "smoke" else 3, frames=50 if scope != "smoke" else 24)
    table = ablation.ablate(chosen, corpus, on, out, seeds, steps=last, scope=scope, told=told)
    Console().print(ablation.markdown(table), markup=False, soft_wrap=True)


def sheet(
    out: Annotated[Path, typer.Argument(help="A PNG.")],
    people: Annotated[int, typer.Option(min=1, max=64)] = 6,
    size: Annotated[int, typer.Option(min=32, max=512, help="Pixels a side of a puppet.")] = 96,
    steps: Annotated[int, typer.Option(min=2, max=9, help="Pictures a factor.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds are other people.")] = 1,
) -> None:
    """A contact sheet of puppets: people by factors, each swept while all others rest."""
    _settle(1)
    pictures.save_png(out, pictures.contact_sheet(people, size, steps, seed), 1)
    Console().print(f"{out}: two bands a person, {steps} pictures a factor")


def _settle(threads: int) -> None:
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
