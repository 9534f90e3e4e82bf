"""`dubfarm workers`: who renders, on what, how fast."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from farm.cli.connect import connected
from farm.cli.terminal import ago, terminal
from farm.client import Client


@connected
def workers(
    farm: Client,
    drain: Annotated[str | None, typer.Option(metavar="WORKER", help="Give this worker no more chunks.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="WORKER", help="Give it chunks again; ends a quarantine.")
    ] = None,
) -> None:
    """The workers, with device, model, current chunk and speed."""
    if drain:
        farm.drain_worker(drain)
    if resume:
        farm.resume_worker(resume)
    found = list(farm.workers())
    queues = farm.queues()
    terminal.answer({"workers": found, "queues": queues})
    now = datetime.now(UTC)
    rows = [
        (
            w.id,
            w.status,
            w.device,
            w.model_version or "",
            w.chunk_id or "",
            "" if w.frames_per_s is None else f"{w.frames_per_s:.1f} frames/s",
            ago(w.heartbeat_at, now),
            w.quarantine_reason or "",
        )
        for w in found
    ]
    terminal.table(("worker", "status", "device", "model", "chunk", "speed", "seen", "quarantine"), rows, "no workers")
    waiting = ", ".join(f"{q.name}: {q.waiting} waiting, {q.leased} running" for q in queues)
    if waiting:
        terminal.say(waiting)
