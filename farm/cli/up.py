"""`dubfarm up`: the embedded farm in the foreground."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Annotated

import typer

from farm.cli import options
from farm.cli.terminal import terminal
from farm.embedded import address


def up(
    data: options.Data = None,
    workers: Annotated[int, typer.Option(min=0, help="Render workers on this machine.")] = 1,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The API's port.", show_default="8700 if free")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; others than 127.0.0.1 open it to the net.")] = (
        "127.0.0.1"
    ),
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--files", help="Folder that file:// uris may name (repeat for more).", exists=True, file_okay=False
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Run the whole farm on this machine until Ctrl-C: Postgres, Valkey, API and workers, in one folder.

    DATABASE_URL, BROKER_URL and STORAGE_URL, where set, are used instead of own services. SIGHUP restarts every process
    in turn while the farm works.
    """
    terminal.begin(json)
    from farm.embedded.farm import EmbeddedFarm

    folder = data or address.default_data_dir()
    own = EmbeddedFarm(folder, workers=workers, host=host, port=port, file_roots=files or (), say=terminal.note)
    if host not in ("127.0.0.1", "localhost", "::1"):
        terminal.warn(f"listening on {host}: plain HTTP; put TLS before it when others can reach this network")
    # SIGTERM during the start ends it like Ctrl-C.
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.ExitStack() as stack:
            started = own.start()
            stack.callback(own.stop)
            signal.signal(signal.SIGTERM, earlier)
            terminal.answer({"url": started.url, "key": started.key, "data": own.data_dir, "pid": started.pid})
            terminal.say(f"[bold green]the farm is up[/bold green]: {started.url}/docs")
            terminal.say(f"  key   {started.key}")
            terminal.say(f"  data  {own.data_dir} (logs/ beside it all)")
            terminal.say("  a first dub, from another terminal:  dubfarm dub VIDEO AUDIO -o dubbed.mp4")
            terminal.say("  Ctrl-C stops it")
            own.wait()
    finally:
        signal.signal(signal.SIGTERM, earlier)
    terminal.note("stopped")
