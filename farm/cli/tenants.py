"""`dubfarm tenants …`, `dubfarm usage`: who may have how much of the farm."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from farm.cli.connect import connected
from farm.cli.exits import usage as misuse
from farm.cli.terminal import terminal
from farm.client import Client, Tenant, Usage

app = typer.Typer(
    help="Tenants and their limits (needs an admin key of the tenant that runs the farm).", no_args_is_help=True
)

NO_LIMIT = "none"
LIMITS = {
    "weight": float,
    "max_in_flight": int,
    "rate.per_s": float,
    "rate.burst": int,
    "quotas.jobs_open": int,
    "quotas.frames_month": int,
    "quotas.storage_bytes": int,
    "retention.chunks": float,
    "retention.previews": float,
    "retention.outputs": float,
    "retention.assets": float,
    "retention.uploads": float,
}
Limits = Annotated[
    list[str] | None,
    typer.Argument(metavar="LIMIT=VALUE…", help=f"{', '.join(LIMITS)}; {NO_LIMIT} takes a limit away."),
]
Which = Annotated[str, typer.Argument(metavar="TENANT", help="Its id (ten_…) or name.")]


def limits_of(words: list[str]) -> dict[str, Any]:
    """`quotas.jobs_open=100 weight=2` as the API's body."""
    body: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or name not in LIMITS:
            raise misuse("limit_unknown", f"{word}: give NAME=VALUE with one of {', '.join(LIMITS)}")
        try:
            value = None if text == NO_LIMIT else LIMITS[name](text)
        except ValueError:
            raise misuse("limit_not_a_number", f"{word}: {text!r} is not a number") from None
        group, dot, inner = name.partition(".")
        if dot:
            body.setdefault(group, {})[inner] = value
        else:
            body[group] = value
    if "rate" in body and None in body["rate"].values():
        body["rate"] = None
    return body


@app.command("list")
@connected
def list_(farm: Client) -> None:
    """Tenants with their limits."""
    found = list(farm.tenants())
    terminal.answer(found)
    rows = [
        (t.id, t.name, f"{t.weight:g}", _number(t.max_in_flight), _number(t.quotas.jobs_open),
         _number(t.quotas.frames_month), _number(t.quotas.storage_bytes), "runs the farm" if t.is_operator else "")
        for t in found
    ]  # fmt: skip
    terminal.table(("tenant", "name", "weight", "in flight", "jobs", "frames/month", "bytes", ""), rows, "no tenants")


@app.command()
@connected
def create(farm: Client, name: Annotated[str, typer.Argument(help="Who it is.")], limits: Limits = None) -> None:
    """Make a tenant; `dubfarm keys create NAME --tenant TENANT` then lets it in."""
    made = farm.create_tenant(name, limits_of(limits or []))
    terminal.answer(made)
    terminal.say(made.id)


@app.command("set")
@connected
def set_(farm: Client, which: Which, limits: Limits = None) -> None:
    """Change limits; what is not named stays as it is (of retention, the whole is set anew)."""
    body = limits_of(limits or [])
    changed = farm.set_tenant(_tenant(farm, which).id, body)
    terminal.answer(changed)
    terminal.say(f"{changed.name}: {', '.join(limits or []) or 'nothing changed'}")


@app.command()
@connected
def show(farm: Client, which: Which) -> None:
    """A tenant's limits and what of them it has used."""
    tenant = _tenant(farm, which)
    used = farm.usage(tenant.id)
    terminal.answer({"tenant": tenant, "usage": used})
    _show(used)


@connected
def usage(farm: Client) -> None:
    """What your tenant has used of its quotas."""
    used = farm.usage()
    terminal.answer(used)
    _show(used)


def _show(found: Usage) -> None:
    rows = [
        ("jobs not ended", f"{found.used.jobs_open}", _number(found.quotas.jobs_open)),
        (f"frames since {found.month:%Y-%m-%d}", f"{found.used.frames_month}", _number(found.quotas.frames_month)),
        ("bytes stored", f"{found.used.storage_bytes}", _number(found.quotas.storage_bytes)),
    ]
    terminal.table(("", "used", "quota"), rows, "")


def _number(limit: int | None) -> str:
    return "-" if limit is None else str(limit)


def _tenant(farm: Client, which: str) -> Tenant:
    found = next((tenant for tenant in farm.tenants() if which in (tenant.id, tenant.name)), None)
    if found is None:
        raise misuse("tenant_unknown", f"no tenant {which}; dubfarm tenants list shows them")
    return found
