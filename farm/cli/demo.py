"""`dubfarm demo`: a real batch through the whole farm, over HTTP, on material that comes with the package."""

from __future__ import annotations

import json as jsonlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from farm.cli import options, retrain, watch
from farm.cli.batches import download_all
from farm.cli.dubbing import tell_untrained
from farm.cli.exits import Exit, Failed
from farm.cli.media import Uploads, with_media
from farm.cli.retrained import tell
from farm.cli.terminal import plain, terminal
from farm.client import Client, Job

MATERIAL = Path(__file__).with_name("demo_material")


@dataclass(frozen=True)
class Designed:
    """An item of the demo, and how it is meant to end: None with a video, else with this error code."""

    item: dict[str, Any]
    why: str
    error: str | None = None


BATCH = (
    Designed(
        {"custom_id": "spanish-dub", "kind": "dub", "video": "actor.mp4", "audio": "voice_es.flac"},
        "an English clip gets a Spanish voice",
    ),
    Designed(
        {
            "custom_id": "short-voice-remapped",
            "kind": "dub",
            "video": "actor.mp4",
            "audio": "voice_en.flac",
            "sync_mode": "remap",
        },
        "a voice half as long: the video's time is bent to it",
    ),
    Designed(
        {"custom_id": "portrait-speaks", "kind": "animate", "image": "portrait.png", "audio": "voice_en.flac"},
        "one picture learns to speak",
    ),
    Designed(
        {"custom_id": "nobody-there", "kind": "dub", "video": "no_face.mp4", "audio": "voice_en.flac"},
        "a landscape: must be refused, and say why",
        error="no_face",
    ),
)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("demo-output"),
    data: Annotated[
        Path | None, typer.Option("--data", help="The demo farm's folder.", show_default="OUTPUT/farm")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Render workers.")] = 1,
    timeout: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Give up after this.")] = 900,
    again: Annotated[
        bool,
        typer.Option(
            "--retrain",
            help="Instead: a schedule fires, a run trains, its model is taken up, refused, rolled back. Ten minutes.",
        ),
    ] = False,
    json: options.Json = False,
) -> None:
    """Start the farm, submit a batch of four over HTTP, watch it, download the videos. About a minute."""
    terminal.begin(json)
    from farm.embedded.farm import EmbeddedFarm

    output.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    if again:
        retrain.require_trainer()
        farm = EmbeddedFarm(data or output / "farm", workers=workers, say=terminal.note)
        with farm as up, Client(up.url, up.key) as client:
            found = retrain.story(client, MATERIAL, timeout)
            terminal.note("stopping the farm")
        (output / "retrain.json").write_text(jsonlib.dumps(plain(found), indent=2) + "\n")
        terminal.answer(found)
        tell(found)
        terminal.say(f"report: {output / 'retrain.json'}")
        return
    own = EmbeddedFarm(data or output / "farm", workers=workers, say=terminal.note)
    with own as started, Client(started.url, started.key) as client:
        ready_s = time.monotonic() - began
        terminal.say(f"the farm is up at {started.url} after {ready_s:.1f} s; submitting {len(BATCH)} items")
        for designed in BATCH:
            terminal.say(f"  [bold]{designed.item['custom_id']}[/bold]  {designed.why}")
        put = Uploads(client, MATERIAL)
        sent = time.monotonic()
        batch = client.submit([with_media(designed.item, put) for designed in BATCH], name="demo")
        batch = watch.batch(client, batch.id, timeout)
        took_s = time.monotonic() - sent
        jobs = {job.custom_id: job for job in client.jobs(batch.id)}
        files = download_all(client, jobs.values(), output)
        versions = {job.model_version for job in jobs.values()}
        untrained = sum(tell_untrained(client, version) for version in versions) > 0
        report = _report(jobs, files, untrained, ready_s, took_s, client)
        terminal.note("stopping the farm")
    (output / "report.json").write_text(jsonlib.dumps(plain(report), indent=2) + "\n")
    terminal.answer(report)
    _tell(jobs, files, output, took_s)
    wrong = [d.item["custom_id"] for d in BATCH if not _as_designed(d, jobs.get(d.item["custom_id"]))]
    if wrong:
        why = f"not as designed: {', '.join(wrong)}; see {output / 'report.json'} and {own.logs}"
        raise Failed(Exit.FAILED_JOB, "demo_failed", why)


def _as_designed(designed: Designed, job: Job | None) -> bool:
    if job is None:
        return False
    if designed.error is None:
        return job.status == "succeeded"
    return job.status == "failed" and job.error is not None and job.error.code == designed.error


def _report(
    jobs: dict[str, Job], files: dict[str, Path], untrained: bool, ready_s: float, took_s: float, client: Client
) -> dict[str, Any]:
    versions = {job.model_version for job in jobs.values() if job.model_version}
    names = {version: client.version(version).name for version in versions}
    items: list[dict[str, Any]] = []
    for designed in BATCH:
        job = jobs[designed.item["custom_id"]]
        items.append(
            {
                "custom_id": job.custom_id,
                "kind": job.kind,
                "status": job.status,
                "as_designed": _as_designed(designed, job),
                "output": files.get(job.custom_id),
                "frames": job.output.frames if job.output else None,
                "duration_s": job.output.duration_s if job.output else None,
                "seconds": (job.finished_at - job.created_at).total_seconds() if job.finished_at else None,
                "error": job.error,
                "model_version": job.model_version,
                "model": names.get(job.model_version or ""),
            }
        )
    return {"items": items, "model_trained": not untrained, "start_s": round(ready_s, 1), "batch_s": round(took_s, 1)}


def _tell(jobs: dict[str, Job], files: dict[str, Path], output: Path, took_s: float) -> None:
    rows: list[tuple[object, ...]] = []
    for designed in BATCH:
        job = jobs[designed.item["custom_id"]]
        end = files.get(job.custom_id) or (f"{job.error.code}: {job.error.detail}" if job.error else "")
        meant = "" if designed.error is None else " (as meant)" if _as_designed(designed, job) else ""
        rows.append((job.custom_id, f"{job.status}{meant}", job.output.frames if job.output else "", end))
    terminal.table(("item", "status", "frames", "result"), rows, "")
    terminal.say(f"the batch took {took_s:.1f} s; report: {output / 'report.json'}")
