"""Options that many commands share."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

Server = Annotated[
    str | None,
    typer.Option("--server", envvar="DUBFARM_URL", help="The farm's address; without it, the farm on this machine."),
]
Key = Annotated[
    str | None, typer.Option("--key", envvar="DUBFARM_KEY", help="API key; without it, the local farm's own.")
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable: JSON on standard output and nothing else.")]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data", envvar="DUBFARM_DATA", help="The embedded farm's folder.", show_default="~/.local/share/dubfarm"
    ),
]
TimeOut = Annotated[
    float | None, typer.Option("--timeout", min=0, metavar="SECONDS", help="Give up waiting (exit 4); work goes on.")
]


def in_utc(time: datetime) -> datetime:
    """A time given without a zone is UTC."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time
