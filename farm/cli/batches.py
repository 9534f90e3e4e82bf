"""`dubfarm batch …`: many items at once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from farm.cli import manifest as manifests
from farm.cli import options, watch
from farm.cli.connect import connected
from farm.cli.dubbing import download as download_one
from farm.cli.exits import Exit, Failed
from farm.cli.media import Uploads, with_media
from farm.cli.terminal import ago, terminal
from farm.client import Batch, Client, Job

app = typer.Typer(help="Batches: submit a manifest, watch, cancel, download.", no_args_is_help=True)
BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="The batch's id (bat_…).")]
Limit = Annotated[int, typer.Option(min=1, help="How many at most.")]
Status = Annotated[str | None, typer.Option(help="Only those with this status.")]


@app.command()
@connected
def submit(
    farm: Client,
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST.jsonl", help="An item a line; - reads standard input.")],
    name: Annotated[str | None, typer.Option(help="A name to find it by.")] = None,
    priority: Annotated[int, typer.Option(min=0, max=100, help="Higher goes first.")] = 50,
    model: Annotated[str, typer.Option(help="Model alias, version name or version id.")] = "champion",
    wait: Annotated[bool, typer.Option("--wait", help="Stay until it is over; exit 1 when a job failed.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="With --wait: download the results here.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and estimate only; nothing is stored.")] = False,
    timeout: options.TimeOut = None,
) -> None:
    """Upload the manifest's local files and submit its items as one batch."""
    if str(manifest) != "-" and not manifest.is_file():
        raise Failed(Exit.USAGE, "file_missing", f"there is no file {manifest}")
    items, folder = manifests.read(manifest)
    put = Uploads(farm, folder)
    placed = [with_media(item, put) for item in items]
    if dry_run:
        estimate = farm.estimate(placed, name=name, priority=priority, model=model)
        terminal.answer(estimate)
        cost = ""
        if estimate.worker_s is not None and estimate.finish_s is not None:
            cost = f"; about {estimate.worker_s:.0f} s of worker time, over {estimate.finish_s:.0f} s after submitting"
        terminal.say(f"{estimate.items} items are right{cost}")
        terminal.say(f"  {estimate.basis}")
        return
    batch = farm.submit(placed, name=name or manifest.stem, priority=priority, model=model)
    if not wait:
        terminal.answer(batch)
        terminal.say(f"{batch.id} ({batch.counts.total} jobs); follow it with: dubfarm batch watch {batch.id}")
        return
    terminal.note(f"{batch.id}: {batch.counts.total} jobs")
    batch = watch.batch(farm, batch.id, timeout)
    _finish(farm, batch, output)


@app.command("list")
@connected
def list_(farm: Client, status: Status = None, limit: Limit = 20) -> None:
    """Batches, newest first."""
    found = _first(farm.batches(status=status), limit)
    terminal.answer(found)
    now = datetime.now(UTC)
    rows = [
        (b.id, b.name or "", b.status, f"{b.progress:.0%}", _counts(b), b.priority, ago(b.created_at, now))
        for b in found
    ]
    terminal.table(("batch", "name", "status", "done", "jobs", "priority", "created"), rows, "no batches yet")


@app.command()
@connected
def show(farm: Client, batch: BatchId) -> None:
    """A batch and its jobs."""
    found = farm.batch(batch)
    jobs = list(farm.jobs(batch))
    terminal.answer({"batch": found, "jobs": jobs})
    show_batch(found, jobs)


@app.command("watch")
@connected
def watch_(farm: Client, batch: BatchId, timeout: options.TimeOut = None) -> None:
    """Live progress until the batch is over (with --json: an event a line). Exit 1 when a job failed."""
    found = watch.batch(farm, batch, timeout, lines=True)
    jobs = list(farm.jobs(batch))
    show_batch(found, jobs)
    if not _all_succeeded(found):
        raise typer.Exit(Exit.FAILED_JOB)


@app.command()
@connected
def cancel(farm: Client, batch: BatchId) -> None:
    """Cancel every job that is not over yet."""
    _tell(farm.cancel_batch(batch))


@app.command()
@connected
def delete(farm: Client, batch: BatchId) -> None:
    """Erase the media of all its jobs for good, once they have ended; their rows stay."""
    _tell(farm.delete_batch(batch))


@app.command()
@connected
def pause(farm: Client, batch: BatchId) -> None:
    """Give its chunks back and hand out no more until resumed."""
    _tell(farm.pause_batch(batch))


@app.command()
@connected
def resume(farm: Client, batch: BatchId) -> None:
    """Go on after a pause."""
    _tell(farm.resume_batch(batch))


@app.command()
@connected
def retry(farm: Client, batch: BatchId) -> None:
    """Run its failed jobs again; finished chunks are kept."""
    _tell(farm.retry_failed(batch))


@app.command()
@connected
def priority(
    farm: Client, batch: BatchId, value: Annotated[int, typer.Argument(metavar="PRIORITY", min=0, max=100)]
) -> None:
    """Change the priority; it counts at once."""
    _tell(farm.set_batch_priority(batch, value))


@app.command()
@connected
def download(
    farm: Client,
    batch: BatchId,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files.")] = Path(),
) -> None:
    """Every finished file of the batch, as CUSTOM_ID.mp4."""
    _finish(farm, farm.batch(batch), output, partly=True)


def _tell(found: Batch) -> None:
    terminal.answer(found)
    terminal.say(f"{found.id} {found.status}: {_counts(found)}")


def _finish(farm: Client, batch: Batch, output: Path | None, partly: bool = False) -> None:
    """Download where asked, tell, and end with 1 when something failed (`partly`: when nothing could be downloaded)."""
    jobs = list(farm.jobs(batch.id))
    files = download_all(farm, jobs, output) if output is not None else {}
    terminal.answer({"batch": batch, "jobs": jobs, "files": files})
    show_batch(batch, jobs)
    for path in files.values():
        terminal.say(f"  {path}")
    if (not files) if partly else (not _all_succeeded(batch)):
        raise typer.Exit(Exit.FAILED_JOB)


def download_all(farm: Client, jobs: Iterable[Job], folder: Path) -> dict[str, Path]:
    """custom_id -> file, for the jobs that succeeded."""
    files: dict[str, Path] = {}
    for job in jobs:
        if job.output is not None:
            path = folder / f"{file_name(job.custom_id)}.mp4"
            # Two ids may differ only in what a file name cannot hold.
            files[job.custom_id] = path.with_stem(f"{path.stem}-{job.id}") if path in files.values() else path
            download_one(farm, job, files[job.custom_id])
    return files


def file_name(custom_id: str) -> str:
    """A custom id as a plain file name: whatever it holds, the file lands in the folder asked for."""
    kept = "".join(c if c.isalnum() or c in "-_. " else "_" for c in custom_id).strip(". ")
    return kept[:120] or "output"


def show_batch(batch: Batch, jobs: Iterable[Job]) -> None:
    terminal.say(f"{batch.id} {escape(batch.name or '')} [bold]{batch.status}[/bold]: {_counts(batch)}")
    rows = [(j.id, j.custom_id, j.kind, j.status, frames(j), j.error.detail if j.error else "") for j in jobs]
    terminal.table(("job", "item", "kind", "status", "frames", "reason"), rows, "no jobs")


def frames(job: Job) -> str:
    return f"{job.progress.frames_done}/{job.progress.frames_total}" if job.progress.frames_total else ""


def _counts(batch: Batch) -> str:
    c = batch.counts
    words = ("succeeded", "failed", "canceled", "running", "queued")
    return ", ".join(f"{getattr(c, word)} {word}" for word in words if getattr(c, word)) or f"{c.total} jobs"


def _all_succeeded(batch: Batch) -> bool:
    return batch.counts.succeeded == batch.counts.total


def _first(batches: Iterable[Batch], limit: int) -> list[Batch]:
    return [batch for _, batch in zip(range(limit), batches, strict=False)]
