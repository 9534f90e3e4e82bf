"""`dubfarm job …`: one item of a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from farm.cli import options, watch
from farm.cli.batches import file_name, frames
from farm.cli.connect import connected
from farm.cli.dubbing import download as download_one
from farm.cli.dubbing import failure
from farm.cli.exits import usage
from farm.cli.terminal import terminal
from farm.client import Chunk, Client, Job

app = typer.Typer(help="Jobs: what became of one item.", no_args_is_help=True)
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id (job_…).")]


@app.command("list")
@connected
def list_(
    farm: Client,
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="The batch's id (bat_…).")],
    status: Annotated[str | None, typer.Option(help="Only those with this status.")] = None,
) -> None:
    """The jobs of a batch."""
    found = list(farm.jobs(batch, status=status))
    terminal.answer(found)
    rows = [(j.id, j.custom_id, j.kind, j.status, j.phase or "", frames(j), _reason(j)) for j in found]
    terminal.table(("job", "item", "kind", "status", "phase", "frames", "reason"), rows, "no jobs")


@app.command()
@connected
def show(farm: Client, job: JobId) -> None:
    """A job with its chunks and their attempts."""
    found = farm.job(job)
    chunks = list(farm.chunks(job))
    terminal.answer({"job": found, "chunks": chunks})
    terminal.say(f"{found.id} {escape(found.custom_id)} ({found.kind}) [bold]{found.status}[/bold] {frames(found)}")
    if reason := _reason(found):
        terminal.say(f"  {escape(reason)}")
    if found.output:
        terminal.say(f"  {found.output.frames} frames, {found.output.duration_s:.2f} s, {escape(found.output.uri)}")
    if found.scores:
        terminal.say("  scores: " + ", ".join(f"{name} {value:.3g}" for name, value in sorted(found.scores.items())))
    if found.flags:
        terminal.say(f"  [yellow]beyond the limits of quality: {', '.join(found.flags)}[/yellow]")
    rows = [(c.work, f"{c.start}-{c.stop}", c.status, len(c.attempts), _last_attempt(c)) for c in chunks]
    terminal.table(("work", "frames", "status", "attempts", "last attempt"), rows, "not planned yet")


@app.command("watch")
@connected
def watch_(farm: Client, job: JobId, timeout: options.TimeOut = None) -> None:
    """Live progress until the job is over (with --json: an event a line). Exit 1 when it did not succeed."""
    found = watch.job(farm, job, timeout, lines=True)
    if found.status != "succeeded":
        raise failure(found)
    terminal.say(f"{found.id} succeeded; get it with: dubfarm job download {found.id}")


@app.command()
@connected
def logs(
    farm: Client,
    job: JobId,
    chunk: Annotated[str | None, typer.Option(help="Only of this chunk (chk_…).")] = None,
    attempt: Annotated[int | None, typer.Option(min=1, help="Only of attempts with this number.")] = None,
) -> None:
    """What workers logged about its chunks, attempt by attempt."""
    found = farm.job_logs(job, chunk_id=chunk, attempt=attempt)
    terminal.answer({"job": job, "logs": found})
    terminal.say(escape(found.rstrip("\n")) or "no attempts yet")


@app.command()
@connected
def cancel(farm: Client, job: JobId) -> None:
    """Cancel it."""
    _tell(farm.cancel_job(job))


@app.command()
@connected
def delete(farm: Client, job: JobId) -> None:
    """Erase its media for good, once it has ended; its row stays."""
    _tell(farm.delete_job(job))


@app.command()
@connected
def retry(farm: Client, job: JobId) -> None:
    """Run a failed job again; finished chunks are kept."""
    _tell(farm.retry_job(job))


@app.command()
@connected
def download(
    farm: Client,
    job: JobId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File or folder.", show_default="CUSTOM_ID.mp4 here")
    ] = None,
) -> None:
    """The finished file, checked by its SHA-256; goes on where a cut-off download stopped."""
    found = farm.job(job)
    if found.output is None:
        if found.is_terminal:
            raise failure(found)
        terminal.note(f"{job} is {found.status}; waiting is: dubfarm job watch {job}")
    name = f"{file_name(found.custom_id)}.mp4"
    dest = Path(name) if output is None else output / name if output.is_dir() else output
    download_one(farm, found, dest)
    terminal.answer({"job": found, "path": dest.resolve()})
    terminal.say(escape(str(dest)))


@app.command()
@connected
def consent(
    farm: Client,
    job: JobId,
    statement: Annotated[str | None, typer.Option(help="Who agreed to what, when.")] = None,
    reference: Annotated[str | None, typer.Option(help="Where the evidence is.")] = None,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="It no longer holds.")] = False,
) -> None:
    """Consent to training on a dub's source video: show it, give it (--statement), or take it back."""
    if withdraw and statement is not None:
        raise usage("consent_ambiguous", "--statement gives consent, --withdraw takes it back: not both")
    if reference is not None and statement is None:
        raise usage("statement_missing", "a reference needs --statement: who agreed to what, when")
    if statement is not None:
        found = farm.consent_to_training(job, statement, reference)
    else:
        found = farm.withdraw_consent(job) if withdraw else farm.training_consent(job)
    terminal.answer(found)
    terminal.say(f"{job}: {escape(found.statement)} ({found.given_at:%F %T} UTC)")
    if found.withdrawn_at is not None:
        terminal.say(f"  [yellow]withdrawn {found.withdrawn_at:%F %T} UTC[/yellow]")


def _tell(found: Job) -> None:
    terminal.answer(found)
    terminal.say(f"{found.id} {found.status}")


def _reason(job: Job) -> str:
    return job.error.detail if job.error else job.waiting_reason or ""


def _last_attempt(chunk: Chunk) -> str:
    if not chunk.attempts:
        return ""
    last = chunk.attempts[-1]
    return " ".join(part for part in (last.worker_id, last.reason, last.code, last.detail) if part)
