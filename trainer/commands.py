"""`python -m trainer puppets` and `prepare`: material made from seeds, and material made from people's videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from trainer.puppets.write import LAYOUTS, WriteSetting, write_clips


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `python -m trainer`."""
    app.command()(puppets)


def puppets(
    out: Annotated[Path, typer.Option(help="Folder of the clips.")],
    clips: Annotated[int, typer.Option(min=1, help="How many.")] = 8,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT, or one number: a square filled by its face.")] = "640x360",
    seconds: Annotated[float, typer.Option(min=0.4, max=600, help="Length of each.")] = 4.0,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds are other people.")] = 1,
    per_identity: Annotated[int, typer.Option(min=1, help="Clips of each person.")] = 2,
    layout: Annotated[str, typer.Option(help=f"One of {', '.join(LAYOUTS)}; voxceleb2 adds the box files.")] = "plain",
) -> None:
    """Write puppet clips as mp4s with sound, each with a sidecar of its true factors (docs/datasets.md)."""
    width, height = _size(size)
    if layout not in LAYOUTS:
        raise typer.BadParameter(f"--layout {layout}: one of {', '.join(LAYOUTS)}")
    setting = WriteSetting(clips, width, height, seconds, seed, per_identity, layout)
    torch.set_num_threads(1)
    with bars() as shown:
        task = shown.add_task("puppets", total=clips)
        write_clips(out, setting, lambda ready, _: shown.update(task, completed=ready))
    Console().print(f"{clips} clips in {out}")


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdigit() for side in sides):
        raise typer.BadParameter(f"--size {text}: WIDTHxHEIGHT or one number")
    width, height = int(sides[0]), int(sides[-1])
    if width % 2 or height % 2 or not 64 <= min(width, height) <= max(width, height) <= 3840:
        raise typer.BadParameter(f"--size {text}: even sides from 64 to 3840")
    return width, height


def bars() -> Progress:
    """A bar with count, time and what is left."""
    return Progress(
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
