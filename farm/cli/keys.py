"""`dubfarm keys …`: API keys of your tenant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from farm.cli.connect import connected
from farm.cli.exits import usage
from farm.cli.terminal import terminal
from farm.client import Client, Key
from farm.domain.tenant import Scope

app = typer.Typer(help="API keys: make, list, revoke (needs a key with the admin scope).", no_args_is_help=True)


@app.command()
@connected
def create(
    farm: Client,
    name: Annotated[str, typer.Argument(help="Who or what it is for.")],
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What it may do; repeat for more.", show_default="submit and read")
    ] = None,
    days: Annotated[float | None, typer.Option(min=0, help="It expires after so many days.")] = None,
    tenant: Annotated[
        str | None, typer.Option(metavar="TENANT", help="For another tenant (ten_…), where yours runs the farm.")
    ] = None,
) -> None:
    """Make a key. It is shown this once; the farm keeps only its hash."""
    scopes = [s.value for s in scope or (Scope.SUBMIT, Scope.READ)]
    until = None if days is None else datetime.now(UTC) + timedelta(days=days)
    made = farm.create_key(name, scopes, expires_at=until, tenant_id=tenant)
    terminal.answer(made)
    terminal.say(made.secret)
    terminal.note(f"{made.key.id}, scopes {', '.join(made.key.scopes)}; it is not shown again")


def _end(key: Key) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "" if key.expires_at is None else f"until {key.expires_at:%Y-%m-%d %H:%M}"


@app.command("list")
@connected
def list_(farm: Client) -> None:
    """Keys by their public prefix."""
    found = list(farm.keys())
    terminal.answer(found)
    rows = [(k.id, k.name, k.prefix, ", ".join(k.scopes), f"{k.created_at:%Y-%m-%d}", _end(k)) for k in found]
    terminal.table(("key", "name", "prefix", "scopes", "created", ""), rows, "no keys")


@app.command()
@connected
def revoke(
    farm: Client, which: Annotated[str, typer.Argument(metavar="KEY", help="Its id (key_…) or public prefix.")]
) -> None:
    """End a key at once."""
    found = next((made for made in list(farm.keys()) if which in (made.id, made.prefix)), None)
    if found is None:
        raise usage("key_unknown", f"no key {which}; dubfarm keys list shows them")
    farm.revoke_key(found.id)
    terminal.answer({"revoked": found.id})
    terminal.say(f"{found.name} ({found.prefix}) is revoked")
