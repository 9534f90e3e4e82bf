"""`dubfarm audit`: who did what."""

from __future__ import annotations

import json
from datetime import datetime
from itertools import islice
from typing import Annotated

import typer

from farm.cli import options
from farm.cli.connect import connected
from farm.cli.terminal import terminal
from farm.client import Client


@connected
def audit(
    farm: Client,
    action: Annotated[str | None, typer.Option(help="One (batch.paused) or a family (batch).")] = None,
    subject: Annotated[str | None, typer.Option(help="The id of what was acted on.")] = None,
    since: Annotated[datetime | None, typer.Option(help="At or after this time (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Before this time (UTC).")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many entries, the newest.")] = 100,
) -> None:
    """Who did what to keys, batches, versions, workers and webhooks (needs a key with the admin scope)."""
    start, end = since and options.in_utc(since), until and options.in_utc(until)
    found = list(islice(farm.audit(action=action, subject=subject, since=start, until=end), limit))
    terminal.answer(found)
    rows = [
        (
            f"{e.at:%Y-%m-%d %H:%M:%S}",
            e.actor.name,
            e.action,
            e.subject,
            json.dumps(dict(e.detail)) if e.detail else "",
        )
        for e in found
    ]
    terminal.table(("at (UTC)", "who", "did", "to", "detail"), rows, "nothing yet")
