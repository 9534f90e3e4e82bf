"""Many rows at once, through COPY: a batch of 10,000 items is some 30,000 of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, cast

import psycopg
from sqlalchemy import inspect
from sqlalchemy.exc import OperationalError

from farm.db.rows import Row
from farm.db.session import Session


def copy(session: Session, table: type[Row], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that name the same attributes, in the session's transaction. JSON columns take documents."""
    if not rows:
        return
    columns = inspect(table).columns
    names = list(rows[0])
    listed = ", ".join(f'"{columns[name].name}"' for name in names)
    command = f"COPY {table.__tablename__} ({listed}) FROM STDIN"
    driver = session.connection().connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    try:
        with driver.cursor() as cursor, cursor.copy(cast(Any, command)) as out:
            for row in rows:
                out.write_row([_plain(row[name]) for name in names])
    except psycopg.OperationalError as error:  # as SQLAlchemy raises it, for farm.db.session
        raise OperationalError("COPY", None, error) from error


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return json.dumps(value) if isinstance(value, dict | list) else value
