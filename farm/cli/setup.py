"""`dubfarm setup`: outside services made ready for a farm."""

from __future__ import annotations

from typing import Annotated

import typer

from farm.cli import options
from farm.cli.exits import usage
from farm.cli.terminal import terminal


def setup(
    new_key: Annotated[bool, typer.Option("--new-key", help="Make an API key with all scopes and print it.")] = False,
    tenant: Annotated[str, typer.Option(help="Whose key it is.")] = "studio",
    json: options.Json = False,
) -> None:
    """Prepare the Postgres and the storage that DATABASE_URL and STORAGE_URL name: schema, bucket, first model.

    Does no harm when repeated: run it at every deployment. `dubfarm up` needs no setup.
    """
    terminal.begin(json)
    from farm.embedded import first_start
    from farm.settings import FarmSettings

    settings = FarmSettings()
    if missing := [name for name in ("database_url", "storage_url") if name not in settings.model_fields_set]:
        raise usage("services_not_named", f"set {' and '.join(name.upper() for name in missing)}")
    done = first_start.set_up(settings, terminal.note)
    key = first_start.new_key(settings, tenant) if new_key else None
    terminal.answer({"schema": "current", "champion": done.champion, "key": key})
    terminal.say(f"schema and storage are ready; champion: {done.champion or 'none yet'}")
    if done.champion is None:
        terminal.warn("register a model from a machine with dubfarm[workers]: dubfarm models import-official --promote")
    if key:
        terminal.say(key)
