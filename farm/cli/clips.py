"""`dubfarm train clips`: the source videos that may be trained on, as a folder that the trainer prepares."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from farm.cli.connect import connected
from farm.cli.exits import usage
from farm.cli.terminal import plain, terminal
from farm.client import ApiError, Client
from farm.client.answers import ConsentedClip

LIST: Final = "consented.json"
"""Which videos lie in the folder, and by whose word. It makes the folder this command's own."""


@connected
def export(
    farm: Client,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="New, empty, or of an earlier call.", file_okay=False)
    ],
) -> None:
    """Bring the source videos of finished dubs whose people consented to training; take out those that no longer may
    be. Then: python -m trainer prepare FOLDER --out SET."""
    _check(folder)
    wanted: dict[str, list[ConsentedClip]] = {}
    for clip in farm.training.clips():
        wanted.setdefault(clip.source.sha256, []).append(clip)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / LIST).exists():
        _write(folder, {})
    removed = _take_out(folder, wanted)
    fetched = [sha256 for sha256, clips in sorted(wanted.items()) if _bring(farm, folder, clips)]
    there = {sha256: clips for sha256, clips in wanted.items() if _path(folder, sha256).exists()}
    _write(folder, there)
    terminal.answer({"folder": folder, "clips": len(there), "fetched": len(fetched), "removed": removed})
    terminal.say(f"{len(there)} videos in {folder}: {len(fetched)} new, {removed} taken out")


def _check(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()) and not (folder / LIST).is_file():
        raise usage("folder_not_empty", f"{folder} holds other files: name a new folder, or one that this command made")


def _path(folder: Path, sha256: str) -> Path:
    """VoxCeleb2's layout. Nobody knows who is in a video: each counts as a person of its own."""
    return folder / "mp4" / sha256[:32] / "source" / "00001.mp4"


def _take_out(folder: Path, wanted: Mapping[str, object]) -> int:
    """Whatever is there and may not be, also of a call that was killed."""
    may_stay = {sha256[:32] for sha256 in wanted}
    gone = [there for there in (folder / "mp4").glob("*") if there.name not in may_stay]
    for there in gone:
        shutil.rmtree(there)
    return len(gone)


def _bring(farm: Client, folder: Path, clips: Sequence[ConsentedClip]) -> bool:
    """False where it is there already, or may be brought no more."""
    source = clips[0].source
    path = _path(folder, source.sha256)
    if path.exists() and path.stat().st_size == source.size_bytes:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with terminal.transfer() as bar:
            task = bar.add_task(f"fetching {source.sha256[:8]}")
            farm.training.fetch_clip(
                clips[0], path, progress=lambda done, total: bar.update(task, completed=done, total=total)
            )
    except ApiError as error:
        if error.status != 404:  # withdrawn since it was listed
            raise
        shutil.rmtree(path.parent.parent)
        return False
    return True


def _write(folder: Path, there: Mapping[str, Sequence[ConsentedClip]]) -> None:
    listed = [
        {"file": str(_path(folder, sha256).relative_to(folder)), "sha256": sha256, "consents": plain(clips)}
        for sha256, clips in sorted(there.items())
    ]
    making = folder / f"{LIST}.part"
    making.write_text(json.dumps(listed, indent=2, ensure_ascii=False) + "\n")
    making.replace(folder / LIST)
