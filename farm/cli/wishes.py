"""What runs and schedules of `dubfarm train` are asked for with."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from typing import Annotated

import typer

from farm.cli.exits import usage

Recipe = Annotated[str, typer.Option(help="dubfarm train recipes lists them.")]
Dataset = Annotated[str, typer.Option(help="puppets, or a prepared set's uri.")]
Manifest = Annotated[str | None, typer.Option("--manifest-sha256", help="Exactly this version of the set.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe.")]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Ray Train workers; 0: one plain process.")]
Gpu = Annotated[bool, typer.Option("--gpu", help="A GPU for each.")]
OnSuccess = Annotated[str, typer.Option(help="register, or promote where the gate lets it.")]
Priority = Annotated[int, typer.Option(min=0, max=100, help="Higher ones start first; rendering's is 100.")]
Preempt = Annotated[
    bool,
    typer.Option("--preempt", help="Have a run of lower priority stopped where no room is left."),
]
ResumeFrom = Annotated[str | None, typer.Option(metavar="RUN[/CHECKPOINT]", help="Begin from its checkpoint.")]


def body(
    recipe: str,
    dataset: str,
    manifest: str | None,
    changes: Sequence[str] | None,
    workers: int,
    gpu: bool,
    on_success: str,
    resume_from: str | None,
    priority: int,
    preempt: bool,
) -> dict[str, object]:
    if dataset == "puppets" and manifest is not None:
        raise usage("manifest_without_dataset", "--manifest-sha256 names a version of --dataset URI")
    return {
        "recipe": recipe,
        "dataset": dataset if dataset == "puppets" else {"uri": dataset, "manifest_sha256": manifest},
        "overrides": dict(_change(text) for text in changes or ()),
        "scaling": {"workers": workers, "use_gpu": gpu},
        "on_success": on_success,
        "resume_from": resume_from,
        "priority": priority,
        "preempt": preempt,
    }


def _change(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    try:
        if equals:
            return name.strip(), None if value.strip() == "none" else jsonlib.loads(value)
    except ValueError:
        pass
    raise usage("set_invalid", f"--set {text}: KEY=VALUE, a number, true, false or none")
