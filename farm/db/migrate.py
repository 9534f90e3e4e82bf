"""The schema, brought up to date."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Final

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError

from alembic import command
from farm.db.session import Database, driver_url, run

SCRIPTS: Final = Path(__file__).resolve().parents[2] / "alembic"
TRIES: Final = 50
LOCK_WAIT_MS: Final = 1000
_IN_USE: Final = frozenset({"55P03", "40P01"})
"""SQLSTATE of a lock that was not to be had in time, and of a deadlock."""
_TURN: Final = 7_273_001
"""Advisory lock that migrating processes wait for."""


def upgrade(url: str, revision: str = "head", scripts: Path = SCRIPTS) -> None:
    """Run the Alembic migrations; safe to call from several processes at once (they take turns), and while the farm
    works: a lock on a table that is in use is waited for only briefly, because everybody else queues behind it, and
    then all is tried again."""
    engine = create_engine(driver_url(url))
    try:
        for tries_left in reversed(range(TRIES)):
            try:
                with engine.begin() as connection:
                    connection.execute(text("select pg_advisory_xact_lock(:turn)"), {"turn": _TURN})
                    connection.execute(text(f"set local lock_timeout = {LOCK_WAIT_MS}"))
                    command.upgrade(config(connection, scripts), revision)
                return
            except OperationalError as error:
                if getattr(error.orig, "sqlstate", None) not in _IN_USE or not tries_left:
                    raise
                time.sleep(0.2)
    finally:
        engine.dispose()


def is_current(database: Database) -> bool:
    """Whether the database is at this code's newest revision, or at one that only newer code knows: migrations add, so
    that the old code runs on while a new one is rolled out. Raises Transient."""
    with database.transaction() as session:
        there = run(session, "select 1 where to_regclass('alembic_version') is not null", {})
        at = (
            {row.version_num for row in run(session, "select version_num from alembic_version", {})} if there else set()
        )
    known, newest = _revisions()
    return bool(at) and not (at & known) - newest


@cache
def _revisions() -> tuple[frozenset[str], frozenset[str]]:
    scripts = ScriptDirectory(str(SCRIPTS))
    return frozenset(script.revision for script in scripts.walk_revisions()), frozenset(scripts.get_heads())


def config(connection: Connection, scripts: Path = SCRIPTS) -> Config:
    """Alembic's configuration, bound to an open connection."""
    made = Config()
    made.set_main_option("script_location", str(scripts).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made
