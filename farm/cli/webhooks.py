"""`dubfarm webhooks …`: who is told what, and what became of it (docs/webhooks.md)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from farm.cli import options
from farm.cli.connect import connected
from farm.cli.exits import usage
from farm.cli.terminal import ago, terminal
from farm.client import Client, NewWebhook, WebhookEndpoint
from farm.domain.webhook import OFFERED, Topic

app = typer.Typer(
    help="Webhooks: endpoints and their deliveries (needs a key with the admin scope).", no_args_is_help=True
)
Endpoint = Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its id (whe_…).")]
Events = Annotated[
    list[Topic] | None,
    typer.Option("--event", help="An event to hear of; repeat for more.", show_default="all", case_sensitive=False),
]


def _events(topics: list[Topic] | None) -> list[str]:
    for topic in topics or ():
        if topic not in OFFERED:
            raise usage("event_not_offered", f"{topic.value} is sent by `dubfarm webhooks ping`, not subscribed to")
    return [topic.value for topic in topics or ()]


@app.command()
@connected
def create(
    farm: Client,
    url: Annotated[str, typer.Argument(help="Where messages are posted.")],
    event: Events = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
) -> None:
    """Have events posted to a url. Prints the secret that verifies them, this once."""
    _show_secret(farm.create_webhook(url, _events(event), description))


@app.command("list")
@connected
def list_(farm: Client) -> None:
    """Endpoints, and whether they are heard."""
    found = list(farm.webhooks())
    terminal.answer(found)
    now = datetime.now(UTC)
    rows = [
        (w.id, w.url, ", ".join(w.events) or "all", _state(w), ago(w.last_success_at, now) if w.last_success_at else "")
        for w in found
    ]
    terminal.table(("endpoint", "url", "events", "state", "heard"), rows, "no endpoints")


@app.command()
@connected
def change(
    farm: Client,
    endpoint: Endpoint,
    url: Annotated[str | None, typer.Option(help="A new address.")] = None,
    event: Events = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
) -> None:
    """Change what is given."""
    given = {"url": url, "events": _events(event) or None, "description": description}
    _change(farm, endpoint, {k: v for k, v in given.items() if v is not None})


@app.command()
@connected
def enable(farm: Client, endpoint: Endpoint) -> None:
    """Take deliveries up again; `replay --since` sends what was skipped."""
    _change(farm, endpoint, {"enabled": True})


@app.command()
@connected
def disable(farm: Client, endpoint: Endpoint) -> None:
    """Send nothing more to it for now; what happens is kept as skipped."""
    _change(farm, endpoint, {"enabled": False})


@app.command()
@connected
def delete(farm: Client, endpoint: Endpoint) -> None:
    """Remove it, with its delivery log."""
    farm.delete_webhook(endpoint)
    terminal.answer({"deleted": endpoint})
    terminal.say(f"{endpoint} is deleted")


@app.command("rotate-secret")
@connected
def rotate_secret(
    farm: Client,
    endpoint: Endpoint,
    overlap: Annotated[int, typer.Option(min=0, help="Seconds in which the old one signs too.")] = 86_400,
) -> None:
    """A new secret, printed this once."""
    _show_secret(farm.rotate_webhook_secret(endpoint, overlap))


@app.command()
@connected
def ping(farm: Client, endpoint: Endpoint) -> None:
    """Send it a ping event."""
    sent = farm.ping_webhook(endpoint)
    terminal.answer(sent)
    terminal.say(f"{sent.id} is on its way; look with: dubfarm webhooks deliveries {endpoint} {sent.id}")


@app.command()
@connected
def deliveries(
    farm: Client,
    endpoint: Endpoint,
    delivery: Annotated[
        str | None, typer.Argument(metavar="[DELIVERY]", help="One of them (whd_…), with its body and every try.")
    ] = None,
    status: Annotated[str | None, typer.Option(help="pending, delivered, failed or skipped.")] = None,
) -> None:
    """What became of every message of the last 30 days."""
    if delivery is not None:
        one = farm.webhook_delivery(endpoint, delivery)
        terminal.answer(one)
        terminal.say(f"{one.id} {one.event} [bold]{one.status}[/bold]")
        tries = [
            (t.number, f"{t.at:%Y-%m-%d %H:%M:%S}", t.status, f"{t.seconds:.2f} s", t.error, t.answer)
            for t in one.tries
        ]
        terminal.table(("try", "at (UTC)", "status", "took", "error", "answer"), tries, "not tried yet")
        return
    found = list(farm.webhook_deliveries(endpoint, status=status))
    terminal.answer(found)
    rows = [
        (d.id, d.event, d.status, d.attempts, d.last_status, d.last_error, f"{d.created_at:%Y-%m-%d %H:%M:%S}")
        for d in found
    ]
    terminal.table(("delivery", "event", "status", "tries", "answer", "error", "since (UTC)"), rows, "nothing yet")


@app.command()
@connected
def replay(
    farm: Client,
    endpoint: Endpoint,
    delivery: Annotated[str | None, typer.Argument(metavar="[DELIVERY]", help="One of them (whd_…).")] = None,
    since: Annotated[datetime | None, typer.Option(help="All that failed or was skipped since then (UTC).")] = None,
    delivered: Annotated[bool, typer.Option("--delivered", help="With --since: also what has arrived.")] = False,
) -> None:
    """Send messages again, under their old ids: one, or all since a time."""
    if (delivery is None) == (since is None):
        raise usage("replay_what", "name one delivery, or give --since TIME")
    if delivery is not None:
        sent = farm.replay_webhook(endpoint, delivery)
        terminal.answer(sent)
        terminal.say(f"{sent.id} is sent again")
        return
    assert since is not None
    count = farm.replay_webhooks(endpoint, options.in_utc(since), delivered=delivered)
    terminal.answer({"deliveries": count})
    terminal.say(f"{count} messages are sent again")


def _change(farm: Client, endpoint: str, changes: dict[str, object]) -> None:
    if not changes:
        raise usage("nothing_to_change", "say what is to change: --url, --event or --description")
    found = farm.change_webhook(endpoint, **changes)
    terminal.answer(found)
    terminal.say(f"{found.id} {found.url} {_state(found)}")


def _show_secret(made: NewWebhook) -> None:
    terminal.answer(made)
    terminal.say(made.secret)
    terminal.note(f"{made.endpoint.id} at {made.endpoint.url}; the secret is not shown again")


def _state(endpoint: WebhookEndpoint) -> str:
    return "enabled" if endpoint.enabled else f"disabled: {endpoint.disabled_reason}"
