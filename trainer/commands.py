"""`python -m trainer puppets` and `prepare`: material made from seeds, and material made from people's videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from farm.errors import Rejected, Transient
from trainer.prepare.report import markdown
from trainer.prepare.run import in_processes, prepare
from trainer.prepare.setting import PrepareSetting
from trainer.prior_files import PRIORS, open_priors
from trainer.priors import PriorMissing
from trainer.puppets.write import LAYOUTS, WriteSetting, write_clips

PREPARE = PrepareSetting()


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `python -m trainer`."""
    app.command()(puppets)
    app.command("prepare")(prepare_)


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


def prepare_(
    source: Annotated[str, typer.Argument(help="Folder or s3://bucket/prefix of identity/video/clip.mp4.")],
    out: Annotated[str, typer.Option(help="Folder or s3://bucket/prefix of the set.")],
    size: Annotated[int, typer.Option(help="Pixels a side.")] = PREPARE.size,
    frames: Annotated[int, typer.Option(help="Frames of a clip, at 25 a second.")] = PREPARE.frames,
    loose: Annotated[int, typer.Option(help="Frames from elsewhere in the file, for appearances.")] = PREPARE.loose,
    most: Annotated[int, typer.Option(help="Clips cut from one file at most.")] = PREPARE.most,
    min_face: Annotated[int, typer.Option(help="Source pixels that a crop must span.")] = PREPARE.min_face,
    pictures: Annotated[str, typer.Option(help="jpeg, or raw: ten times as large, without loss.")] = PREPARE.pictures,
    boxes: Annotated[str, typer.Option(help="auto, frame or ignore (docs/datasets.md).")] = PREPARE.boxes,
    held_out: Annotated[float, typer.Option(help="Share of the identities that only measure.")] = PREPARE.held_out,
    seed: Annotated[int, typer.Option(help="Draws who is held out.")] = PREPARE.seed,
    files_a_shard: Annotated[int, typer.Option(help="Files whose clips share a shard.")] = PREPARE.files_a_shard,
    prior: Annotated[list[str] | None, typer.Option(help="deep3d (pose), l2cs (gaze): read by your own files.")] = None,
    priors: Annotated[Path, typer.Option(help="Folder of those files.")] = PRIORS,
    workers: Annotated[int, typer.Option(min=0, help="Processes of this machine; 0: this one.")] = 0,
    on: Annotated[str | None, typer.Option("--ray", help="Address of a Ray cluster; local: one is started.")] = None,
) -> None:
    """Crop, hear and read people's videos into a set that training streams; again to go on after a kill."""
    setting = PrepareSetting(
        size=size, frames=frames, loose=loose, most=most, min_face=min_face, pictures=pictures, boxes=boxes,
        held_out=held_out, seed=seed, files_a_shard=files_a_shard, priors=tuple(sorted(set(prior or []))),
    )  # fmt: skip
    maker = in_processes(workers) if workers else None
    if on is not None:
        from trainer.ray_prepare import on_ray  # Ray takes seconds to load, and is not needed here

        maker = on_ray(on)
    try:
        if setting.priors:
            open_priors(setting.priors, priors)
        with bars() as shown:
            task = shown.add_task("files", total=None)
            report = prepare(
                source, out, setting, str(priors), lambda at, of: shown.update(task, completed=at, total=of), maker
            )
    except (Rejected, PriorMissing, Transient) as error:
        detail = f"{error.code}: {error.detail}" if isinstance(error, Rejected | Transient) else str(error)
        Console(stderr=True).print(detail, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    Console().print(markdown({**report, "dropped_files": []}), markup=False)
    Console().print(f"version {report['version']}", soft_wrap=True)


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
