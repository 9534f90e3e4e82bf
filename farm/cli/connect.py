"""Which farm a command talks to: the one named, else the one that runs here, else (dub, animate) one for the moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import update_wrapper
from inspect import Signature, signature
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from farm.cli import options
from farm.cli.exits import Exit, Failed
from farm.cli.terminal import terminal
from farm.client import Client
from farm.embedded import address

P = ParamSpec("P")


@dataclass(frozen=True)
class Target:
    url: str
    key: str


def target(server: str | None, key: str | None, data: Path | None = None) -> Target | None:
    """The named server, else the running embedded farm, else None. The local farm's key is sent to no other server."""
    local = address.running(data or address.default_data_dir())
    if server is None:
        return Target(local.url, key or local.key) if local else None
    if not server.startswith(("http://", "https://")):
        raise Failed(Exit.USAGE, "server_not_url", f"--server {server}: not an http:// or https:// address")
    url = server.rstrip("/")
    if key is None and local is not None and local.url == url:
        key = local.key
    if key is None:
        why = f"no API key for {url}"
        raise Failed(Exit.AUTH, "key_missing", why, fix="give it with --key or DUBFARM_KEY")
    return Target(url, key)


@contextmanager
def client(server: str | None, key: str | None, data: Path | None = None) -> Iterator[Client]:
    """A client of the named or running farm; Failed when there is none."""
    found = target(server, key, data)
    if found is None:
        raise Failed(
            Exit.SERVER,
            "no_farm",
            "no farm is running on this machine and no server is named",
            fix="start one in another terminal with: dubfarm up (or give --server and --key)",
        )
    with Client(found.url, found.key) as opened:
        yield opened


@contextmanager
def client_or_own_farm(server: str | None, key: str | None, data: Path | None = None) -> Iterator[Client]:
    """As `client`, but an embedded farm is started for the duration when there is none."""
    found = target(server, key, data)
    if found is not None:
        with Client(found.url, found.key) as opened:
            yield opened
        return
    from farm.embedded.farm import EmbeddedFarm

    folder = data or address.default_data_dir()
    terminal.note(f"no farm is running: starting one in {folder} for this job")
    own = EmbeddedFarm(folder, say=terminal.note)
    with own as started, Client(started.url, started.key) as opened:
        yield opened
        terminal.note("stopping the farm")


def connected(command: Callable[Concatenate[Client, P], None]) -> Callable[..., None]:
    """Makes a command of a function that takes a client: its own parameters, then --server, --key, --data and --json.

    Opening a client asks the farm nothing, so mistakes that the function finds by itself are told before any request.
    """

    def run(
        server: options.Server = None,
        key: options.Key = None,
        data: options.Data = None,
        json: options.Json = False,
        *args: P.args,
        **given: P.kwargs,
    ) -> None:
        terminal.begin(json)
        with client(server, key, data) as farm:
            command(farm, *args, **given)

    _, *own = signature(command, eval_str=True).parameters.values()
    server, key, data, json, *_ = signature(run, eval_str=True).parameters.values()
    made: Any = update_wrapper(run, command)
    made.__signature__ = Signature([*own, server, key, data, json])  # what typer reads
    return made
