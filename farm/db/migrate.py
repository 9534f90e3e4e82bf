"""The schema, brought up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text

from alembic import command
from farm.db.session import driver_url

SCRIPTS: Final = Path(__file__).resolve().parents[2] / "alembic"
_TURN: Final = 7_273_001
"""Advisory lock that migrating processes wait for."""


def upgrade(url: str, revision: str = "head") -> None:
    """Run the Alembic migrations; safe to call from several processes at once (they take turns)."""
    engine = create_engine(driver_url(url))
    try:
        with engine.begin() as connection:
            connection.execute(text("select pg_advisory_xact_lock(:turn)"), {"turn": _TURN})
            command.upgrade(config(connection), revision)
    finally:
        engine.dispose()


def is_current(url: str) -> bool:
    """Whether the database is at the newest revision (for /readyz)."""
    engine = create_engine(driver_url(url))
    try:
        with engine.connect() as connection:
            heads = MigrationContext.configure(connection).get_current_heads()
    finally:
        engine.dispose()
    return set(heads) == set(ScriptDirectory(str(SCRIPTS)).get_heads())


def config(connection: Connection) -> Config:
    """Alembic's configuration, bound to an open connection."""
    made = Config()
    made.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made
